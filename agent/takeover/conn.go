// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	headSize = 5 // kind, length
	// maxBody bounds a message: a gateway of 4,096 streams hands over less than 1 MiB.
	maxBody = 8 << 20
	// maxFiles is how many descriptors a message may bring; the kernel lets no more than 253 (SCM_MAX_FD) through.
	maxFiles = 128
	// maxReason bounds what a refusal says.
	maxReason = 4 << 10
)

var (
	// ErrRefused says that the other side does not go on; the text behind it is the other side's.
	ErrRefused = errors.New("the other agent refuses")
	// ErrUnchanged says that both are the same program, and that the successor wanted to know.
	ErrUnchanged = errors.New("the running agent is the same program")
)

// Conn is one end of the conversation. It is for one goroutine.
type Conn struct {
	c     *net.UnixConn
	in    []byte     // of a message that has not come whole
	files []*os.File // came with it
}

// NewConn begins a conversation over a stream socket.
func NewConn(c *net.UnixConn) *Conn { return &Conn{c: c} }

// Close ends it, and closes descriptors that nobody has asked for.
func (c *Conn) Close() error {
	closeAll(c.files)
	c.files = nil
	if err := c.c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("end take-over: %w", err)
	}
	return nil
}

// SetDeadline bounds all that follows; the zero time takes the bound away.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.c.SetDeadline(t); err != nil {
		return fmt.Errorf("bound take-over: %w", err)
	}
	return nil
}

// Send sends a message. files go with it, and stay the caller's. The body is wiped from memory here once the kernel has it.
func (c *Conn) Send(kind Kind, v any, files ...*os.File) error {
	body, err := Encode(v)
	if err != nil {
		return err
	}
	defer clear(body)
	b := make([]byte, headSize, headSize+len(body))
	b[0] = byte(kind)
	binary.LittleEndian.PutUint32(b[1:], uint32(len(body)))
	b = append(b, body...)
	defer clear(b)
	if len(body) > maxBody {
		return fmt.Errorf("send %v: it has %d bytes, at most %d are possible", kind, len(body), maxBody)
	}
	fds, err := descriptors(files)
	if err != nil {
		return fmt.Errorf("send %v: %w", kind, err)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	n, _, err := c.c.WriteMsgUnix(b, rights, nil)
	if err == nil && n < len(b) {
		_, err = c.c.Write(b[n:])
	}
	if err != nil {
		return fmt.Errorf("send %v: %w", kind, err)
	}
	return nil
}

// descriptors returns the numbers of files. Fd would make a listening socket a blocking one, for all who have it.
func descriptors(files []*os.File) (fds []int, err error) {
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return nil, fmt.Errorf("get descriptor: %w", err)
		}
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return nil, fmt.Errorf("get descriptor: %w", err)
		}
	}
	return fds, nil
}

// Refuse tells the other side why this one does not go on. It may have gone already.
func (c *Conn) Refuse(why error) {
	reason := why.Error()
	_ = c.Send(KindRefused, Refused{reason[:min(len(reason), maxReason)], errors.Is(why, ErrUnchanged)})
}

// Receive waits for a message of a kind, decodes it into v and returns the descriptors that came with it, of which there must be as many
// as wanted. ErrRefused: the other side does not go on. io.EOF: it has gone. After os.ErrDeadlineExceeded it may be called again.
func (c *Conn) Receive(kind Kind, v any, wanted int) ([]*os.File, error) {
	return c.receive(kind, v, wanted, wanted)
}

// ReceiveState is Receive of State: its descriptors are those of the listening sockets of ring and control, and of readers that follow.
func (c *Conn) ReceiveState(s *State) (readers, status *os.File, followers []*os.File, err error) {
	files, err := c.receive(KindState, s, stateSockets, stateSockets+MaxFollowers)
	if err != nil {
		return nil, nil, nil, err
	}
	return files[0], files[1], files[stateSockets:], nil
}

