// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"

	"github.com/cellward/cellward/crypto/aead"
	"github.com/cellward/cellward/crypto/spdu"
)

// sealed is one sealed PDU with every value on the way to it.
type sealed struct {
	Name       string `json:"name"`
	Form       string `json:"form"`
	Kind       string `json:"kind"`
	StreamID   uint32 `json:"stream_id"`
	Epoch      uint32 `json:"epoch"`
	Counter    uint64 `json:"counter"`
	TrafficKey string `json:"traffic_key"`
	Key        string `json:"key"`
	IV         string `json:"iv"`
	Pad        int    `json:"pad"`
	Header     string `json:"header"`
	AAD        string `json:"aad"`
	Nonce      string `json:"nonce"`
	Plaintext  string `json:"plaintext"`
	SPDU       string `json:"spdu"`
}

// sample is a sealed PDU of kind 0.
type sample struct {
	sealed
	SourceTime uint32 `json:"source_time"`
	Body       string `json:"body"`
}

// heartbeat is a sealed PDU of kind 1.
type heartbeat struct {
	sealed
	Entries []entry `json:"entries"`
}

type entry struct {
	StreamID    uint32 `json:"stream_id"`
	NextCounter uint64 `json:"next_counter"`
}

// The names of the forms in the file.
const (
	nameFD      = "can-fd"
	nameClassic = "classic-can"
	nameGeneric = "generic"
)

func formOf(name string) (spdu.Form, error) {
	switch name {
	case nameFD:
		return spdu.FormFD, nil
	case nameClassic:
		return spdu.FormClassic, nil
	case nameGeneric:
		return spdu.FormGeneric, nil
	}
	return 0, fmt.Errorf("form %q: %w", name, spdu.ErrForm)
}

// seal fills a record by put, lets change spoil it if there is one, seals it, and notes everything.
func seal(name, form string, ref keyRef, id spdu.ID, put func(record []byte, form spdu.Form) (int, error), change func(record []byte)) (sealed, error) {
	fail := func(err error) (sealed, error) { return sealed{}, fmt.Errorf("%s: %w", name, err) }
	carrier, err := formOf(form)
	if err != nil {
		return fail(err)
	}
	tk, err := ref.derive()
	if err != nil {
		return fail(err)
	}
	record := make([]byte, spdu.MaxRecord)
	n, err := put(record, carrier)
	if err != nil {
		return fail(err)
	}
	record = record[:n]
	if change != nil {
		change(record)
	}
	header, err := spdu.ParseHeader(record[spdu.PrefixSize:])
	if err != nil {
		return fail(err)
	}
	var nonce [spdu.NonceSize]byte
	spdu.Nonce(&nonce, &tk.IV, id.Stream, id.Counter)
	v := sealed{
		Name: name, Form: form, Kind: header.Kind.String(), StreamID: id.Stream, Epoch: id.Epoch, Counter: id.Counter,
		TrafficKey: ref.name, Key: x(tk.Key[:]), IV: x(tk.IV[:]), Pad: int(header.Pad),
		Header: x(record[spdu.PrefixSize:spdu.AADSize]), AAD: x(record[:spdu.AADSize]), Nonce: x(nonce[:]),
		Plaintext: x(record[spdu.AADSize : n-spdu.TagSize]),
	}
	engine := aead.NewStd()
	key, err := engine.NewKey(&tk.Key, &tk.IV)
	if err != nil {
		return fail(err)
	}
	if err := engine.Seal([]aead.Op{{Key: key, Record: record}}); err != nil {
		return fail(err)
	}
	v.SPDU = x(record[spdu.PrefixSize:])
	return v, nil
}

func makeSamples(f *file) error {
	const lastF = secondF - 1
	for _, c := range []struct {
		name    string
		form    string
		ref     keyRef
		stream  uint32
		counter uint64
		time    uint32
		body    []byte
	}{
		{"worked example: 8 bytes in a frame of 48", nameFD, voltagesSecond(), voltageStream, secondF, 1000, []byte{0x10, 0x0E, 0x12, 0x0E, 0x11, 0x0E, 0x0F, 0x0E}},
		{"empty body in a frame of 32, first counter", nameFD, voltagesFirst(), voltageStream, firstF, 0, nil},
		{"4 bytes fill a frame of 32, last counter of the first start's block", nameFD, voltagesFirst(), voltageStream, lastF, 0x01020304, count(1, 4)},
		{"5 bytes need a frame of 48", nameFD, voltagesSecond(), voltageStream, secondF + 1, 0x01020304, count(1, 5)},
		{"20 bytes fill a frame of 48", nameFD, voltagesSecond(), voltageStream, secondF + 2, 0x01020304, count(1, 20)},
		{"21 bytes need a frame of 64", nameFD, voltagesSecond(), voltageStream, secondF + 3, 0x01020304, count(1, 21)},
		{"36 bytes fill a frame of 64", nameFD, voltagesSecond(), voltageStream, secondF + 4, 0x01020304, count(1, 36)},
		{"the same counter on another stream and source", nameFD, currentSecond(), currentStream, secondF + 4, 0x01020304, count(1, 36)},
		{"a body that ends with zeros, which are not padding", nameFD, voltagesSecond(), voltageStream, secondF + 5, 0x01020304, []byte{1, 0, 0, 0, 0}},
		{"highest counter, highest source time", nameFD, voltagesNext(), voltageStream, spdu.MaxCounter, 0xFFFFFFFF, count(1, 8)},
		{"generic form, empty body: the shortest PDU", nameGeneric, voltagesSecond(), voltageStream, secondF + 6, 2000, nil},
		{"generic form, 5 bytes, no padding", nameGeneric, voltagesSecond(), voltageStream, secondF + 7, 2000, count(1, 5)},
		{"generic form, 2,020 bytes: the longest PDU", nameGeneric, voltagesSecond(), voltageStream, secondF + 8, 2000, count(1, 2020)},
	} {
		id := spdu.ID{Stream: c.stream, Epoch: c.ref.epoch, Counter: c.counter}
		v, err := seal(c.name, c.form, c.ref, id, func(record []byte, form spdu.Form) (int, error) {
			return spdu.PutSample(record, form, id, c.time, c.body)
		}, nil)
		if err != nil {
			return err
		}
		f.Samples = append(f.Samples, sample{v, c.time, x(c.body)})
	}
	return nil
}

