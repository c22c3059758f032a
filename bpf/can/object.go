// SPDX-License-Identifier: Apache-2.0

package can

import "crypto/sha256"

// ObjectHash is SHA-256 over the compiled filter for this architecture, the file that the generated code embeds.
func ObjectHash() [sha256.Size]byte { return sha256.Sum256(_FilterBytes) }