// receive is Receive of a message with least to most descriptors.
func (c *Conn) receive(kind Kind, v any, least, most int) (_ []*os.File, err error) {
	defer func() {
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			closeAll(c.files)
			c.files = nil
		}
	}()
	if err := c.fill(headSize); err != nil {
		return nil, fmt.Errorf("wait for %v: %w", kind, err)
	}
	n := binary.LittleEndian.Uint32(c.in[1:])
	if n > maxBody {
		return nil, fmt.Errorf("wait for %v: %w: it has %d bytes", kind, ErrMessage, n)
	}
	if err := c.fill(headSize + int(n)); err != nil {
		return nil, fmt.Errorf("wait for %v: %w", kind, err)
	}
	head, body := c.in[:headSize], c.in[headSize:]
	c.in = nil
	defer clear(body)
	switch got := Kind(head[0]); {
	case got == KindRefused:
		var r Refused
		if err := Decode(body, &r); err != nil {
			return nil, err
		}
		if r.Unchanged {
			return nil, ErrUnchanged
		}
		return nil, fmt.Errorf("%w: %q", ErrRefused, r.Reason)
	case got != kind:
		return nil, fmt.Errorf("wait for %v: %w: %v came", kind, ErrMessage, got)
	}
	if err := Decode(body, v); err != nil {
		return nil, fmt.Errorf("wait for %v: %w", kind, err)
	}
	if n := len(c.files); n < least || n > most {
		return nil, fmt.Errorf("wait for %v: %w: %d descriptors came, want %d to %d", kind, ErrMessage, n, least, most)
	}
	files := c.files
	c.files = nil
	return files, nil
}

// fill reads until n bytes of the message are there, and no further, and keeps the descriptors that come with them. What has come stays
// after an error, so that a wait may be repeated.
func (c *Conn) fill(n int) error {
	if n > cap(c.in) { // once for a head and once for a body, so that no copy of a secret is left behind
		c.in = append(make([]byte, 0, n), c.in...)
	}
	rights := make([]byte, unix.CmsgSpace(4*maxFiles))
	for len(c.in) < n {
		got, oobn, flags, _, err := c.c.ReadMsgUnix(c.in[len(c.in):n], rights)
		if perr := c.keep(rights[:oobn]); perr != nil {
			return perr
		}
		c.in = c.in[:len(c.in)+max(got, 0)]
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case flags&unix.MSG_CTRUNC != 0:
			return fmt.Errorf("%w: too many descriptors", ErrMessage)
		case got == 0 && len(c.in) == 0:
			return io.EOF
		case got == 0:
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// keep takes the descriptors out of a control message.
func (c *Conn) keep(oob []byte) error {
	if len(oob) == 0 {
		return nil
	}
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	for i := range all {
		fds, err := unix.ParseUnixRights(&all[i])
		if err != nil {
			continue // of another kind
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			c.files = append(c.files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	if len(c.files) > maxFiles {
		return fmt.Errorf("%w: %d descriptors", ErrMessage, len(c.files))
	}
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // nothing was written
	}
}

// Settle waits for Taken, and returns whether it came; the deadline bounds it. It is decided once and for both: when Settle returns false the
// other side can never send Taken any more, because this one's end of the socket is shut (unix_stream_sendmsg in net/unix/af_unix.c
// looks at that and queues the message under one lock), so whoever was told false goes on and whoever has sent Taken goes on, and never
// both, whatever else becomes of the other process.
func (c *Conn) Settle() (taken bool, err error) {
	_, err = c.Receive(KindTaken, &Taken{}, 0)
	if err == nil {
		return true, nil
	}
	if serr := c.c.CloseRead(); serr != nil {
		// Only a socket that is not connected any more cannot be shut: the other end has been closed.
		err = errors.Join(err, serr)
	}
	// What was queued before is still there.
	if derr := c.c.SetReadDeadline(time.Now().Add(time.Second)); derr != nil {
		return false, errors.Join(err, derr)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if _, again := c.Receive(KindTaken, &Taken{}, 0); again == nil {
			return true, nil
		}
	}
	return false, err
}
