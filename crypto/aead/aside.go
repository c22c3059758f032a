// SPDX-License-Identifier: Apache-2.0

package aead

import "unsafe"

const (
	pageSize = 4096
	pageMask = pageSize - 1
)

// aside is where an engine stores what it would have stored to the Dst of a PDU that it refuses. Whoever sends a forged tag
// learns that it was refused in any case; but an engine that leaves out the store shows the verdict in its time too, and
// then nobody can show with a clock that nothing else of a tag is in there.
//
// Kernels that store under masks do not need it, vaes256 for whole words of 8 bytes and aesni for those of 4. From the others zeros go there, never
// plaintext. Of a ciphertext of more than fastText bytes it is what the record decrypts to, and it is cleared before Open returns.
// The place for a Dst has its offset in the page, so that the two meet the same sets of a cache and the same loads that the
// processor takes for the same address.
type aside [pageSize + MaxText]byte

// place returns where in a n bytes for dst go.
func (a *aside) place(dst *byte, n int) []byte {
	offset := (uintptr(unsafe.Pointer(dst)) - uintptr(unsafe.Pointer(a))) & pageMask
	return a[offset:][:n]
}
