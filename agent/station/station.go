// SPDX-License-Identifier: Apache-2.0

// Package station opens what a gateway or a node has of its own: its state folder, its TPM (or, on a node without one, a
// software key), its identity key and its vault.
//
// It may import agent/vault and crypto/...
package station

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cellward/cellward/agent/vault"
	"github.com/cellward/cellward/crypto/identity"
	"github.com/cellward/cellward/crypto/tpm"
)

// Files of a state folder, besides the vault's.
const (
	identityFile = "identity.pem"
	srkFile      = "srk-name"
	softwareFile = "software.key"
)

// Names of the vaults in a state folder.
const (
	vaultName   = "epochs"
	offlineName = "offline"
)

var (
	// ErrNotInitialised says that the folder has no identity yet.
	ErrNotInitialised = errors.New("state folder has no identity: run `cellward keys init`")
	// ErrInitialised says that the folder has an identity already, which is never replaced.
	ErrInitialised = errors.New("state folder has an identity already")
	// ErrGatewayTPM says that a gateway was to do without a TPM.
	ErrGatewayTPM = errors.New("a gateway needs a TPM")
	// ErrOwner says that a folder with a software key was to be somebody else's.
	ErrOwner = errors.New("a software key is made by the user whose it is")
	// ErrNoHSM says that neither a TPM nor a software key was named.
	ErrNoHSM = errors.New("name a TPM, or ask for a software key")
)

// Options say where a station is. Exactly one of TPM and Software is given; a gateway needs a TPM.
type Options struct {
	// Gateway says that it is a gateway's: it has counters in its TPM, by which it retires what is no longer to be opened.
	Gateway bool
	// Dir is the state folder. Init makes it if it is missing.
	Dir string
	// Owner is the number of the user whose folder it is, besides root; what root makes there is his. Init makes folders with a
	// software key for this user alone.
	Owner uint32
	// TPM is the path of a TPM device, or "unix:" and the path of a socket.
	TPM string
	// Software keeps the keys in files of the state folder instead: whoever reads the folder has them.
	Software bool
}

// Station is an open state folder, locked against other processes. Its parts are safe for concurrent use as they say.
type Station struct {
	Dir    *vault.Dir
	Signer crypto.Signer
	Public *identity.PublicKey
	// TPM is nil with a software key.
	TPM *tpm.TPM

	// Vault is a node's state; nil on a gateway.
	Vault *vault.Vault
	// Counters, Epochs and Offline are a gateway's; nil on a node.
	Counters *Counters
	Epochs   *vault.Generations
	Offline  *vault.Generations
}

// Close gives everything back and wipes the vault's key.
func (s *Station) Close() error {
	var errs []error
	if s.Vault != nil {
		s.Vault.Wipe()
	}
	for _, g := range []*vault.Generations{s.Epochs, s.Offline} {
		if g != nil {
			g.Wipe()
		}
	}
	if s.TPM != nil {
		errs = append(errs, s.TPM.Close())
	}
	if s.Dir != nil {
		errs = append(errs, s.Dir.Close())
	}
	return errors.Join(errs...)
}

// ReleaseTPM closes the TPM before the station: what is left needs no more than the vault's key in memory. A vault that was
// never saved to needs the TPM for its first Save.
func (s *Station) ReleaseTPM() error {
	if s.TPM == nil {
		return nil
	}
	t := s.TPM
	s.TPM, s.Signer = nil, nil
	return t.Close()
}

