// SPDX-License-Identifier: Apache-2.0

package socketcan

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cellward/cellward/agent/demo"
	"github.com/cellward/cellward/loader"
)

// TestLoad loads a gateway with two filtered interfaces: on a vcan, cangen sends at full rate on foreign and on protected
// identifiers, all of which the gateway sees as its own echoes; on a vxcan, sealed traffic comes in from `cellward seal`. None of
// that is lost.
func TestLoad(t *testing.T) {
	const frames = 5000
	var b bytes.Buffer
	for i := range frames {
		fmt.Fprintf(&b, "(%d.%06d) can0 %03X#%04X\n", 1+i/1000, i%1000*1000, 0x100+i%20, i)
	}
	fmt.Fprintf(&b, "(%d.000000) can1 110#00\n", 2+frames/1000)
	path := filepath.Join(t.TempDir(), "two.log")
	ok(t, os.WriteFile(path, b.Bytes(), 0o644))
	l := newLab(t, demo.LabOptions{SoftwareEdge: true}, path)
	// The second bus becomes a vcan on the gateway; the edge gets a vcan, too, so that it can send there.
	change(t, nil, "can1", func(k *loader.Links, i int) error { return k.Delete(i) })
	addVCAN(t, nil, "can1")
	t.Cleanup(func() { change(t, nil, "can1", func(k *loader.Links, i int) error { return k.Delete(i) }) })
	addVCAN(t, l.EdgeNetns(), "can1")

	gateway := l.agent(t)
	reader := l.read(t)
	w := l.watch(t, nil, "can1")
	foreign := fmt.Sprintf("%X", l.foreignID())
	floods := []*background{
		begin(t, nil, nil, "cangen", "can1", "-p", "1000", "-g", "0", "-I", foreign, "-L", "8", "-D", "i"),
		begin(t, nil, nil, "cangen", "can1", "-p", "1000", "-g", "0", "-I", "110", "-f", "-L", "48", "-D", "r"),
	}
	eventually(t, "the load has begun", func() bool {
		s, err := l.Status(t.Context())
		ok(t, err)
		return s.Verdict(loader.OwnEcho) > 100 && s.Verdict(loader.Passed) > 100
	})
	edge := l.edge(t)
	ok(t, edge.Wait())
	for _, f := range floods {
		if f.ended() {
			t.Errorf("%v has ended by itself: %s", f.cmd.Args, f.errs.String())
		}
		f.kill()
	}
	l.total-- // what the edge sends on its own vcan reaches nobody
	status := reader.wait(t, l)
	tool(t, nil, "cansend", "can1", "7F0#")
	ok(t, <-w.done)
	status = l.settle(t)
	ok(t, gateway.Stop())
	ok(t, <-reader.done)
	for _, s := range l.Binding().Nodes[0].Streams {
		if s.Interface == "can1" {
			delete(l.want, s.StreamID)
		}
	}
	reader.check(t, l, report(t, edge).FirstCounter)
	if n, passed := w.foreign.Load(), status.Verdict(loader.Passed); n+1 != passed {
		t.Errorf("the filter let %d frames through, %d reached the socket", passed, n+1)
	}
	if n := w.protected.Load(); n != 0 {
		t.Errorf("%d protected frames reached the socket", n)
	}
	t.Logf("%d samples beside %d foreign frames and %d echoes", status.Published(), status.Verdict(loader.Passed), status.Verdict(loader.OwnEcho))
}
