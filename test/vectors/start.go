// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/cellward/cellward/crypto/schedule"
	"github.com/cellward/cellward/crypto/spdu"
)

// startRecord is a start record, PDU of kind 3.
type startRecord struct {
	Name     string `json:"name"`
	Form     string `json:"form"`
	StreamID uint32 `json:"stream_id"`
	Epoch    uint32 `json:"epoch"`
	F        uint64 `json:"f"`
	Start    string `json:"start"`
	MACKey   string `json:"mac_key"`
	MACInput string `json:"mac_input"`
	MAC      string `json:"mac"`
	SPDU     string `json:"spdu"`
}

func makeStartRecords(f *file) error {
	var key schedule.StartKey
	if err := schedule.Start(prkA(), epochA, &key); err != nil {
		return err
	}
	for _, c := range []struct {
		name   string
		form   string
		stream uint32
		first  uint64
		start  *[schedule.StartSize]byte
	}{
		{"CAN FD", nameFD, heartbeatStream, secondF, secondStart()},
		{"the same start on the node's other bus", nameFD, secondHeartbeat, secondF, secondStart()},
		{"CAN FD, highest F", nameFD, heartbeatStream, spdu.MaxCounter, thirdStart()},
		{"generic form, no padding", nameGeneric, heartbeatStream, secondF, secondStart()},
	} {
		form, err := formOf(c.form)
		if err != nil {
			return err
		}
		record := make([]byte, spdu.MaxRecord)
		n, err := spdu.PutStart(record, form, spdu.ID{Stream: c.stream, Epoch: epochA, Counter: c.first}, c.start, &key)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		f.StartRecords = append(f.StartRecords, startRecord{
			Name: c.name, Form: c.form, StreamID: c.stream, Epoch: epochA, F: c.first, Start: x(c.start[:]), MACKey: x(key[:]),
			MACInput: x(record[:n-spdu.TagSize]), MAC: x(record[n-spdu.TagSize : n]), SPDU: x(record[spdu.PrefixSize:n]),
		})
	}
	return nil
}