// Init makes the identity of a new station, in the TPM where there is one, and pins the TPM by the Name of its storage root
// key. The identity is durable when Init returns.
func Init(ctx context.Context, o Options) (_ *Station, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Software && o.Owner != 0 {
		return nil, ErrOwner
	}
	if err := o.makeFolder(); err != nil {
		return nil, err
	}
	s, err := o.base(ctx, false)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if _, err := s.Dir.ReadFile(identityFile); err == nil {
		return nil, fmt.Errorf("%w: %s", ErrInitialised, o.Dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := o.makeIdentity(ctx, s); err != nil {
		return nil, err
	}
	return s, o.open(s)
}

// makeFolder makes the state folder where there is none, and gives it to its owner; one that is there stays whose it is.
func (o *Options) makeFolder() error {
	_, err := os.Lstat(o.Dir)
	if err == nil {
		return nil
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	if errors.Is(err, fs.ErrNotExist) && o.Owner != 0 && os.Geteuid() == 0 {
		if err := os.Lchown(o.Dir, int(o.Owner), -1); err != nil {
			return fmt.Errorf("give state folder to its owner: %w", err)
		}
	}
	return nil
}

// Open opens a station that Init has made. A TPM with another storage root key is refused (tpm.ErrOtherTPM).
func Open(ctx context.Context, o Options) (_ *Station, err error) {
	s, err := o.base(ctx, true)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	b, err := s.Dir.ReadFile(identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotInitialised, o.Dir)
	}
	if err != nil {
		return nil, err
	}
	if o.Software {
		s.Signer, err = identity.ReadPrivateKey(filepath.Join(o.Dir, identityFile))
	} else {
		s.Signer, err = s.TPM.ParseSigningKey(b, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("read identity in %s: %w", o.Dir, err)
	}
	return s, o.open(s)
}

func (o *Options) check() error {
	if (o.TPM == "") != o.Software {
		return ErrNoHSM
	}
	if o.Gateway && o.Software {
		return ErrGatewayTPM
	}
	return nil
}

// base opens folder and TPM. pinned says that the TPM must be the one that Init has pinned.
func (o *Options) base(ctx context.Context, pinned bool) (*Station, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	dir, err := vault.OpenDirOf(o.Dir, o.Owner)
	if err != nil {
		return nil, err
	}
	s := &Station{Dir: dir}
	if o.Software {
		return s, nil
	}
	var pin tpm.Name
	if pinned {
		if pin, err = readPin(dir); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if s.TPM, err = tpm.Open(ctx, o.TPM, tpm.Options{SRKName: pin}); err != nil {
		return nil, errors.Join(fmt.Errorf("open TPM %s: %w", o.TPM, err), s.Close())
	}
	return s, nil
}

// readPin reads the Name of the storage root key that Init has pinned.
func readPin(dir *vault.Dir) (tpm.Name, error) {
	b, err := dir.ReadFile(srkFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotInitialised, dir.Path())
	}
	if err != nil {
		return nil, err
	}
	pin, err := tpm.ParseName(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("read pinned name of the storage root key in %s: %w", dir.Path(), err)
	}
	return pin, nil
}

// makeIdentity makes the identity key and stores it last, so that a folder with an identity is complete.
func (o *Options) makeIdentity(ctx context.Context, s *Station) error {
	if o.Software {
		key, err := identity.GenerateKey(elliptic.P384())
		if err != nil {
			return fmt.Errorf("make identity: %w", err)
		}
		if err := makeSoftwareKey(s.Dir); err != nil {
			return err
		}
		if err := identity.WritePrivateKey(filepath.Join(o.Dir, identityFile), key); err != nil {
			return fmt.Errorf("store identity: %w", err)
		}
		s.Signer = key
		return nil
	}
	key, err := s.TPM.CreateSigningKey(ctx, nil)
	if err != nil {
		return fmt.Errorf("make identity: %w", err)
	}
	if err := vault.Replace(s.Dir, srkFile, []byte(s.TPM.SRKName().String()+"\n")); err != nil {
		return fmt.Errorf("pin storage root key: %w", err)
	}
	if o.Gateway {
		if err := makeCounters(ctx, s.TPM, s.Dir); err != nil {
			return err
		}
	}
	if err := vault.Replace(s.Dir, identityFile, key.PEM()); err != nil {
		return fmt.Errorf("store identity: %w", err)
	}
	s.Signer = key
	return nil
}

// open reads the vault and checks the identity.
func (o *Options) open(s *Station) error {
	var err error
	if s.Public, err = identity.NewPublicKey(s.Signer.Public()); err != nil {
		return fmt.Errorf("read identity in %s: %w", o.Dir, err)
	}
	if o.Gateway {
		return s.openGateway()
	}
	var sealer vault.Sealer
	if o.Software {
		sealer, err = openSoftwareKey(s.Dir)
	} else {
		sealer = tpm.Sealer{TPM: s.TPM}
	}
	if err != nil {
		return err
	}
	s.Vault, err = vault.Open(s.Dir, vaultName, sealer)
	return err
}

// openGateway opens what the counters guard.
func (s *Station) openGateway() error {
	var err error
	if s.Counters, err = openCounters(s.TPM, s.Dir); err != nil {
		return err
	}
	if s.Epochs, err = vault.OpenGenerations(s.Dir, vaultName, s.Counters.Generation); err != nil {
		return err
	}
	s.Offline, err = vault.OpenGenerations(s.Dir, offlineName, s.Counters.Offline)
	return err
}
