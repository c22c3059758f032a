// SPDX-License-Identifier: Apache-2.0

package trace

import "fmt"

// Identifiers of the simulated BMS.
const (
	PackCurrentID = 0x102
	PackSOCID     = 0x302
	PackArrayID   = 0x6F2
)

// Layout of the array: byte 0 is the multiplexor, the other seven bytes hold
// four values of 14 bits.
const (
	arrayMuxBits   = 8
	arrayValueBits = 14
	valuesPerMux   = 4
	cellMuxes      = PackCells / valuesPerMux
)

// Physical values of one bit.
const (
	packVoltageBit = 0.01     // V
	packCurrentBit = 0.1      // A
	socBit         = 0.01     // %
	energyBit      = 0.01     // kWh
	cellVoltageBit = 0.000305 // V
	temperatureBit = 0.0122   // degC
)

// PackLayout returns the messages of a pack with these options in the order in
// which a cycle sends them. All are classic frames with 11-bit identifiers and
// little-endian signals; all values are sent every 100 ms.
//
//	0x102  bits  0-15  pack voltage            0.01 V
//	       bits 16-31  pack current, signed    0.1 A, positive into the pack, mean of the cycle
//	       bits 32-47  current now, signed     0.1 A, with the ripple of the inverter
//	0x302  bits  0-15  state of charge         0.01 %
//	       bits 16-31  of the emptiest cell    0.01 %
//	       bits 32-47  energy in the cells     0.01 kWh
//	0x6F2  bits  0-7   multiplexor m, 0 to 31
//	       bits  8-63  m 0-23: cells 4m+1 to 4m+4, 14 bits each, 0.000305 V
//	                   m 24-31: temperatures 4(m-24)+1 and so on, 14 bits each, signed, 0.0122 degC
//
// 0x102 and 0x6F2 are laid out as in a Tesla Model S, which sends one
// multiplexor value in 100 ms; here all 32 go in each cycle, so that every cell
// has the rate of the security policy. With TemperatureID, multiplexor values
// 24 to 31 go on that identifier instead.
func PackLayout(o PackOptions) ([]Message, error) {
	switch id := o.TemperatureID; {
	case id > MaxStandardID:
		return nil, fmt.Errorf("%w: temperature identifier %#x exceeds 11 bits", ErrPackOptions, id)
	case id == PackCurrentID || id == PackSOCID || id == PackArrayID:
		return nil, fmt.Errorf("%w: temperature identifier %#x is taken", ErrPackOptions, id)
	}
	current := Message{
		Name: "PackCurrent", Source: "pack_current", ID: PackCurrentID,
		Length: 6, Period: PackCycle, Frames: 1,
		Signals: []Signal{
			{Name: "pack_voltage", Length: 16, Scale: packVoltageBit, Unit: "V"},
			{Name: "pack_current", StartBit: 16, Length: 16, Signed: true, Scale: packCurrentBit, Unit: "A"},
			{Name: "pack_current_now", StartBit: 32, Length: 16, Signed: true, Scale: packCurrentBit, Unit: "A"},
		},
	}
	soc := Message{
		Name: "PackSOC", Source: "estimated_soc", ID: PackSOCID,
		Length: 6, Period: PackCycle, Frames: 1,
		Signals: []Signal{
			{Name: "soc", Length: 16, Scale: socBit, Unit: "%"},
			{Name: "soc_min", StartBit: 16, Length: 16, Scale: socBit, Unit: "%"},
			{Name: "energy", StartBit: 32, Length: 16, Scale: energyBit, Unit: "kWh"},
		},
	}
	cells := arrayMessage("PackArray", "cell_voltage_array", PackArrayID)
	for i := range PackCells {
		cells.addArrayValue(Signal{
			Name: fmt.Sprintf("cell_voltage_%02d", i+1), Scale: cellVoltageBit, Unit: "V",
		}, i/valuesPerMux, i%valuesPerMux)
	}
	temperatures := &cells
	if o.TemperatureID != 0 {
		split := arrayMessage("PackTemperatures", "temperature_sensors", o.TemperatureID)
		temperatures = &split
	}
	for i := range PackTemperatures {
		temperatures.addArrayValue(Signal{
			Name: fmt.Sprintf("temperature_%02d", i+1), Signed: true, Scale: temperatureBit, Unit: "degC",
		}, cellMuxes+i/valuesPerMux, i%valuesPerMux)
	}
	layout := []Message{current, soc, cells}
	if temperatures != &cells {
		layout = append(layout, *temperatures)
	}
	return layout, nil
}

