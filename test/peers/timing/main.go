// SPDX-License-Identifier: Apache-2.0

// Command timing looks for a difference in time between right tags, tags that are wrong in their first byte, and tags
// that are wrong in their last byte, for each engine, in the manner of dudect (Reparaz, Balasch, Verbauwhede: "Dude, is
// my code constant time?", 2017): the kind of each measurement is chosen at random, and Welch's t-test compares two
// kinds at several cuts of the slowest measurements.
//
// |t| above 10 is a difference; below 4.5 there is no sign of one. A quiet machine helps: what else runs costs
// sensitivity, but it meets all kinds alike.
//
// The last column is the one that must show nothing: it is about how much of a forged tag is right, and exit status 1
// means that it shows. Whether a tag was right is no secret, for the sender learns it; but an engine that writes the same
// number of bytes to the same place either way has nothing to show in the other columns too.
//
// It may import crypto/aead and crypto/spdu.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/cellward/cellward/crypto/aead"
)

// limit is the |t| that is taken for a difference.
const limit = 10

// kind is what is done to the tags of a batch.
type kind int

const (
	right kind = iota
	firstByte
	lastByte
	kinds
)

var kindNames = [kinds]string{"right", "first byte wrong", "last byte wrong"}

func main() {
	n := flag.Int("n", 300_000, "measurements for each engine")
	text := flag.Int("ct", 32, "bytes of ciphertext, up to 48")
	engine := flag.String("engine", "", "look at this engine only")
	flag.Parse()
	found, err := run(*n, *text, *engine)
	if err != nil {
		fmt.Fprintln(os.Stderr, "timing:", err)
	}
	if err != nil || found {
		os.Exit(1)
	}
}

func run(n, text int, only string) (found bool, err error) {
	if n < 100 || text < 0 || text > 48 {
		return false, fmt.Errorf("choose at least 100 measurements, and ct in 0..48")
	}
	names := aead.Available()
	if only != "" {
		names = []string{only}
	}
	fmt.Printf("%d measurements of a batch of %d, %d bytes of ciphertext\n\n", n, batch, text)
	fmt.Println("| engine | right : first byte | right : last byte | first : last byte |")
	fmt.Println("|---|---:|---:|---:|")
	for _, name := range names {
		selected, err := aead.Select(aead.Options{Engine: name})
		if err != nil {
			return found, err
		}
		samples, err := measure(selected.Engine, n, text)
		if err != nil {
			return found, err
		}
		a, b, c := largestT(samples, right, firstByte), largestT(samples, right, lastByte), largestT(samples, firstByte, lastByte)
		fmt.Printf("| `%s` | %.1f | %.1f | %.1f |\n", name, a, b, c)
		found = found || c > limit
	}
	return found, nil
}

const batch = 64

// sample is the time of one batch in ns.
type sample struct {
	kind kind
	ns   float64
}

// measure takes the time of n batches of random kinds. All kinds lie in the same memory, one after another.
func measure(e aead.Engine, n, text int) ([]sample, error) {
	choose := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	ops := make([]aead.Op, batch)
	for i := range ops {
		var key [aead.KeySize]byte
		var iv [aead.IVSize]byte
		key[0], iv[0] = byte(i), byte(i)
		k, err := e.NewKey(&key, &iv)
		if err != nil {
			return nil, err
		}
		ops[i] = aead.Op{Key: k, Record: make([]byte, aead.Overhead+text), Dst: make([]byte, text)}
		ops[i].Record[0] = byte(i)
	}
	if err := e.Seal(ops); err != nil {
		return nil, err
	}
	flips := [kinds][2]byte{right: {0, 0}, firstByte: {0x80, 0}, lastByte: {0, 0x80}}
	flip := func(k kind) {
		for i := range ops {
			tag := ops[i].Record[aead.AADSize+text:]
			tag[0] ^= flips[k][0]
			tag[aead.TagSize-1] ^= flips[k][1]
		}
	}
	samples := make([]sample, n)
	for i := range samples {
		k := kind(choose.IntN(int(kinds)))
		flip(k)
		begin := time.Now()
		accepted := e.Open(ops)
		samples[i] = sample{k, float64(time.Since(begin))}
		flip(k)
		if accepted != 0 && k != right || accepted != batch && k == right {
			return nil, fmt.Errorf("engine %s judges a batch wrong (%s)", e.Name(), kindNames[k])
		}
	}
	return samples, nil
}
