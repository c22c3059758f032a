// SPDX-License-Identifier: Apache-2.0

// Command vectors writes docs/vectors.json: the test vectors of the protocol that docs/protocol.md describes, enough to build
// and check an independent implementation. It takes no arguments and gives the same bytes on every machine and every run:
//
//	go run ./test/vectors
//
// The values are made by the product's own code. The tests of this package read the committed file and compute every value
// again from the protocol's description alone: HKDF-Expand and MACs with crypto/hmac, headers, associated data and nonces
// with encoding/binary, sealed PDUs with crypto/cipher, windows with a set. They also fail when the committed file is not what
// this command writes, or when the worked example of docs/protocol.md is not in it.
//
// The package may import everything of this module.
package main
