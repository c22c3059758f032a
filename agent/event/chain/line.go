// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxLine is the most bytes of a line, its end included.
const MaxLine = 128 << 10

// ErrLine says that bytes are not a line of an event log, or that their hash is not the one they name.
var ErrLine = errors.New("not a line of an event log")

// Types of lines.
const (
	typeSegment = "segment" // the first of every file
	typeEvent   = "event"
	typeHead    = "head"    // signature over everything before it
	typeTorn    = "torn"    // accounts for bytes in front of it that a crash has left
	typeRemoved = "removed" // the oldest file was removed to keep the size
	typeDamaged = "damaged" // a file was found that could not be continued
	typeCut     = "cut"     // records are missing that a known head proves
)

func knownType(s string) bool {
	switch s {
	case typeSegment, typeEvent, typeHead, typeTorn, typeRemoved, typeDamaged, typeCut:
		return true
	}
	return false
}

// Hash is the SHA-384 of a line: over all its bytes in front of the field hash, the hash of the line before among them.
type Hash [sha512.Size384]byte

// String returns the hash as lines have it: 64 characters of base64url (RFC 4648, 5). 48 bytes need no padding, and no two texts
// stand for the same hash.
func (h Hash) String() string { return base64.RawURLEncoding.EncodeToString(h[:]) }

const hashText = sha512.Size384 / 3 * 4

// ParseHash reads what String wrote.
func ParseHash(s string) (h Hash, err error) {
	if len(s) != hashText {
		return h, fmt.Errorf("%w: hash of %d characters", ErrLine, len(s))
	}
	if _, err := base64.RawURLEncoding.Strict().Decode(h[:], []byte(s)); err != nil {
		return h, fmt.Errorf("%w: hash: %w", ErrLine, err)
	}
	return h, nil
}

// The fixed parts of a line:
//
//	{"seq":1,"prev":"...","type":"event","body":{...},"hash":"..."}
const (
	partSeq  = `{"seq":`
	partPrev = `,"prev":"`
	partType = `","type":"`
	partBody = `","body":`
	partHash = `,"hash":"`
	partEnd  = `"}`
)

// line is one line of the log.
type line struct {
	seq  uint64
	prev Hash
	kind string
	body []byte // a JSON object on one line
	hash Hash
}

// appendLine appends a line with its end, and returns its hash.
func appendLine(dst []byte, seq uint64, prev Hash, kind string, body []byte) ([]byte, Hash) {
	start := len(dst)
	dst = append(dst, partSeq...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(append(dst, partPrev...), prev.String()...)
	dst = append(append(dst, partType...), kind...)
	dst = append(append(dst, partBody...), body...)
	hash := Hash(sha512.Sum384(dst[start:]))
	dst = append(append(dst, partHash...), hash.String()...)
	return append(append(dst, partEnd...), '\n'), hash
}

// parseLine reads a line, whose end is not part of text. It takes only what appendLine writes. When the form is right but the hash is
// not, l is what the line says, and the error says so.
func parseLine(text []byte) (l line, err error) {
	if len(text) >= MaxLine {
		return l, fmt.Errorf("%w: %d bytes", ErrLine, len(text))
	}
	tail := len(partHash) + hashText + len(partEnd)
	rest, ok := bytes.CutPrefix(text, []byte(partSeq))
	if !ok || len(text) < tail {
		return l, fmt.Errorf("%w: it does not begin with %s", ErrLine, partSeq)
	}
	head := text[:len(text)-tail]
	rest = rest[:len(rest)-min(tail, len(rest))]
	seq, rest, ok := bytes.Cut(rest, []byte(partPrev))
	if l.seq, err = strconv.ParseUint(string(seq), 10, 63); !ok || err != nil || strconv.FormatUint(l.seq, 10) != string(seq) {
		return line{}, fmt.Errorf("%w: sequence number", ErrLine)
	}
	prev, rest, ok := bytes.Cut(rest, []byte(partType))
	if !ok {
		return line{}, fmt.Errorf("%w: it has no type", ErrLine)
	}
	if l.prev, err = ParseHash(string(prev)); err != nil {
		return line{}, err
	}
	kind, body, ok := bytes.Cut(rest, []byte(partBody))
	if l.kind = string(kind); !ok || !knownType(l.kind) {
		return line{}, fmt.Errorf("%w: unknown type", ErrLine)
	}
	if l.body = body; !json.Valid(body) || len(body) == 0 || body[0] != '{' {
		return line{}, fmt.Errorf("%w: body is not a JSON object", ErrLine)
	}
	end := string(text[len(head):])
	hash, ok := strings.CutPrefix(end, partHash)
	if !ok || !strings.HasSuffix(hash, partEnd) {
		return line{}, fmt.Errorf("%w: it does not end with a hash", ErrLine)
	}
	if l.hash, err = ParseHash(strings.TrimSuffix(hash, partEnd)); err != nil {
		return line{}, err
	}
	if Hash(sha512.Sum384(head)) != l.hash {
		return l, errHash
	}
	return l, nil
}

// errHash says that a line has the right form and was altered.
var errHash = fmt.Errorf("%w: its hash is another", ErrLine)

// Bodies of the lines that are the log's own.
type (
	bodySegment struct {
		Version int    `json:"version"`
		Log     string `json:"log"` // 32 hexadecimal digits
		Segment uint64 `json:"segment"`
		Created string `json:"created"`
		Every   int    `json:"every"` // how many records are signed together at most; 0: never signed
	}
	bodyHead struct {
		COSE string `json:"cose"` // base64url
	}
	bodyTorn struct {
		Bytes  int    `json:"bytes"`
		SHA384 string `json:"sha384"`
	}
	bodyRemoved struct {
		Segment uint64 `json:"segment"`
		First   uint64 `json:"first"`
		Last    uint64 `json:"last"`
		Hash    string `json:"last_hash"`
		Bytes   int64  `json:"bytes"`
	}
	bodyDamaged struct {
		Segment uint64 `json:"segment"`
		Bytes   int64  `json:"bytes"`
		SHA384  string `json:"sha384"`
	}
	bodyCut struct {
		Known uint64 `json:"known_seq"`
		Hash  string `json:"known_hash"`
	}
)

// marshal writes a body of this package's own types.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode line of event log: %v", err))
	}
	return b
}

// unmarshal reads a body, and refuses one that marshal would have written in another way.
func unmarshal(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: body: %w", ErrLine, err)
	}
	if !bytes.Equal(marshal(v), body) {
		return fmt.Errorf("%w: body is not in its one form", ErrLine)
	}
	return nil
}
