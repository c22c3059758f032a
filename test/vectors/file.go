// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// file is docs/vectors.json. Every byte string is lower-case hexadecimal, in the order in which the bytes lie on the wire or
// in memory; every number is a JSON integer of at most 2^48-1.
type file struct {
	Version       int            `json:"version"`
	Note          []string       `json:"note"`
	Bindings      []binding      `json:"bindings"`
	TrafficKeys   []trafficKey   `json:"traffic_keys"`
	StartKeys     []epochKey     `json:"start_keys"`
	ControlKeys   []epochKey     `json:"control_keys"`
	Samples       []sample       `json:"samples"`
	Heartbeats    []heartbeat    `json:"heartbeats"`
	BadPlaintexts []sealed       `json:"bad_plaintexts"`
	StartRecords  []startRecord  `json:"start_records"`
	Forms         []formCase     `json:"forms"`
	CounterRanges []counterRange `json:"counter_ranges"`
	Windows       []windowCase   `json:"windows"`
	NextEpochs    []nextEpoch    `json:"next_epochs"`
	Agreements    []agreement    `json:"agreements"`
}

func notes() []string {
	return []string{
		"Test vectors of the sealed-frame protocol, version 1, described in docs/protocol.md. All keys are for tests only.",
		"Byte strings are lower-case hexadecimal in the order of the bytes on the wire. Integers in them are little-endian, " +
			"except in CBOR, COSE and HPKE, which have their own order.",
		"bindings: binding_hash = SHA-256(canonical_form); bit 31 of can_id says that it has 29 bits.",
		"traffic_keys: okm = HKDF-Expand(SHA-384, prk, info, 44); key = okm[0:32], iv = okm[32:44]. prk is PRK_epoch.",
		"start_keys, control_keys: key = HKDF-Expand(SHA-384, prk, info, 48).",
		"samples, heartbeats, bad_plaintexts: spdu = header || AES-256-GCM(key, nonce, aad, plaintext), with a tag of 16 bytes at its end; " +
			"plaintext includes the padding; traffic_key names the case in traffic_keys. " +
			"A frame of bad_plaintexts has a good tag: its counter is consumed and nothing is published.",
		"start_records: mac = the first 16 bytes of HMAC-SHA-384(mac_key, mac_input).",
		"forms: the header's first byte and the length of a PDU, and what becomes of it before anything else is looked at.",
		"counter_ranges: can an epoch with this base have the counter?",
		"windows: the steps are taken one after another on an empty window; each counter is committed if its verdict is fresh. " +
			"words are the words with a seen bit afterwards, as 64-bit numbers in hexadecimal (here the most significant digit comes first).",
		"next_epochs: the number that the gateway gives to a node's next epoch; 0: there is none left.",
		"agreements: an HPKE offer and its reply, with all private keys: scalars, big-endian, as long as the field. offer and reply are " +
			"COSE_Sign1 over offer_payload and reply_payload; offer_hash = SHA-384(offer), payload_hash = SHA-384(reply_payload). " +
			"Signatures are deterministic (RFC 6979); a signer may make others. shared_secret, key, base_nonce and exporter_secret are those of RFC 9180; " +
			"ct = AES-256-GCM(key, base_nonce, offer_hash, plaintext), prk = Export(exporter_context, 48).",
	}
}

// generate makes the whole file.
func generate() ([]byte, error) {
	f := file{Version: 1, Note: notes()}
	for _, part := range []struct {
		name string
		make func(*file) error
	}{
		{"bindings", makeBindings},
		{"traffic keys", makeTrafficKeys},
		{"epoch keys", makeEpochKeys},
		{"samples", makeSamples},
		{"heartbeats", makeHeartbeats},
		{"bad plaintexts", makeBadPlaintexts},
		{"start records", makeStartRecords},
		{"forms", makeForms},
		{"counter ranges", makeCounterRanges},
		{"windows", makeWindows},
		{"next epochs", makeNextEpochs},
		{"agreements", makeAgreements},
	} {
		if err := part.make(&f); err != nil {
			return nil, fmt.Errorf("make %s: %w", part.name, err)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(f); err != nil {
		return nil, fmt.Errorf("encode vectors: %w", err)
	}
	return b.Bytes(), nil
}

// x writes bytes as the file has them.
func x(b []byte) string { return hex.EncodeToString(b) }

// count returns n bytes that count up from first, so that a wrong order or offset shows.
func count(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}
