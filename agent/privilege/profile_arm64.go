// SPDX-License-Identifier: Apache-2.0

package privilege

// legacy is empty: arm64 has only the newer forms of all calls.
func legacy() Profile { return Profile{} }
