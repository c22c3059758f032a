// SPDX-License-Identifier: Apache-2.0

// Command edhocpeer plays one side of an EDHOC exchange (RFC 9528), so that any other implementation can be run against
// crypto/edhoc.
//
//	edhocpeer -role responder -listen /tmp/edhoc.sock -suite 24 -key gw.pem -cred ccs:gateway -id kid:01 -peer hex:a202...
//	edhocpeer -role initiator -connect /tmp/edhoc.sock -suite 24 -key node.pem -cred ccs:node -id kid:02 -peer gw.ccs
//
// Messages go over a Unix socket, or over standard input and output when neither -listen nor -connect is given: each is
// a u16, little-endian, with its length, and its bytes. An error message is framed in the same way; it begins with a
// CBOR integer where message_2 to message_4 begin with a byte string.
//
// The result is one "name value" line each for the selected suite, the peer's identifier, TH_4 and the exported secret,
// in hex, on standard output, or on standard error when standard output carries the messages. Exit status: 0 done, 1
// the exchange failed, 2 usage.
//
// It is a tool for tests: it can use fixed ephemeral keys and prints a secret. It may import crypto/edhoc.
package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cellward/cellward/crypto/edhoc"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// errUsage marks an error in the arguments.
var errUsage = errors.New("usage")

// options are the parsed arguments.
type options struct {
	role            string
	listen, connect string
	method          int
	suites          []int
	peerSuites      []int
	pin             bool
	key             string
	cred            string
	id              string
	peers           []string
	roots           string
	connectionID    string
	ephemeral       string
	label           uint64
	context         string
	length          int
	message4        bool
	timeout         time.Duration
	eads            []string
	eadLabels       []int64
}

// list collects a flag that may be given more than once.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	var suites, peerSuites, eadLabels string
	var peers, eads list
	f := flag.NewFlagSet("edhocpeer", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.role, "role", "", "initiator or responder")
	f.StringVar(&o.listen, "listen", "", "Unix socket to listen on, for one exchange")
	f.StringVar(&o.connect, "connect", "", "Unix socket to connect to")
	f.IntVar(&o.method, "method", 0, "authentication method, 0 to 3")
	f.StringVar(&suites, "suite", "24", "cipher suites, comma-separated, the Initiator's in order of preference")
	f.StringVar(&peerSuites, "peer-suites", "", "what an Initiator knows of the Responder's suites, comma-separated")
	f.BoolVar(&o.pin, "pin", false, "one suite only: report SUITES_R and never follow it")
	f.StringVar(&o.key, "key", "", "own private key: a PKCS #8 PEM file, or hex:SCALAR on the curve of the last suite")
	f.StringVar(&o.cred, "cred", "", "own credential: ccs:NAME (made from the key), hex:CCS, a CCS file, or a certificate in PEM or DER")
	f.StringVar(&o.id, "id", "", "how the credential is referred to: kid:HEX, x5t or x5chain")
	f.Var(&peers, "peer", "a credential to accept: hex:CCS, a CCS file, or a certificate in PEM or DER; may be repeated")
	f.StringVar(&o.roots, "roots", "", "PEM file of root certificates: accept every x5chain that ends there")
	f.StringVar(&o.connectionID, "cid", "", "own connection identifier in hex; default: a random one-byte one")
	f.StringVar(&o.ephemeral, "ephemeral", "", "fixed ephemeral private key in hex, to reproduce a trace")
	f.Uint64Var(&o.label, "label", 0, "exporter label")
	f.StringVar(&o.context, "context", "", "exporter context in hex")
	f.IntVar(&o.length, "length", 32, "length of the exported secret in bytes")
	f.BoolVar(&o.message4, "message4", true, "message_4 is part of the exchange")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "for the whole exchange over a socket")
	f.Var(&eads, "ead", "EAD item to send, MESSAGE:LABEL[:HEX], a negative label for a critical one; may be repeated")
	f.StringVar(&eadLabels, "ead-labels", "", "labels of the critical EAD items to accept, comma-separated")
	if err := f.Parse(args); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	o.peers, o.eads = peers, eads
	var err error
	if o.suites, err = integers[int]("-suite", suites); err != nil {
		return nil, err
	}
	if o.peerSuites, err = integers[int]("-peer-suites", peerSuites); err != nil {
		return nil, err
	}
	if o.eadLabels, err = integers[int64]("-ead-labels", eadLabels); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("%w: unexpected argument %q", errUsage, f.Arg(0))
	case o.role != "initiator" && o.role != "responder":
		return nil, fmt.Errorf("%w: -role is initiator or responder", errUsage)
	case o.listen != "" && o.connect != "":
		return nil, fmt.Errorf("%w: -listen or -connect, not both", errUsage)
	case o.key == "" || o.cred == "" || o.id == "":
		return nil, fmt.Errorf("%w: -key, -cred and -id are needed", errUsage)
	case len(o.suites) == 0:
		return nil, fmt.Errorf("%w: -suite is empty", errUsage)
	case len(o.peers) == 0 && o.roots == "":
		return nil, fmt.Errorf("%w: -peer or -roots is needed", errUsage)
	}
	return o, nil
}

// integers reads a comma-separated list.
func integers[T int | int64](name, list string) ([]T, error) {
	if list == "" {
		return nil, nil
	}
	var out []T
	for _, s := range strings.Split(list, ",") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %s %q", errUsage, name, s)
		}
		out = append(out, T(n))
	}
	return out, nil
}

// run is main with its environment handed in.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err == nil {
		err = o.play(stdin, stdout, stderr)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 2
	}
	fmt.Fprintln(stderr, "edhocpeer:", err)
	var refused *edhoc.Error
	if errors.Is(err, errUsage) || errors.Is(err, edhoc.ErrConfig) && !errors.As(err, &refused) {
		return 2
	}
	return 1
}

