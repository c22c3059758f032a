// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth is deeper than any document of this family and keeps walks over the tree shallow.
const maxDepth = 64

// tree parses the text into the node of its only document and reports what no kind of document may contain. It
// returns nil when there is nothing to decode. The nodes are never handed to YAML's own decoding, so aliases are not
// expanded anywhere.
func (s *source) tree(r *report) *yaml.Node {
	if !s.check(r) {
		return nil
	}
	docs, err := parseYAML(s.data)
	if err != nil {
		line := s.syntaxLine(err)
		r.add(line, firstColumn(s.lines[line-1]), "", "not valid YAML: "+yamlLine.ReplaceAllString(err.Error(), ""))
		return nil
	}
	if len(docs) == 0 || len(docs[0].Content) == 0 {
		r.add(1, 1, "", "the file holds no document")
		return nil
	}
	if len(docs) > 1 {
		r.add(docs[1].Line, docs[1].Column, "", "a second document begins here; give each document a file of its own")
	}
	root := docs[0].Content[0]
	checkNode(r, root, 0)
	return root
}

// parseYAML returns the first two documents of a stream: the second is enough to refuse it.
func parseYAML(data []byte) (docs []*yaml.Node, err error) {
	// The parser reports what it finds wrong in itself by a panic. A document must never end the agent.
	defer func() {
		if p := recover(); p != nil {
			docs, err = nil, fmt.Errorf("yaml: %v", p)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for len(docs) < 2 {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return docs, nil
		} else if err != nil {
			return nil, err
		}
		docs = append(docs, &doc)
	}
	return docs, nil
}

// yamlLine is what the parser puts before its message.
var yamlLine = regexp.MustCompile(`^yaml: (line [0-9]+: )?`)

// syntaxLine finds the line at which the parser gave up. The parser itself names the line where the surrounding block
// began, so take the shortest run of lines that makes it fail in this same way.
func (s *source) syntaxLine(want error) int {
	ends := make([]int, 0, len(s.lines))
	for i, c := range s.data {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	low, high := 1, len(s.lines)
	for low < high {
		mid := (low + high) / 2
		if _, err := parseYAML(s.data[:ends[mid-1]]); err != nil && err.Error() == want.Error() {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// firstColumn is the column of the first character of a line that is not blank.
func firstColumn(line string) int {
	return len(line) - len(strings.TrimLeft(line, " ")) + 1
}

// checkNode reports anchors, aliases, explicit tags, keys that are no plain field names, duplicate keys and excessive
// depth, in the whole tree and so also under fields that nothing decodes.
func checkNode(r *report, n *yaml.Node, depth int) {
	if depth > maxDepth {
		r.add(n.Line, n.Column, "", fmt.Sprintf("nested more than %d deep", maxDepth))
		return
	}
	switch {
	case n.Kind == yaml.AliasNode:
		r.add(n.Line, n.Column, "", fmt.Sprintf("alias *%s; write the value out", n.Value))
	case n.Anchor != "":
		r.add(n.Line, n.Column, "", fmt.Sprintf("anchor &%s; anchors and aliases are refused", n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		r.add(n.Line, n.Column, "", fmt.Sprintf("explicit tag %s; the type follows from the field", n.Tag))
	}
	if n.Kind != yaml.MappingNode {
		for _, child := range n.Content {
			checkNode(r, child, depth+1)
		}
		return
	}
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if !isString(key) {
			r.add(key.Line, key.Column, "", "a field name must be a string, got "+describe(key))
		} else if first, twice := lines[key.Value]; twice {
			r.add(key.Line, key.Column, "", fmt.Sprintf("duplicate field %s; line %d has it already", clip(key.Value), first))
		} else {
			lines[key.Value] = key.Line
		}
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&yaml.TaggedStyle != 0 {
			checkNode(r, key, depth+1)
		}
		checkNode(r, val, depth+1)
	}
}

func isString(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!str" }

// describe names what a node holds, for "want ..., got ...".
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.Tag {
	case "!!str":
		return clip(n.Value)
	case "!!null":
		return "nothing"
	case "!!int":
		return "the integer " + n.Value
	case "!!float":
		return "the number " + n.Value
	case "!!bool":
		return "the boolean " + n.Value
	case "!!timestamp":
		return "the date " + n.Value
	}
	return clip(n.Value)
}
