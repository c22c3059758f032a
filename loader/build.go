// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"github.com/cellward/cellward/bpf/can"
)

// BuildFacts say which filter this build carries.
type BuildFacts struct {
	Object        [32]byte // SHA-256 of the compiled filter
	LayoutVersion uint32
	Layout        [32]byte // hash of the layout of all maps; builds with the same one can use each other's pins
}

// Facts returns the facts of this build.
func Facts() (BuildFacts, error) {
	own, err := ownLayout()
	if err != nil {
		return BuildFacts{}, err
	}
	return BuildFacts{Object: can.ObjectHash(), LayoutVersion: own.version, Layout: own.hash}, nil
}
