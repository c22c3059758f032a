// SPDX-License-Identifier: Apache-2.0

package station

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cellward/cellward/agent/vault"
	"github.com/cellward/cellward/crypto/tpm"
)

// countersFile holds what is needed to use the gateway's counters in the TPM again.
const countersFile = "counters.json"

// Where the TPM has room for an owner's counters (TCG registry of reserved handles), and how many places are tried.
const (
	firstIndex  = 0x01800100
	indexesTry  = 64
	callTimeout = 60 * time.Second
)

var (
	// ErrCounters says that the folder's note of the counters is missing or damaged.
	ErrCounters = errors.New("note of the TPM's counters is missing or damaged")
	// ErrNoIndex says that the TPM has no free NV index where the counters are put.
	ErrNoIndex = errors.New("no free NV index for a counter")
)

// Counters are the gateway's three counters in the TPM. What is sealed or made under a value of one is refused by the TPM once
// the counter has moved.
type Counters struct {
	// Generation is that of the state of all epochs; it moves at every start and clean stop.
	Generation Counter
	// Offline is that of the secrets of nodes that were enrolled offline; it moves when one of them is retired.
	Offline Counter
	// Offers is that of the private keys of pending offers; it moves when a batch of offers is closed.
	Offers Counter
}

// Counter is one monotonic counter in a TPM. It implements vault.Hardware.
type Counter struct {
	tpm   *tpm.TPM
	id    tpm.CounterID
	first uint64
}

var _ vault.Hardware = Counter{}

// note is how a counter stands in the file.
type note struct {
	Index uint32 `json:"index"`
	Name  []byte `json:"name"`
	Auth  []byte `json:"auth"`
	First uint64 `json:"first"`
}

// makeCounters makes the counters of a new gateway. An index that a crash leaves behind is lost, and harmless.
func makeCounters(ctx context.Context, t *tpm.TPM, dir *vault.Dir) error {
	notes := make(map[string]note)
	for _, name := range []string{"generation", "offline", "offers"} {
		id, first, err := makeCounter(ctx, t)
		if err != nil {
			return fmt.Errorf("make counter %s: %w", name, err)
		}
		notes[name] = note{id.Index, id.Name, id.Auth, first}
	}
	b, err := json.Marshal(notes)
	if err != nil {
		return fmt.Errorf("encode counters: %w", err)
	}
	if err := vault.Replace(dir, countersFile, b); err != nil {
		return fmt.Errorf("store counters: %w", err)
	}
	return nil
}

func makeCounter(ctx context.Context, t *tpm.TPM) (id tpm.CounterID, first uint64, err error) {
	for i := range uint32(indexesTry) {
		id, first, err = t.CreateCounter(ctx, firstIndex+i)
		if !errors.Is(err, tpm.ErrHandleInUse) {
			return id, first, err
		}
	}
	return id, 0, ErrNoIndex
}

func openCounters(t *tpm.TPM, dir *vault.Dir) (*Counters, error) {
	b, err := dir.ReadFile(countersFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is none in %s", ErrCounters, dir.Path())
	}
	if err != nil {
		return nil, err
	}
	var notes map[string]note
	if err := json.Unmarshal(b, &notes); err != nil {
		return nil, fmt.Errorf("%w: %s in %s: %w", ErrCounters, countersFile, dir.Path(), err)
	}
	c := new(Counters)
	for name, to := range map[string]*Counter{"generation": &c.Generation, "offline": &c.Offline, "offers": &c.Offers} {
		n, ok := notes[name]
		if !ok || n.Index == 0 || len(n.Name) == 0 || len(n.Auth) == 0 {
			return nil, fmt.Errorf("%w: %s in %s has no counter %q", ErrCounters, countersFile, dir.Path(), name)
		}
		*to = Counter{t, tpm.CounterID{Index: n.Index, Name: n.Name, Auth: n.Auth}, n.First}
	}
	return c, nil
}

func call[T any](f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return f(ctx)
}

// First implements vault.Hardware.
func (c Counter) First() uint64 { return c.first }

// Value implements vault.Hardware.
func (c Counter) Value() (uint64, error) {
	return call(func(ctx context.Context) (uint64, error) { return c.tpm.ReadCounter(ctx, c.id) })
}

// Increment implements vault.Hardware.
func (c Counter) Increment() (uint64, error) {
	return call(func(ctx context.Context) (uint64, error) { return c.tpm.IncrementCounter(ctx, c.id) })
}

// SealAt implements vault.Hardware.
func (c Counter) SealAt(secret []byte, value uint64) ([]byte, error) {
	return call(func(ctx context.Context) ([]byte, error) { return c.tpm.Seal(ctx, secret, c.Policy(value)) })
}

// UnsealAt implements vault.Hardware.
func (c Counter) UnsealAt(sealed []byte, value uint64) ([]byte, error) {
	return call(func(ctx context.Context) ([]byte, error) { return c.tpm.Unseal(ctx, sealed, c.Policy(value)) })
}

// Policy holds while the counter shows value.
func (c Counter) Policy(value uint64) tpm.Policy { return tpm.Policy{tpm.CounterEquals(c.id, value)} }
