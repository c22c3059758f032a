// SPDX-License-Identifier: Apache-2.0

// Package inspect is what `cellward events` does with event logs on disk: print, verify, export frames.
//
// It may import agent/event and the packages under it, agent/policy and crypto/identity.
package inspect

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cellward/cellward/agent/event"
	"github.com/cellward/cellward/agent/event/capture"
	"github.com/cellward/cellward/agent/event/chain"
	"github.com/cellward/cellward/agent/event/encode"
	"github.com/cellward/cellward/agent/policy"
	"github.com/cellward/cellward/crypto/identity"
)

// DefaultBinding is the binding whose gateway is taken to have signed a log.
const DefaultBinding = "/etc/cellward/binding.yaml"

// ErrUnreadable says that a log has lines that could not be read.
var ErrUnreadable = errors.New("not all lines of the log could be read")

// VerifyOptions say how a log is verified. Without Key the gateway's key of Binding is taken.
type VerifyOptions struct {
	Paths   []string
	Binding string // "": DefaultBinding
	Key     string // file with a public key: PEM, or base64 of the DER
	// HashesOnly leaves the signatures out.
	HashesOnly bool
	Head       string // as chain.Head.String writes it; "": none
	Generation uint64 // 0: not checked
}

// Verify verifies a log. The error is about what could not be done; what is wrong with the log is in the report.
func Verify(o VerifyOptions) (*chain.Report, error) {
	v := chain.VerifyOptions{Generation: o.Generation}
	if o.Head != "" {
		h, err := chain.ParseHead(o.Head)
		if err != nil {
			return nil, fmt.Errorf("read known head: %w", err)
		}
		v.Known = &h
	}
	if !o.HashesOnly {
		key, err := o.key()
		if err != nil {
			return nil, err
		}
		v.Verifier = chain.PublicKey{Key: key}
	}
	sources, err := chain.Load(o.Paths)
	if err != nil {
		return nil, err
	}
	return chain.Verify(sources, v), nil
}

func (o *VerifyOptions) key() (*identity.PublicKey, error) {
	if o.Key != "" {
		text, err := os.ReadFile(o.Key)
		if err != nil {
			return nil, fmt.Errorf("read public key: %w", err)
		}
		key, err := identity.ParsePublicKey(string(text))
		if err != nil {
			return nil, fmt.Errorf("read public key %s: %w", o.Key, err)
		}
		return key, nil
	}
	path := o.Binding
	if path == "" {
		path = DefaultBinding
	}
	b, err := policy.LoadBinding(path)
	if err != nil {
		return nil, fmt.Errorf("find the key that has signed the log: %w", err)
	}
	return b.Gateway.Identity.Key()
}

// Print writes the events of a log with an encoding, one a line. Lines that are altered are named on errs, and printed all the same
// if they can be; the error is then ErrUnreadable.
func Print(w, errs io.Writer, paths []string, e encode.Encoding) error {
	var line []byte
	return each(errs, paths, func(r *event.Record) error {
		line = append(e(line[:0], r), '\n')
		_, err := w.Write(line)
		return err
	})
}

func each(errs io.Writer, paths []string, do func(*event.Record) error) error {
	sources, err := chain.Load(paths)
	if err != nil {
		return err
	}
	bad := 0
	err = chain.Records(sources, do, func(f chain.Finding) {
		bad++
		fmt.Fprintln(errs, f)
	})
	if err != nil {
		return fmt.Errorf("write events: %w", err)
	}
	if bad > 0 {
		return fmt.Errorf("%w: %d", ErrUnreadable, bad)
	}
	return nil
}

// ExportPCAPNG writes the frames in a log to a file, whole or not at all; to stdout for "-". It returns how many there were.
func ExportPCAPNG(out string, stdout, errs io.Writer, paths []string) (frames int, err error) {
	return export(out, stdout, func(do func(*event.Record) error) error { return each(errs, paths, do) })
}

// ExportFrames is ExportPCAPNG for records in memory.
func ExportFrames(out string, stdout io.Writer, records []event.Record) (frames int, err error) {
	return export(out, stdout, func(do func(*event.Record) error) error {
		for i := range records {
			if err := do(&records[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// export writes the frames of the records that each comes to.
func export(out string, stdout io.Writer, each func(do func(*event.Record) error) error) (frames int, err error) {
	w := stdout
	if out != "-" {
		f, err := os.CreateTemp(filepath.Dir(out), filepath.Base(out)+".*.tmp")
		if err != nil {
			return 0, fmt.Errorf("make capture: %w", err)
		}
		defer func() {
			if err = errors.Join(err, f.Close()); err == nil {
				err = os.Rename(f.Name(), out)
			}
			if err != nil {
				err = errors.Join(err, os.Remove(f.Name()))
			}
		}()
		w = f
	}
	c := capture.NewWriter(w)
	unreadable := each(func(r *event.Record) error {
		if r.Frame != nil {
			frames++
		}
		return c.Write(r)
	})
	if unreadable != nil && !errors.Is(unreadable, ErrUnreadable) {
		return frames, unreadable
	}
	if err := c.Flush(); err != nil {
		return frames, err
	}
	if f, ok := w.(*os.File); ok && out != "-" {
		if err := f.Sync(); err != nil {
			return frames, fmt.Errorf("sync capture: %w", err)
		}
	}
	return frames, nil
}