func makeHeartbeats(f *file) error {
	entries := []entry{{voltageStream, secondF + 9}, {currentStream, secondF}, {0x41424344, 0x010203040506}, {0xFFFFFFFE, spdu.MaxCounter}, {1, 1}}
	for _, c := range []struct {
		name    string
		form    string
		ref     keyRef
		counter uint64
		entries []entry
	}{
		{"one entry", nameFD, heartbeatFirst(), firstF, entries[:1]},
		{"two entries", nameFD, heartbeatSecond(), secondF, entries[:2]},
		{"three entries", nameFD, heartbeatSecond(), secondF + 1, entries[:3]},
		{"four entries", nameFD, heartbeatSecond(), secondF + 2, entries[:4]},
		{"generic form, five entries", nameGeneric, heartbeatSecond(), secondF + 3, entries},
	} {
		id := spdu.ID{Stream: heartbeatStream, Epoch: c.ref.epoch, Counter: c.counter}
		v, err := seal(c.name, c.form, c.ref, id, func(record []byte, form spdu.Form) (int, error) {
			return spdu.PutHeartbeat(record, form, id, wireEntries(c.entries))
		}, nil)
		if err != nil {
			return err
		}
		f.Heartbeats = append(f.Heartbeats, heartbeat{v, c.entries})
	}
	return nil
}

func wireEntries(entries []entry) []spdu.Entry {
	var out []spdu.Entry
	for _, e := range entries {
		out = append(out, spdu.Entry{Stream: e.StreamID, Next: e.NextCounter})
	}
	return out
}

// makeBadPlaintexts makes PDUs whose tag is good and whose plaintext no honest node seals.
func makeBadPlaintexts(f *file) error {
	text := func(record []byte) []byte { return record[spdu.AADSize : len(record)-spdu.TagSize] }
	setPad := func(record []byte, pad byte) { record[spdu.PrefixSize] = record[spdu.PrefixSize]&15 | pad<<4 }
	for i, c := range []struct {
		name    string
		entries int // of a heartbeat; 0: a sample
		body    int // of a sample
		change  func(record []byte)
	}{
		{"sample, first padding byte is not zero", 0, 8, func(r []byte) { text(r)[12] = 0x80 }},
		{"sample, last padding byte is not zero", 0, 8, func(r []byte) { text(r)[23] = 0x01 }},
		{"sample, pad reaches into the body", 0, 20, func(r []byte) { setPad(r, 1) }},
		{"heartbeat, padding is not zero", 1, 0, func(r []byte) { text(r)[10] = 0x01 }},
		{"heartbeat, length is no multiple of 10", 1, 0, func(r []byte) { setPad(r, 13) }},
		{"heartbeat, stream id 0", 2, 0, func(r []byte) { binary.LittleEndian.PutUint32(text(r)[10:], 0) }},
		{"heartbeat, stream id 0xFFFFFFFF", 2, 0, func(r []byte) { binary.LittleEndian.PutUint32(text(r)[10:], 0xFFFFFFFF) }},
		{"heartbeat, next counter 0", 2, 0, func(r []byte) { clear(text(r)[14:20]) }},
	} {
		ref, stream := voltagesSecond(), uint32(voltageStream)
		if c.entries > 0 {
			ref, stream = heartbeatSecond(), heartbeatStream
		}
		id := spdu.ID{Stream: stream, Epoch: epochA, Counter: secondF + 20 + uint64(i)}
		v, err := seal(c.name, nameFD, ref, id, func(record []byte, form spdu.Form) (int, error) {
			if c.entries == 0 {
				return spdu.PutSample(record, form, id, 1000, count(1, c.body))
			}
			entries := []spdu.Entry{{Stream: voltageStream, Next: secondF}, {Stream: currentStream, Next: secondF}}
			return spdu.PutHeartbeat(record, form, id, entries[:c.entries])
		}, c.change)
		if err != nil {
			return err
		}
		f.BadPlaintexts = append(f.BadPlaintexts, v)
	}
	return nil
}
