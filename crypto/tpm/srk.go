// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

func aesCFB(bits tpm2.TPMKeyBits) tpm2.TPMTSymDefObject {
	return tpm2.TPMTSymDefObject{
		Algorithm: tpm2.TPMAlgAES,
		KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, bits),
		Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
}

func eccParams(curve tpm2.TPMECCCurve, scheme tpm2.TPMTECCScheme) tpm2.TPMTPublicParms {
	return tpm2.TPMTPublicParms{
		Type: tpm2.TPMAlgECC,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme:    scheme,
			CurveID:   curve,
			KDF:       tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
		}),
	}
}

// srkTemplate is TCG's ECC SRK template (Provisioning Guidance 7.5.1: restricted
// decryption key, noDA, empty authorisation), or the same with P-384, SHA-384
// and AES-256.
func srkTemplate(strong bool) tpm2.TPMTPublic {
	if !strong {
		return tpm2.ECCSRKTemplate
	}
	template := tpm2.ECCSRKTemplate
	template.NameAlg = tpm2.TPMAlgSHA384
	template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: aesCFB(256),
		Scheme:    tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull},
		CurveID:   tpm2.TPMECCNistP384,
		KDF:       tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
	})
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: make([]byte, 48)},
		Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 48)},
	})
	return template
}

// checkSRK accepts the template above in either strength, whoever made the key.
func checkSRK(public *tpm2.TPMTPublic) error {
	for _, strong := range []bool{false, true} {
		want := srkTemplate(strong)
		if public.Type != want.Type {
			continue
		}
		want.Unique = public.Unique // the key itself
		if bytes.Equal(tpm2.Marshal(want), tpm2.Marshal(*public)) {
			// A point off the curve would turn every salt into a gift.
			if _, err := tpm2.ImportEncapsulationKey(public); err != nil {
				return fmt.Errorf("%w: %w", ErrSRK, err)
			}
			return nil
		}
	}
	return fmt.Errorf("%w: neither TCG's ECC P-256 template nor P-384 with AES-256; choose another handle", ErrSRK)
}

// findSRK takes the key at the SRK handle or makes it there. The key is derived
// from the owner seed, so after an accidental eviction the same one comes back.
func (x *tx) findSRK() error {
	o := &x.t.opts
	public, err := x.readPublic(o.SRKHandle)
	if err == nil {
		if err := checkSRK(public); err != nil {
			return fmt.Errorf("handle 0x%08X: %w", o.SRKHandle, err)
		}
		return x.takeSRK(public)
	}
	if !errors.Is(err, ErrNoObject) {
		return err
	}
	template := srkTemplate(o.SRKStrong)
	// The HMAC session keeps OwnerAuth off the bus. It cannot be salted: the
	// key to salt it with is just being made.
	session, err := x.hmacSession(sessionOptions{auth: o.OwnerAuth, unsalted: true})
	if err != nil {
		return err
	}
	rsp, err := execute(x, "TPM2_CreatePrimary", tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session},
		InPublic:      tpm2.New2B(template),
	})
	if err != nil {
		return err
	}
	if public, err = rsp.OutPublic.Contents(); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if err := checkSRK(public); err != nil {
		return err
	}
	if err := x.takeSRK(public); err != nil {
		return err // another TPM stays as it was
	}
	_, err = execute(x, "TPM2_EvictControl", tpm2.EvictControl{
		Auth:             tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session},
		ObjectHandle:     &tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: x.t.srkName},
		PersistentHandle: tpm2.TPMHandle(o.SRKHandle),
	})
	return err
}

func (x *tx) takeSRK(public *tpm2.TPMTPublic) error {
	// Computed here from the public area: a Name that the response merely
	// claims would pin nothing.
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSRK, err)
	}
	if pin := x.t.opts.SRKName; len(pin) != 0 && !bytes.Equal(pin, name.Buffer) {
		return fmt.Errorf("%w: storage root key %v, pinned %v", ErrOtherTPM, Name(name.Buffer), pin)
	}
	x.t.srk = *public
	x.t.srkName = *name
	return nil
}

func (x *tx) readPublic(handle uint32) (*tpm2.TPMTPublic, error) {
	rsp, err := execute(x, "TPM2_ReadPublic", tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(handle)})
	if err != nil {
		return nil, err
	}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return public, nil
}

// parent is the SRK as the parent of a command. Its authorisation is empty by
// its template, so a password session gives nothing away.
func (x *tx) parent(auth tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMHandle(x.t.opts.SRKHandle), Name: x.t.srkName, Auth: auth}
}
