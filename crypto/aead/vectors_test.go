// SPDX-License-Identifier: Apache-2.0

package aead

import (
	"encoding/hex"
	"testing"

	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/spdu"
)

// TestFrameVectors takes whole frames from the secret of an epoch to the wire
// and back: key schedule, codec and engine together. The frames were made by
// another implementation (OpenSSL).
func TestFrameVectors(t *testing.T) {
	const epoch, stream, counter, when = 0x01020304, 0x11223344, 0x0A0B0C0D0E0F, 0x01020304
	var prk schedule.PRK
	for i := range prk {
		prk[i] = byte(0x40 + i)
	}
	var start [schedule.StartSize]byte
	for i := range start {
		start[i] = byte(i)
	}
	for _, c := range []struct {
		name    string
		form    spdu.Form
		body    int // sample: bytes 0, 1, 2, ...
		entries int // heartbeat if not 0
		want    string
	}{
		{"CAN FD, body of 0", spdu.FormFD, 0, 0, "41040f0e0d0c0b0aaff04a2fcd7b51ef6fe4b538caa2b2f8fa49d9616d7b3520"},
		{"CAN FD, body of 4", spdu.FormFD, 4, 0, "01040f0e0d0c0b0aaff04a2fcd7a53ec7244db1e1eea85904586566cc478c8d2"},
		{"CAN FD, body of 5", spdu.FormFD, 5, 0, "f1040f0e0d0c0b0aaff04a2fcd7a53ecdd32cf167d6cc0ea6b8f2250f7ca3d94fa5207e84d69f961873a4cefc8a67b25"},
		{"CAN FD, body of 20", spdu.FormFD, 20, 0, "01040f0e0d0c0b0aaff04a2fcd7a53ecdd37c9117565cae167822c5fe7db2f8727e1cadc7bfac5c98f0ef05f76856d1e"},
		{"CAN FD, body of 21", spdu.FormFD, 21, 0, "f1040f0e0d0c0b0aaff04a2fcd7a53ecdd37c9117565cae167822c5fe7db2f8724acaf8b2ed9493d12f4efd3633726bd62bc785c866546bd7ce030d109c75454"},
		{"CAN FD, body of 36", spdu.FormFD, 36, 0, "01040f0e0d0c0b0aaff04a2fcd7a53ecdd37c9117565cae167822c5fe7db2f8724b9b99c36c053260ee9f1cc4316049e151583c4e64cc98d1a79f98a00145df8"},
		{"CAN XL or Ethernet, body of 100", spdu.FormGeneric, 100, 0, "01040f0e0d0c0b0aaff04a2fcd7a53ecdd37c9117565cae167822c5fe7db2f8724b9b99c36c053260ee9f1cc4316049e71db05ae705de105f28ddedea30f192d127f81ececce9d65fc6b02af8e239a74121f075f0ef3dd775571a2ee5ba583397b3f2f7755687e6fea7d6aceb953ca6e3af9848fae692457ffc0c700e24257ee"},
		{"CAN FD, heartbeat of 1", spdu.FormFD, 0, 1, "e5040f0e0d0c0b0a2059cec48eb110e46e1eeea5816eb79d5f52aae9bcc4f3f399f119933fe5faf0ac301f8c4833e0a3"},
		{"CAN FD, heartbeat of 2", spdu.FormFD, 0, 2, "45040f0e0d0c0b0a2059cec48eb110e46e1eefa4816eb1995c50abe9bcc4f3f3b2924b23913076fc3bccde685442bf28"},
		{"CAN FD, heartbeat of 3", spdu.FormFD, 0, 3, "a5040f0e0d0c0b0a2059cec48eb110e46e1eefa4816eb1995c50abe9bec5f3f3436df377d744686be9fa93902cf3b294599c4275c1e076c28f73a65621d0f654"},
		{"CAN FD, heartbeat of 4", spdu.FormFD, 0, 4, "05040f0e0d0c0b0a2059cec48eb110e46e1eefa4816eb1995c50abe9bec5f3f3436df377d7446b6ae9fa9b942ff1b394629beb9a6e5c37cc6ae95ca94e1aa37d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := make([]byte, c.body)
			for i := range body {
				body[i] = byte(i)
			}
			entries := make([]spdu.Entry, c.entries)
			for i := range entries {
				entries[i] = spdu.Entry{Stream: 0x100 + uint32(i), Next: 0x0102030405 + uint64(i)}
			}
			id := spdu.ID{Stream: stream, Epoch: epoch, Counter: counter}
			record := make([]byte, spdu.MaxRecord)
			source, n, err := uint32(7), 0, error(nil)
			if c.entries == 0 {
				n, err = spdu.PutSample(record, c.form, id, when, body)
			} else {
				source = schedule.HeartbeatSource
				n, err = spdu.PutHeartbeat(record, c.form, id, entries)
			}
			if err != nil {
				t.Fatal(err)
			}
			record = record[:n]
			var secret schedule.TrafficKey
			if err := schedule.Traffic(&prk, source, epoch, &start, &secret); err != nil {
				t.Fatal(err)
			}
			for _, e := range engines() {
				key, err := e.NewKey(&secret.Key, &secret.IV)
				if err != nil {
					t.Fatal(err)
				}
				op := []Op{{Key: key, Record: append([]byte{}, record...), Dst: make([]byte, n)}}
				if err := e.Seal(op); err != nil {
					t.Fatal(err)
				}
				frame := op[0].Record[spdu.PrefixSize:]
				if got := hex.EncodeToString(frame); got != c.want {
					t.Fatalf("engine %s: frame %s, want %s", e.Name(), got, c.want)
				}
				h, err := spdu.Parse(c.form, frame)
				if err != nil || e.Open(op) != 1 {
					t.Fatalf("engine %s: %v, opened: %v", e.Name(), err, op[0].OK)
				}
				plain := op[0].Dst[:op[0].N]
				if c.entries == 0 {
					s, err := spdu.ParseSample(plain, h.Pad)
					if err != nil || s.SourceTime != when || string(s.Body) != string(body) {
						t.Fatalf("engine %s: %+v, %v", e.Name(), s, err)
					}
					continue
				}
				hb, err := spdu.ParseHeartbeat(plain, h.Pad)
				if err != nil || hb.Len() != c.entries {
					t.Fatalf("engine %s: %d entries, %v", e.Name(), hb.Len(), err)
				}
				for i, want := range entries {
					if got := hb.Entry(i); got != want {
						t.Fatalf("engine %s: entry %d is %+v, want %+v", e.Name(), i, got, want)
					}
				}
			}
		})
	}
}