// stdio is a connection over standard input and output.
type stdio struct {
	io.Reader
	io.Writer
}

// play connects and runs the exchange.
func (o *options) play(stdin io.Reader, stdout, stderr io.Writer) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	eads, err := parseEADs(o.eads)
	if err != nil {
		return err
	}
	context, err := hex.DecodeString(o.context)
	if err != nil {
		return fmt.Errorf("%w: -context: %w", errUsage, err)
	}
	var conn io.ReadWriter
	switch {
	case o.listen != "":
		l, err := net.Listen("unix", o.listen)
		if err != nil {
			return err
		}
		defer l.Close()
		if err := l.(*net.UnixListener).SetDeadline(time.Now().Add(o.timeout)); err != nil {
			return err
		}
		c, err := l.Accept()
		if err != nil {
			return err
		}
		defer c.Close()
		conn = c
	case o.connect != "":
		c, err := net.DialTimeout("unix", o.connect, o.timeout)
		if err != nil {
			return err
		}
		defer c.Close()
		conn = c
	default:
		conn, stdout = stdio{stdin, stdout}, stderr
	}
	if c, ok := conn.(net.Conn); ok {
		if err := c.SetDeadline(time.Now().Add(o.timeout)); err != nil {
			return err
		}
	}

	var s *edhoc.Session
	if o.role == "initiator" {
		s, err = initiate(conn, cfg, eads)
	} else {
		s, err = respond(conn, cfg, eads)
	}
	if err != nil {
		return err
	}
	defer s.Close()
	secret, err := s.Exporter(o.label, context, o.length)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "suite %d\npeer %v\nTH_4 %x\nsecret %x\n", s.Suite().ID, s.Peer().ID, s.TH4(), secret)
	return err
}

// initiate runs the Initiator's side; after error code 2 it tries once more with the suite that it then selects, on the
// same connection.
func initiate(conn io.ReadWriter, cfg edhoc.Config, eads map[int][]edhoc.EAD) (*edhoc.Session, error) {
	i, err := edhoc.NewInitiator(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = i.Close() }()
	var m2 []byte
	for attempt := 1; ; attempt++ {
		m1, err := i.Message1(eads[1]...)
		if err != nil {
			return nil, err
		}
		if m2, err = ask(conn, m1); err != nil {
			return nil, err
		}
		if !edhoc.IsError(m2) {
			break
		}
		m, err := i.Error(m2)
		if err != nil {
			return nil, err
		}
		if m.Code != edhoc.CodeWrongSuite || attempt > 1 {
			return nil, m
		}
		next, err := i.Renegotiate(m)
		if err != nil {
			return nil, err
		}
		i = next
	}
	if _, err := i.Message2(m2); err != nil {
		return nil, refuse(conn, i.ErrorReply(err), err)
	}
	m3, err := i.Message3(eads[3]...)
	if err != nil {
		return nil, refuse(conn, i.ErrorReply(err), err)
	}
	if !cfg.Message4 {
		if err := writeFrame(conn, m3); err != nil {
			return nil, err
		}
		return i.Session()
	}
	m4, err := ask(conn, m3)
	if err != nil {
		return nil, err
	}
	if edhoc.IsError(m4) {
		m, err := i.Error(m4)
		if err != nil {
			return nil, err
		}
		return nil, m
	}
	if _, err := i.Message4(m4); err != nil {
		return nil, refuse(conn, i.ErrorReply(err), err)
	}
	return i.Session()
}

// respond runs the Responder's side; an Initiator that selected another suite may try once more.
func respond(conn io.ReadWriter, cfg edhoc.Config, eads map[int][]edhoc.EAD) (*edhoc.Session, error) {
	var r *edhoc.Responder
	for attempt := 1; ; attempt++ {
		m1, err := readFrame(conn)
		if err != nil {
			return nil, err
		}
		if r, err = edhoc.NewResponder(cfg); err != nil {
			return nil, err
		}
		defer func() { _ = r.Close() }()
		if _, err = r.Message1(m1); err == nil {
			break
		}
		reply := r.ErrorReply(err)
		again := errors.Is(err, edhoc.CheckSuite) || errors.Is(err, edhoc.CheckSuiteOrder)
		if !again || attempt > 1 {
			return nil, refuse(conn, reply, err)
		}
		if err := writeFrame(conn, reply); err != nil {
			return nil, err
		}
	}
	m2, err := r.Message2(eads[2]...)
	if err != nil {
		return nil, refuse(conn, r.ErrorReply(err), err)
	}
	m3, err := ask(conn, m2)
	if err != nil {
		return nil, err
	}
	if edhoc.IsError(m3) {
		m, err := r.Error(m3)
		if err != nil {
			return nil, err
		}
		return nil, m
	}
	if _, err := r.Message3(m3); err != nil {
		return nil, refuse(conn, r.ErrorReply(err), err)
	}
	if cfg.Message4 {
		m4, err := r.Message4(eads[4]...)
		if err != nil {
			return nil, refuse(conn, r.ErrorReply(err), err)
		}
		if err := writeFrame(conn, m4); err != nil {
			return nil, err
		}
	}
	return r.Session()
}

// ask sends a message and waits for the next.
func ask(conn io.ReadWriter, msg []byte) ([]byte, error) {
	if err := writeFrame(conn, msg); err != nil {
		return nil, err
	}
	return readFrame(conn)
}

// refuse answers by an error message, where there is one, and returns the reason.
func refuse(conn io.Writer, reply []byte, reason error) error {
	if reply == nil {
		return reason
	}
	return errors.Join(reason, writeFrame(conn, reply))
}
