// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cellward/cellward/crypto/aead"
)

// The operations that are timed.
var operations = []string{"open", "forged", "seal"}

// contender is an engine or a peer.
type contender struct {
	name string
	// peer says that it is not ours.
	peer bool
	// tags returns the tags of one sealed batch, in hexadecimal.
	tags func() (string, error)
	// time returns the median ns for a PDU.
	time func(operation string, turn time.Duration) (float64, error)
}

// batches is how many batches lie between two looks at the clock, here and in programs/bench.h.
const batches = 16

// engines returns the engines that this machine has, each after its self test.
func engines(s shape) ([]contender, error) {
	var all []contender
	for _, name := range aead.Available() {
		selected, err := aead.Select(aead.Options{Engine: name})
		if err != nil {
			return nil, err
		}
		e := selected.Engine
		all = append(all, contender{
			name: name,
			tags: func() (string, error) { return ownTags(e, s) },
			time: func(operation string, turn time.Duration) (float64, error) { return timeOwn(e, s, operation, turn) },
		})
	}
	return all, nil
}

// lay makes the same batch as programs/bench.h.
func lay(e aead.Engine, s shape) ([]aead.Op, error) {
	keys := make([]*aead.Key, s.keys)
	for i := range keys {
		var key [aead.KeySize]byte
		var iv [aead.IVSize]byte
		fill(key[:], uint32(2*i+1))
		fill(iv[:], uint32(2*i+2))
		var err error
		if keys[i], err = e.NewKey(&key, &iv); err != nil {
			return nil, err
		}
	}
	ops := make([]aead.Op, s.batch)
	for i := range ops {
		record := make([]byte, aead.Overhead+s.text)
		fill(record[:aead.AADSize+s.text], uint32(1000+i))
		ops[i] = aead.Op{Key: keys[i%s.keys], Record: record, Dst: make([]byte, s.text)}
	}
	return ops, e.Seal(ops)
}

func ownTags(e aead.Engine, s shape) (string, error) {
	ops, err := lay(e, s)
	if err != nil {
		return "", err
	}
	var all []byte
	for _, op := range ops {
		all = append(all, op.Record[len(op.Record)-aead.TagSize:]...)
	}
	return hex.EncodeToString(all), nil
}

func timeOwn(e aead.Engine, s shape, operation string, turn time.Duration) (float64, error) {
	ops, err := lay(e, s)
	if err != nil {
		return 0, err
	}
	want := len(ops)
	if operation == "forged" {
		want = 0
		for _, op := range ops {
			op.Record[len(op.Record)-1] ^= 1
		}
	}
	var runs []float64
	for end := time.Now().Add(turn); time.Now().Before(end); {
		begin := time.Now()
		for range batches {
			if operation == "seal" {
				err = e.Seal(ops)
			} else if e.Open(ops) != want {
				err = fmt.Errorf("engine %s judges a batch wrong", e.Name())
			}
			if err != nil {
				return 0, err
			}
		}
		runs = append(runs, float64(time.Since(begin))/float64(batches*len(ops)))
	}
	return median(runs), nil
}

// build compiles the peers. Those that cannot be built are in missing.
func build(dir string, s shape) (all []contender, missing []error) {
	_, self, _, _ := runtime.Caller(0)
	for _, p := range []struct{ name, file, library string }{
		{"OpenSSL EVP", "openssl.c", "-lcrypto"},
		{"ipsec-mb", "ipsecmb.c", "-lIPSec_MB"},
	} {
		program := filepath.Join(dir, strings.TrimSuffix(p.file, ".c"))
		source := filepath.Join(filepath.Dir(self), "programs", p.file)
		out, err := exec.Command("cc", "-O3", "-march=native", "-o", program, source, p.library).CombinedOutput()
		if err != nil {
			missing = append(missing, fmt.Errorf("compile %s: %w: %s", p.file, err, firstLine(out)))
			continue
		}
		run := func(operation string, turn time.Duration) (string, error) {
			cmd := exec.Command(program, operation, strconv.Itoa(s.text), strconv.Itoa(s.batch), strconv.Itoa(s.keys), strconv.FormatInt(turn.Milliseconds(), 10))
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return "", fmt.Errorf("run %s %s: %w", p.name, operation, err)
			}
			return strings.TrimSpace(string(out)), nil
		}
		all = append(all, contender{
			name: p.name, peer: true,
			tags: func() (string, error) { return run("tags", time.Millisecond) },
			time: func(operation string, turn time.Duration) (float64, error) {
				out, err := run(operation, turn)
				if err != nil {
					return 0, err
				}
				return strconv.ParseFloat(out, 64)
			},
		})
	}
	return all, missing
}

// sameTags compares the work of all contenders before it is timed.
func sameTags(all []contender) error {
	var first string
	for i, c := range all {
		tags, err := c.tags()
		if err != nil {
			return err
		}
		if i == 0 {
			first = tags
		}
		if tags == "" || tags != first {
			return fmt.Errorf("%s and %s make different tags: what they do cannot be compared", c.name, all[0].name)
		}
	}
	return nil
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// fill writes a fixed pseudo-random pattern, the same as programs/bench.h.
func fill(b []byte, seed uint32) {
	x := uint64(seed)*0x9E3779B97F4A7C15 + 1
	var w [8]byte
	for len(b) > 0 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(w[:], x)
		b = b[copy(b, w[:]):]
	}
}
