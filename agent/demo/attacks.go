// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Attacks that are told apart by their events, one family each.
const (
	// Insertion adds frames on protected identifiers: altered, repeated, spliced, made up, in turn.
	Insertion = "insertion"
	// Deletion takes every 25th sample off the bus.
	Deletion = "deletion"
	// Delay holds the samples of one identifier back for a while.
	Delay = "delay"
)

// Attack is one that can be selected. What is done by those of one family is noticed by the same events, so one of each can be done
// at a time.
type Attack struct {
	Name   string
	Family string // Insertion, Deletion or Delay
	Does   string
	// forge are the kinds of frames that are added; nil: all.
	forge []string
	// flood is how many are added at a time.
	flood int
	// deletes says which samples are deleted.
	deletes func(x *tampering, s *passing) bool
	// all: not samples alone.
	all bool
}

// AllAttacks returns what can be selected. What only a node or somebody with its keys could do is not among it: a clock that stands still, an
// old epoch. Samples in another order are no attack: the replay window takes them.
func AllAttacks() []Attack {
	return []Attack{
		{Name: Insertion, Family: Insertion, Does: "frames of all the following kinds are added"},
		{Name: "bit_flip", Family: Insertion, Does: "copies with one bit changed", forge: []string{"bit_flip"}},
		{Name: "replay", Family: Insertion, Does: "copies, recent and old", forge: []string{"replay_recent", "replay_old"}},
		{Name: "spoofing", Family: Insertion, Does: "made up: random, in the clear, with counters near and far, of another epoch, of wrong lengths",
			forge: []string{"random", "plaintext", "plaintext_fd", "remote", "counter_near", "counter_far", "other_epoch", "truncation", "odd_length"}},
		{Name: "splice", Family: Insertion, Does: "copies on another identifier or bus", forge: []string{"splice_id", "splice_bus"}},
		{Name: "flood", Family: Insertion, Does: "ten altered copies at a time", forge: []string{"counter_near"}, flood: 10},
		{Name: Deletion, Family: Deletion, Does: "every 25th sample is deleted",
			deletes: func(x *tampering, s *passing) bool { return s.number%25 == 0 && s.number <= x.total*2/3 }},
		{Name: "deletion_slow", Family: Deletion, Does: "every 100th sample is deleted",
			deletes: func(x *tampering, s *passing) bool { return s.number%100 == 50 && s.number <= x.total*2/3 }},
		{Name: "deletion_mux", Family: Deletion, Does: "of the identifier with most samples, those whose body begins like its first one's",
			deletes: func(x *tampering, s *passing) bool { return s.mux && s.number <= x.total*2/3 }},
		{Name: "deletion_tail", Family: Deletion, Does: "the last two samples of each identifier are deleted",
			deletes: func(_ *tampering, s *passing) bool { return s.left < 2 }},
		{Name: "deletion_all", Family: Deletion, Does: "nothing comes through for a sixth of the frames", all: true,
			deletes: func(x *tampering, _ *passing) bool { return x.dark() }},
		{Name: Delay, Family: Delay, Does: "the samples of one identifier come 2.5 s late"},
	}
}

// ErrAttack says that a selection names no attack, or two that cannot be told apart.
var ErrAttack = errors.New("no such selection of attacks")

// ParseAttacks reads a list of attacks, separated by commas.
func ParseAttacks(list string) (names []string, err error) {
	all := AllAttacks()
	var chosen []Attack
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(a Attack) bool { return a.Name == name })
		if i < 0 {
			var known []string
			for _, a := range all {
				known = append(known, a.Name)
			}
			return nil, fmt.Errorf("%w: %q; want of %s", ErrAttack, name, strings.Join(known, ", "))
		}
		if slices.Contains(names, name) {
			continue
		}
		if k := slices.IndexFunc(chosen, func(a Attack) bool { return a.Family == all[i].Family }); k >= 0 {
			return nil, fmt.Errorf("%w: %s and %s are noticed by the same events: choose one", ErrAttack, chosen[k].Name, name)
		}
		chosen, names = append(chosen, all[i]), append(names, name)
	}
	return names, nil
}

// ofFamily returns the selected attack of a family.
func ofFamily(selected []string, family string) (Attack, bool) {
	for _, a := range AllAttacks() {
		if a.Family == family && slices.Contains(selected, a.Name) {
			return a, true
		}
	}
	return Attack{}, false
}

// familyOf returns the family of an attack.
func familyOf(name string) string {
	for _, a := range AllAttacks() {
		if a.Name == name {
			return a.Family
		}
	}
	return ""
}
