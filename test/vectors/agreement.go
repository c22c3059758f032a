// SPDX-License-Identifier: Apache-2.0

package main

type agreement struct {
	Name string `json:"name"`
}

func makeAgreements(f *file) error { f.Agreements = []agreement{}; return nil }
