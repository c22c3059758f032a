// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCANErrorState(t *testing.T) {
	crtl := func(b byte) CANError { return CANError{Class: unix.CAN_ERR_CRTL, Data: [8]byte{0, b}} }
	for _, tt := range []struct {
		name string
		e    CANError
		want CANState
		text string
	}{
		{"bus-off", CANError{Class: unix.CAN_ERR_BUSOFF}, CANBusOff, "bus_off"},
		{"bus-off and counters", CANError{Class: unix.CAN_ERR_BUSOFF | unix.CAN_ERR_CNT, Data: [8]byte{0, 0, 0, 0, 0, 0, 248, 0}}, CANBusOff, "bus_off"},
		{"restarted", CANError{Class: unix.CAN_ERR_RESTARTED}, CANErrorActive, "error_active"},
		{"receiver warning", crtl(unix.CAN_ERR_CRTL_RX_WARNING), CANErrorWarning, "error_warning"},
		{"transmitter warning", crtl(unix.CAN_ERR_CRTL_TX_WARNING), CANErrorWarning, "error_warning"},
		{"receiver passive", crtl(unix.CAN_ERR_CRTL_RX_PASSIVE), CANErrorPassive, "error_passive"},
		{"transmitter passive, receiver warning", crtl(unix.CAN_ERR_CRTL_TX_PASSIVE | unix.CAN_ERR_CRTL_RX_WARNING), CANErrorPassive, "error_passive"},
		{"active again", crtl(unix.CAN_ERR_CRTL_ACTIVE), CANErrorActive, "error_active"},
		{"overflow", crtl(unix.CAN_ERR_CRTL_RX_OVERFLOW), CANStateUnknown, ""},
		{"lost arbitration", CANError{Class: unix.CAN_ERR_LOSTARB}, CANStateUnknown, ""},
	} {
		if got := tt.e.State(); got != tt.want || got.String() != tt.text {
			t.Errorf("%s: %v %q, want %v %q", tt.name, got, got.String(), tt.want, tt.text)
		}
	}
	if CANState(200).String() != "" || CANSleeping.String() != "sleeping" || canStateOf(5) != CANSleeping || canStateOf(1<<31) != CANStateUnknown {
		t.Error("a number beyond the states has a name")
	}
}

// Of all frames only error frames of the wanted classes come out, also behind the filter, and also after the interface was down.
func TestCANErrors(t *testing.T) {
	l := newLab(t, "")
	c := must[*CANErrors](t)(OpenCANErrors(l.ns, labDevice, l.bus.Index()))
	defer c.Close()
	got := make(chan CANError, 10)
	ended := make(chan error, 1)
	go func() {
		for {
			e, err := c.Receive()
			if err != nil {
				ended <- err
				return
			}
			got <- e
		}
	}()
	next := func() CANError {
		t.Helper()
		select {
		case e := <-got:
			return e
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(20 * time.Second):
			t.Fatal("no error frame")
		}
		return CANError{}
	}
	send := func(id uint32, data ...byte) {
		t.Helper()
		f := &CANFrame{ID: id, Len: 8}
		copy(f.Data[:], data)
		ok(t, l.device.WriteCAN(f, CANMTU))
	}
	ok(t, l.device.WriteCAN(fdFrame(0x200|CANERRFlag|unix.CAN_ERR_BUSOFF, 8, header{}), CANFDMTU))
	send(0x200)
	send(unix.CAN_ERR_BUSOFF) // an identifier that looks like the class
	send(CANERRFlag | unix.CAN_ERR_ACK)
	send(CANERRFlag|unix.CAN_ERR_CRTL, 0, unix.CAN_ERR_CRTL_TX_PASSIVE)
	if e := next(); e.State() != CANErrorPassive || e.Class != unix.CAN_ERR_CRTL {
		t.Errorf("got %+v", e)
	}
	inLinks(t, l.ns, func(links *Links) {
		ok(t, errors.Join(links.SetDown(l.bus.Index()), links.SetUp(l.bus.Index())))
	})
	send(CANERRFlag | unix.CAN_ERR_BUSOFF)
	if e := next(); e.State() != CANBusOff {
		t.Errorf("got %+v", e)
	}
	if len(got) != 0 {
		t.Errorf("%d more frames", len(got))
	}
	ok(t, c.Close())
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Receive after Close: %v", err)
	}
}

func FuzzParseCANError(f *testing.F) {
	f.Add((&CANFrame{ID: CANERRFlag | unix.CAN_ERR_BUSOFF, Len: 8}).view(CANMTU))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ok := parseCANError(b)
		if ok && (len(b) != CANMTU || e.Class&canErrorClasses == 0) {
			t.Errorf("%x became %+v", b, e)
		}
	})
}
