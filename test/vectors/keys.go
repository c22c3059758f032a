// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"

	"github.com/cellward/cellward/crypto/schedule"
)

// trafficKey is key and IV of one source in one start of an epoch.
type trafficKey struct {
	Name     string `json:"name"`
	PRK      string `json:"prk"`
	SourceID uint32 `json:"source_id"`
	Epoch    uint32 `json:"epoch"`
	Start    string `json:"start"`
	Info     string `json:"info"`
	OKM      string `json:"okm"`
	Key      string `json:"key"`
	IV       string `json:"iv"`
}

// epochKey is a key that one epoch has once: for start records or for control datagrams.
type epochKey struct {
	Name  string `json:"name"`
	PRK   string `json:"prk"`
	Epoch uint32 `json:"epoch"`
	Info  string `json:"info"`
	Key   string `json:"key"`
}

// The installation that the vectors speak of: one node in its epoch 66,051, which has started twice, and in the next one.
// Ids and epochs have four different bytes each where a wrong byte order would otherwise pass unseen.
const (
	epochA = 0x00010203
	epochB = 0x00010204

	cellVoltages = 0x0A0B0C0D // source ids
	packCurrent  = 1

	voltageStream   = 0x01020304 // stream ids
	currentStream   = 0x11121314
	heartbeatStream = 0x21222324
	secondHeartbeat = 0x31323334

	// The first counters F of the two starts: a run reserves blocks of 65,536.
	firstF  = 1
	secondF = 65537
)

func prkA() *schedule.PRK { return (*schedule.PRK)(count(0x00, schedule.PRKSize)) }
func prkB() *schedule.PRK { return (*schedule.PRK)(count(0x40, schedule.PRKSize)) }

func firstStart() *[schedule.StartSize]byte {
	return (*[schedule.StartSize]byte)(count(0xA0, schedule.StartSize))
}
func secondStart() *[schedule.StartSize]byte {
	return (*[schedule.StartSize]byte)(count(0xB0, schedule.StartSize))
}
func thirdStart() *[schedule.StartSize]byte {
	return (*[schedule.StartSize]byte)(count(0xC0, schedule.StartSize))
}

// keyRef is what a traffic key hangs on.
type keyRef struct {
	name   string
	prk    *schedule.PRK
	source uint32
	epoch  uint32
	start  *[schedule.StartSize]byte
}

func voltagesFirst() keyRef {
	return keyRef{"cell voltages, first start", prkA(), cellVoltages, epochA, firstStart()}
}

func voltagesSecond() keyRef {
	return keyRef{"cell voltages, second start", prkA(), cellVoltages, epochA, secondStart()}
}

func currentSecond() keyRef {
	return keyRef{"pack current, second start", prkA(), packCurrent, epochA, secondStart()}
}

func heartbeatFirst() keyRef {
	return keyRef{"heartbeats, first start", prkA(), schedule.HeartbeatSource, epochA, firstStart()}
}

func heartbeatSecond() keyRef {
	return keyRef{"heartbeats, second start", prkA(), schedule.HeartbeatSource, epochA, secondStart()}
}

func voltagesNext() keyRef {
	return keyRef{"cell voltages, next epoch", prkB(), cellVoltages, epochB, thirdStart()}
}

func (r keyRef) derive() (*schedule.TrafficKey, error) {
	tk := new(schedule.TrafficKey)
	if err := schedule.Traffic(r.prk, r.source, r.epoch, r.start, tk); err != nil {
		return nil, err
	}
	return tk, nil
}

func (r keyRef) vector() (trafficKey, error) {
	tk, err := r.derive()
	if err != nil {
		return trafficKey{}, err
	}
	info := []byte("cellward v1 traffic")
	info = binary.LittleEndian.AppendUint32(info, r.source)
	info = binary.LittleEndian.AppendUint32(info, r.epoch)
	info = append(info, r.start[:]...)
	return trafficKey{
		Name: r.name, PRK: x(r.prk[:]), SourceID: r.source, Epoch: r.epoch, Start: x(r.start[:]),
		Info: x(info), OKM: x(tk.Key[:]) + x(tk.IV[:]), Key: x(tk.Key[:]), IV: x(tk.IV[:]),
	}, nil
}

func makeTrafficKeys(f *file) error {
	for _, r := range []keyRef{
		voltagesFirst(), voltagesSecond(), currentSecond(), heartbeatFirst(), heartbeatSecond(), voltagesNext(),
	} {
		v, err := r.vector()
		if err != nil {
			return err
		}
		f.TrafficKeys = append(f.TrafficKeys, v)
	}
	return nil
}

func makeEpochKeys(f *file) error {
	for _, c := range []struct {
		name  string
		prk   *schedule.PRK
		epoch uint32
	}{
		{"first epoch", prkA(), epochA},
		{"next epoch", prkB(), epochB},
	} {
		var start schedule.StartKey
		if err := schedule.Start(c.prk, c.epoch, &start); err != nil {
			return err
		}
		var control schedule.ControlKey
		if err := schedule.Control(c.prk, c.epoch, &control); err != nil {
			return err
		}
		v := epochKey{Name: c.name, PRK: x(c.prk[:]), Epoch: c.epoch}
		v.Info, v.Key = x(binary.LittleEndian.AppendUint32([]byte("cellward v1 start"), c.epoch)), x(start[:])
		f.StartKeys = append(f.StartKeys, v)
		v.Info, v.Key = x(binary.LittleEndian.AppendUint32([]byte("cellward v1 control"), c.epoch)), x(control[:])
		f.ControlKeys = append(f.ControlKeys, v)
	}
	return nil
}
