// SPDX-License-Identifier: Apache-2.0

// Command timing looks for a difference in time between right tags, tags that are wrong in their first byte, and tags
// that are wrong in their last byte, for each engine, in the manner of dudect (Reparaz, Balasch, Verbauwhede: "Dude, is
// my code constant time?", 2017): the kind of each measurement is chosen at random, and Welch's t-test compares two
// kinds at several cuts of the slowest measurements.
//
// |t| above 10 is a difference; below 4.5 there is no sign of one. A quiet machine helps: what else runs costs
// sensitivity, but it meets all kinds alike.
//
// Each engine is measured in several layouts, its memory allocated anew for each, and the median of their |t| and the
// largest are printed. What is stored for a right tag and for a wrong one lies at different addresses, and where one of
// them falls together with other memory in use in a cache's prediction of ways, that layout shows it, in either direction.
//
// The last column is the one that must show nothing: it is about how much of a forged tag is right, and exit status 1
// means that it shows in the median. Whether a tag was right is no secret, for the sender learns it; but an engine that
// does the same either way has nothing to show in the other columns too.
//
// It may import crypto/aead and crypto/spdu.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
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
	n := flag.Int("n", 100_000, "measurements for each engine and layout")
	layouts := flag.Int("layouts", 15, "layouts of memory for each engine")
	text := flag.Int("ct", 32, "bytes of ciphertext")
	engine := flag.String("engine", "", "look at this engine only")
	flag.Parse()
	found, err := run(*n, *layouts, *text, *engine)
	if err != nil {
		fmt.Fprintln(os.Stderr, "timing:", err)
	}
	if err != nil || found {
		os.Exit(1)
	}
}

func run(n, layouts, text int, only string) (found bool, err error) {
	if n < 100 || layouts < 1 || text < 0 || text > aead.MaxText {
		return false, fmt.Errorf("choose at least 100 measurements, at least 1 layout, and ct in 0..%d", aead.MaxText)
	}
	names := aead.Available()
	if only != "" {
		names = []string{only}
	}
	fmt.Printf("%d layouts, %d measurements in each of a batch of %d under %d keys, %d bytes of ciphertext: median and largest |t|\n\n", layouts, n, batch, keys, text)
	fmt.Println("| engine | right : first byte | right : last byte | first : last byte |")
	fmt.Println("|---|---:|---:|---:|")
	for _, name := range names {
		series, err := engineSeries(name, n, layouts, text)
		if err != nil {
			return found, err
		}
		fmt.Printf("| `%s` |", name)
		for _, t := range series {
			fmt.Printf(" %.1f (%.1f) |", median(t), slices.Max(t))
		}
		fmt.Println()
		found = found || median(series[2]) > limit
	}
	return found, nil
}

// engineSeries returns the |t| of each layout: right against the first byte wrong, right against the last byte wrong, and the
// two wrong ones against each other.
func engineSeries(name string, n, layouts, text int) (series [3][]float64, err error) {
	var kept [][]aead.Op // so that no layout gets the memory of the one before
	for range layouts {
		selected, err := aead.Select(aead.Options{Engine: name})
		if err != nil {
			return series, err
		}
		ops, samples, err := measure(selected.Engine, n, text)
		if err != nil {
			return series, err
		}
		kept = append(kept, ops)
		for i, pair := range [3][2]kind{{right, firstByte}, {right, lastByte}, {firstByte, lastByte}} {
			series[i] = append(series[i], largestT(samples, pair[0], pair[1]))
		}
	}
	runtime.KeepAlive(kept)
	return series, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// A batch and its keys fill half of a first-level cache of 48 KiB.
const (
	batch = 64
	keys  = 16
)

// sample is the time of one batch in ns.
type sample struct {
	kind kind
	ns   float64
}

// measure takes the time of n batches of random kinds. All kinds lie in the same memory, one after another; it returns that
// memory too.
func measure(e aead.Engine, n, text int) ([]aead.Op, []sample, error) {
	choose := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	var shared [keys]*aead.Key
	for i := range shared {
		var key [aead.KeySize]byte
		var iv [aead.IVSize]byte
		key[0], iv[0] = byte(i), byte(i)
		var err error
		if shared[i], err = e.NewKey(&key, &iv); err != nil {
			return nil, nil, err
		}
	}
	ops := make([]aead.Op, batch)
	// In one piece, as the agent's memory is: the fewer pages, the fewer that a cache confuses.
	size := aead.Overhead + text
	// A store under a mask spans 64 bytes. It stores none of those that are masked out; but if they lie in a page that is not there,
	// the processor finds that out the long way, which takes thirty times as long and shows the mask. No Dst of the agent lies at
	// the end of a page behind which there is none.
	const span = 64
	memory := make([]byte, batch*(size+text)+span)
	records, plains := memory[:batch*size], memory[batch*size:]
	for i := range ops {
		ops[i] = aead.Op{Key: shared[i%keys], Record: records[i*size:][:size:size], Dst: plains[i*text:][:text:text]}
		ops[i].Record[0] = byte(i)
	}
	if err := e.Seal(ops); err != nil {
		return nil, nil, err
	}
	flips := [kinds][2]byte{right: {0, 0}, firstByte: {0x80, 0}, lastByte: {0, 0x80}}
	flip := func(k kind) {
		for i := range ops {
			tag := ops[i].Record[aead.AADSize+text:]
			tag[0] ^= flips[k][0]
			tag[aead.TagSize-1] ^= flips[k][1]
		}
	}
	// Right as often as wrong: else the memory that the rarer of the two writes to would be the colder one.
	order := [...]kind{right, right, firstByte, lastByte}
	samples := make([]sample, n)
	for i := range samples {
		k := order[choose.IntN(len(order))]
		flip(k)
		begin := time.Now()
		accepted := e.Open(ops)
		samples[i] = sample{k, float64(time.Since(begin))}
		flip(k)
		if accepted != 0 && k != right || accepted != batch && k == right {
			return nil, nil, fmt.Errorf("engine %s judges a batch wrong (%s)", e.Name(), kindNames[k])
		}
	}
	return ops, samples, nil
}
