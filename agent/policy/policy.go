// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"time"
)

// What a policy must say, since nothing else is implemented: a value that cannot be enforced is refused.
const (
	CipherAES256GCM    = "AES-256-GCM"
	KDFHKDFSHA384      = "HKDF-SHA-384"
	TagBits            = 128 // written "128 bits"
	ProviderHSM        = "hardwareSecurityModule"
	VendorTPM20        = "iso/iec-11889:2015-tpm-2.0"
	KeyStorageWrapped  = "non-exportable-wrapped"
	TriggerAlwaysRekey = "ALWAYS_REKEY"
	IntegrityStrict    = "STRICT"
)

// Limits of a policy.
const (
	MaxRotationInterval = 45 * day
	MinWindow           = 64
	MaxWindow           = 1024
	WindowStep          = 64
	maxDataSources      = 4096
)

// tagLength is TagBits as documents write it.
const tagLength = "128 bits"

// Policy is a SensorDataSecurityPolicy.
type Policy struct {
	Name                 string
	DataSources          []DataSource // in the order of the document
	CryptographicProfile CryptographicProfile
	KeyManagement        KeyManagement
	Transport            Transport
}

// DataSource is a kind of sensor data that the policy protects.
type DataSource struct {
	Identifier   string
	SamplingRate Rate
	Sensitivity  Sensitivity
}

// CryptographicProfile names the algorithms.
type CryptographicProfile struct {
	Cipher                  string // CipherAES256GCM
	KeyDerivationFunction   string // KDFHKDFSHA384
	AuthenticationTagLength int    // bits, TagBits
}

// KeyManagement says where keys live and how long.
type KeyManagement struct {
	Provider       string // ProviderHSM
	HSMConfig      HSMConfig
	RotationPolicy RotationPolicy
}

// HSMConfig describes the hardware security module.
type HSMConfig struct {
	Vendor     string // VendorTPM20
	KeyStorage string // KeyStorageWrapped
}

// RotationPolicy says when a key must be replaced, and by what.
type RotationPolicy struct {
	Interval time.Duration // above zero, at most MaxRotationInterval
	Trigger  string        // TriggerAlwaysRekey
}

// Transport says what happens to frames.
type Transport struct {
	IntegrityEnforcement string // IntegrityStrict
	ReplayProtection     ReplayProtection
}

// ReplayProtection describes the replay window.
type ReplayProtection struct {
	Enabled    bool // always true
	WindowSize int  // counters: MinWindow to MaxWindow in steps of WindowStep
}

// Kind returns [KindPolicy].
func (*Policy) Kind() string { return KindPolicy }

// DocumentName returns metadata.name.
func (p *Policy) DocumentName() string { return p.Name }

// Source returns the data source of an identifier.
func (p *Policy) Source(identifier string) (DataSource, bool) {
	for _, s := range p.DataSources {
		if s.Identifier == identifier {
			return s, true
		}
	}
	return DataSource{}, false
}

func decodePolicy(name string, spec value) *Policy {
	p := &Policy{Name: name}
	o, ok := spec.object("dataSources", "cryptographicProfile", "keyManagement", "transport")
	if !ok {
		return p
	}
	if v, ok := o.required("dataSources"); ok {
		p.DataSources = decodeDataSources(v)
	}
	if v, ok := o.required("cryptographicProfile"); ok {
		p.CryptographicProfile = decodeCryptographicProfile(v)
	}
	if v, ok := o.required("keyManagement"); ok {
		p.KeyManagement = decodeKeyManagement(v)
	}
	if v, ok := o.required("transport"); ok {
		p.Transport = decodeTransport(v)
	}
	return p
}

func decodeDataSources(v value) []DataSource {
	var sources []DataSource
	seen := unique[string]{}
	for _, item := range v.list(maxDataSources) {
		o, ok := item.object("identifier", "samplingRate", "sensitivity")
		if !ok {
			continue
		}
		var s DataSource
		if v, ok := o.required("identifier"); ok {
			if s.Identifier, ok = v.match(namePattern); ok {
				seen.add(s.Identifier, v, quoted("identifier", s.Identifier))
			}
		}
		if v, ok := o.required("samplingRate"); ok {
			s.SamplingRate, _ = v.rate()
		}
		if v, ok := o.required("sensitivity"); ok {
			s.Sensitivity, _ = v.sensitivity()
		}
		sources = append(sources, s)
	}
	return sources
}

func decodeCryptographicProfile(v value) (c CryptographicProfile) {
	o, ok := v.object("cipher", "keyDerivationFunction", "authenticationTagLength")
	if !ok {
		return c
	}
	if v, ok := o.required("cipher"); ok {
		c.Cipher, _ = v.oneOf(CipherAES256GCM)
	}
	if v, ok := o.required("keyDerivationFunction"); ok {
		c.KeyDerivationFunction, _ = v.oneOf(KDFHKDFSHA384)
	}
	if v, ok := o.required("authenticationTagLength"); ok {
		if _, ok := v.oneOf(tagLength); ok {
			c.AuthenticationTagLength = TagBits
		}
	}
	return c
}

func decodeKeyManagement(v value) (k KeyManagement) {
	o, ok := v.object("provider", "hsmConfig", "rotationPolicy")
	if !ok {
		return k
	}
	if v, ok := o.required("provider"); ok {
		k.Provider, _ = v.oneOf(ProviderHSM)
	}
	if v, ok := o.required("hsmConfig"); ok {
		k.HSMConfig = decodeHSMConfig(v)
	}
	if v, ok := o.required("rotationPolicy"); ok {
		k.RotationPolicy = decodeRotationPolicy(v)
	}
	return k
}

func decodeHSMConfig(v value) (h HSMConfig) {
	o, ok := v.object("vendor", "keyStorage")
	if !ok {
		return h
	}
	if v, ok := o.required("vendor"); ok {
		h.Vendor, _ = v.oneOf(VendorTPM20)
	}
	if v, ok := o.required("keyStorage"); ok {
		h.KeyStorage, _ = v.oneOf(KeyStorageWrapped)
	}
	return h
}

func decodeRotationPolicy(v value) (r RotationPolicy) {
	o, ok := v.object("interval", "trigger")
	if !ok {
		return r
	}
	if v, ok := o.required("interval"); ok {
		r.Interval, _ = v.duration(MaxRotationInterval)
	}
	if v, ok := o.required("trigger"); ok {
		r.Trigger, _ = v.oneOf(TriggerAlwaysRekey)
	}
	return r
}

func decodeTransport(v value) (t Transport) {
	o, ok := v.object("integrityEnforcement", "replayProtection")
	if !ok {
		return t
	}
	if v, ok := o.required("integrityEnforcement"); ok {
		t.IntegrityEnforcement, _ = v.oneOf(IntegrityStrict)
	}
	if v, ok := o.required("replayProtection"); ok {
		t.ReplayProtection = decodeReplayProtection(v)
	}
	return t
}

func decodeReplayProtection(v value) (p ReplayProtection) {
	o, ok := v.object("enabled", "windowSize")
	if !ok {
		return p
	}
	if v, ok := o.required("enabled"); ok {
		enabled, ok := v.boolean()
		if ok && !enabled {
			v.errorf("want true, got false: replay protection cannot be switched off")
		}
		p.Enabled = enabled
	}
	if v, ok := o.required("windowSize"); ok {
		n, ok := v.integer(MinWindow, MaxWindow)
		if ok && n%WindowStep != 0 {
			v.want(fmt.Sprintf("a multiple of %d from %d to %d", WindowStep, MinWindow, MaxWindow))
		}
		p.WindowSize = int(n)
	}
	return p
}
