// SPDX-License-Identifier: Apache-2.0

// Package trace reads and writes CAN logs and makes CAN traffic: candump,
// Vector ASC and GVRET CSV logs, a per-stream summary of a log, a pacer that
// turns time stamps into send times, and a battery pack simulator.
//
// Everything that yields frames is a [Source]: a log reader ([Open],
// [NewReader]) and the simulator ([NewPack]) are interchangeable. The order of
// a file is the order of its frames; time stamps may go back.
//
// Nothing is dropped silently. A line that is unknown, truncated or malformed
// ends the reading with a [LineError] that names file and line and quotes it;
// what a format defines as something other than a frame is skipped and counted
// in [Stats].
//
// The package imports the standard library only.
package trace