func arrayMessage(name, source string, id uint32) Message {
	return Message{
		Name: name, Source: source, ID: id, Length: 8, Period: PackCycle,
		Signals: []Signal{{Name: "mux", Length: arrayMuxBits, Scale: 1, Multiplexor: true}},
	}
}

func (m *Message) addArrayValue(s Signal, mux, at int) {
	s.Multiplexed, s.Mux = true, uint64(mux)
	s.StartBit, s.Length = arrayMuxBits+at*arrayValueBits, arrayValueBits
	m.Signals = append(m.Signals, s)
	if at == 0 {
		m.Frames++
	}
}

// packValues are the values of one cycle in the units of the signals.
type packValues struct {
	voltage, current, currentNow float64
	soc, minSOC, energy          float64
	cells                        [PackCells]float64
	temperatures                 [PackTemperatures]float64
}

// packSlot is one frame of a cycle.
type packSlot struct {
	id     uint32
	length uint8
	fields []packField
}

type packField struct {
	signal Signal
	value  func(*packValues) float64
}

func (s *packSlot) encode(v *packValues, body []byte) {
	for i := range s.fields {
		s.fields[i].signal.put(body, s.fields[i].value(v))
	}
}

// packSlots cuts the messages of a layout into the frames of a cycle.
func packSlots(layout []Message) []packSlot {
	var slots []packSlot
	for _, m := range layout {
		bySlot := make(map[uint64]*packSlot)
		var order []uint64
		slot := func(mux uint64) *packSlot {
			if bySlot[mux] == nil {
				bySlot[mux] = &packSlot{id: m.ID, length: uint8(m.Length)}
				order = append(order, mux)
			}
			return bySlot[mux]
		}
		for _, s := range m.Signals {
			if s.Multiplexor {
				continue
			}
			to := slot(s.Mux)
			if s.Multiplexed && len(to.fields) == 0 {
				mux := float64(s.Mux)
				to.fields = append(to.fields, packField{m.Signals[0], func(*packValues) float64 { return mux }})
			}
			to.fields = append(to.fields, packField{s, packValue(s)})
		}
		for _, mux := range order {
			slots = append(slots, *bySlot[mux])
		}
	}
	return slots
}

// packValue says where the value of a signal comes from.
func packValue(s Signal) func(*packValues) float64 {
	switch s.Name {
	case "pack_voltage":
		return func(v *packValues) float64 { return v.voltage }
	case "pack_current":
		return func(v *packValues) float64 { return v.current }
	case "pack_current_now":
		return func(v *packValues) float64 { return v.currentNow }
	case "soc":
		return func(v *packValues) float64 { return v.soc }
	case "soc_min":
		return func(v *packValues) float64 { return v.minSOC }
	case "energy":
		return func(v *packValues) float64 { return v.energy }
	}
	at := (s.StartBit - arrayMuxBits) / arrayValueBits
	if mux := int(s.Mux); mux < cellMuxes {
		i := mux*valuesPerMux + at
		return func(v *packValues) float64 { return v.cells[i] }
	}
	i := (int(s.Mux)-cellMuxes)*valuesPerMux + at
	return func(v *packValues) float64 { return v.temperatures[i] }
}
