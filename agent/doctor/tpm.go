// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cellward/cellward/crypto/tpm"
)

// tpmState is what the checks of the TPM share.
type tpmState struct {
	path   string
	health *tpm.Health // nil: it does not answer
}

// device is what is looked at: the file behind the path.
func (s *tpmState) device() string { return strings.TrimPrefix(s.path, "unix:") }

func tpmPresent(x *exam) {
	s := &tpmState{path: x.gateway().TPM}
	x.tpm = s
	health, err := x.m.TPM(x.ctx, s.path, nil)
	const why = "the gateway's keys are in the TPM: without it the agent does not start"
	switch {
	case err == nil:
		s.health = health
		x.ok(s.path, "TPM 2.0 of %s %s, firmware %x", health.Manufacturer, health.Vendor, health.Firmware)
	case errors.Is(err, tpm.ErrAbsent):
		x.fail(s.path, err.Error(), why, "ls -l /dev/tpm* "+s.device())
	case errors.Is(err, tpm.ErrPermission):
		x.fail(s.path, err.Error(), why, x.asRoot())
	case errors.Is(err, tpm.ErrNotTPM2):
		x.fail(s.path, err.Error(), why+"; a TPM 1.2 has none of what is needed", "tpm2_getcap -T device:"+s.device()+" properties-fixed")
	case errors.Is(err, tpm.ErrBusy), errors.Is(err, tpm.ErrTimeout):
		x.fail(s.path, err.Error(), "another process holds it; "+why, "fuser -v "+s.device())
	case errors.Is(err, tpm.ErrReset):
		x.warn(s.path, err.Error(), "after a reset of the TPM alone its sessions are gone; the agent starts an emulator, the kernel a device",
			"cellward keys list --policy "+x.opts.Policy+" --binding "+x.opts.Binding)
	case errors.Is(err, tpm.ErrFailure):
		x.fail(s.path, err.Error(), why, "systemctl poweroff")
	case errors.Is(err, tpm.ErrSRK):
		x.fail(s.path, err.Error(), "other software has put its key where the storage root key belongs", "tpm2_readpublic -c 0x81000001")
	default:
		x.fail(s.path, err.Error(), why, "dmesg | grep -i tpm")
	}
}

func tpmPinned(x *exam) {
	s := x.tpm
	dir, there := x.stateThere()
	if s.health == nil || !there {
		return
	}
	path := filepath.Join(dir, srkFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return // there is no identity either, and state.folder has said so
	}
	if err != nil {
		x.unknown(path, err, x.asRoot())
		return
	}
	pin, err := tpm.ParseName(strings.TrimSpace(string(b)))
	if err != nil {
		x.fail(path, err.Error(), "the agent cannot tell its TPM from another and does not start", "xxd "+path)
		return
	}
	switch {
	case s.health.SRKName == nil:
		x.fail(s.path, "it has no storage root key, and the state folder was made with one", "it was cleared, or is another TPM: nothing of the state opens",
			"tpm2_getcap handles-persistent")
	case s.health.SRKName.String() != pin.String():
		x.fail(s.path, fmt.Sprintf("its storage root key is %.12s…, the state folder was made with %.12s…", s.health.SRKName, pin),
			"it was cleared, or is another TPM: nothing of the state opens", "cat "+path)
	default:
		x.ok(s.path, "storage root key %.12s…", s.health.SRKName)
	}
}

func tpmLockout(x *exam) {
	s := x.tpm
	if s.health == nil {
		return
	}
	l := s.health.Lockout
	if s.health.Locked {
		x.warn(s.path, fmt.Sprintf("it is in dictionary attack lockout: %d of %d failures, one is forgiven every %v", l.Failures, l.Limit, l.Interval),
			"cellward's keys are exempt, but somebody guesses passwords on this TPM, and its owner cannot make keys", "tpm2_dictionarylockout --clear-lockout")
		return
	}
	x.ok(s.path, "%d of %d failures", l.Failures, l.Limit)
}

func tpmSlots(x *exam) {
	s := x.tpm
	if s.health == nil {
		return
	}
	raw := strings.HasPrefix(s.path, "/dev/tpm") && !s.health.Managed
	switch n := s.health.Objects + s.health.Sessions; {
	case raw:
		x.warn(s.path, "the device has no resource manager", "one process at a time can use it, and what a killed one leaves fills its slots",
			"ls -l "+strings.Replace(s.path, "tpm", "tpmrm", 1))
	case n > 0 && !s.health.Managed:
		x.warn(s.path, fmt.Sprintf("%d objects and %d sessions lie in its slots", s.health.Objects, s.health.Sessions),
			"a TPM has three slots of each; the agent flushes what others leave", "tpm2_flushcontext -t && tpm2_flushcontext -l")
	default:
		x.ok(s.path, "%d in use", n)
	}
}

func tpmCurve(x *exam) {
	s := x.tpm
	if s.health == nil {
		return
	}
	if s.health.P384 {
		x.ok(s.path, "P-384")
		return
	}
	x.warn(s.path, "it has no P-384", "keys are made on P-256: 128 bits of security instead of 192", "tpm2_getcap ecc-curves")
}
