# SPDX-License-Identifier: Apache-2.0
"""Reader of the ring in which the cellward agent publishes verified samples.

    import cellward_ring

    with cellward_ring.open() as ring:
        for sample in ring:                       # ends with the producer
            print(sample.stream.name, sample.values())

One file, Python 3.9 or later, Linux on 64-bit machines, nothing but the standard library. With numpy, Reader.next_array
and Stream.decode_array work on whole batches. The memory that it reads is defined in docs/ring.md.

Memory order. A sample is whole if the loads of the copy happen before the second look at the intent. Processors with
total store order (x86-64, s390x) keep loads in order, and Python's own calls keep the compiler from moving them. All
others, arm64 first of all, need load instructions that Python does not have: there this module makes its loads through
the C reader, compiled as a library,

    cc -O2 -shared -fPIC -DCELLWARD_RING_IMPLEMENTATION -x c cellward_ring.h -o libcellward_ring.so -pthread

which it looks for in the environment variable CELLWARD_RING_LIBRARY, beside this file, and among the system's
libraries. Without it open() fails there. A library that is named, as an argument or in the environment, is used on any
machine.

Waiting needs no polling: futex_waitv(2) on the tail through ctypes, and a thread that watches the connection. Where
that is not to be had (no ctypes, Linux before 5.16, a sandbox) the reader sleeps on the connection for 1 to 20 ms at a
time between two looks at the tail.

A Reader belongs to one thread at a time; interrupt() may be called from any. Times are nanoseconds of CLOCK_BOOTTIME.
"""

import fcntl
import hashlib
import math
import mmap
import os
import platform
import select
import socket
import struct
import sys
import threading
import time
import zlib
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

try:
    import ctypes
    import ctypes.util
except ImportError:  # a Python without libffi
    ctypes = None
try:
    import numpy
except ImportError:
    numpy = None

DEFAULT_SOCKET = "/run/cellward/ring.sock"
MAJOR_VERSION = 1
MINOR_VERSION = 0

FLAG_GAP_BEFORE = 1  # at least one counter of the stream before this one was not published
FLAG_FIRST_OF_EPOCH = 2
FLAG_STALE = 4  # the sample was delayed on its way
FLAG_FAULT = 8  # a security fault of the stream's source stood when the sample was published
FLAG_NAMES = ("gap_before", "first_of_epoch", "stale", "fault")
FAULT_NAMES = ("ok", "suspect", "fault", "latched")
FAULT_CAUSES = ("forgeable", "authenticated", "local")
_FAULT_MINOR = 2  # from which on there is a fault record
SENSITIVITIES = ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "CRITICAL")
EXTENDED_ID = 1 << 31  # set in Stream.can_id for a 29-bit identifier

# Structure -> (size, fields as (name, struct format, offset)); the table of docs/ring.md.
LAYOUT = {
    "hello": (32, (
        ("magic", "8s", 0), ("major", "H", 8), ("minor", "H", 10), ("status", "I", 12), ("generation", "Q", 16),
        ("file_size", "Q", 24),
    )),
    "header": (1024, (
        ("magic", "8s", 0), ("endian_tag", "I", 8), ("major", "H", 12), ("minor", "H", 14), ("header_length", "I", 16),
        ("clock_id", "I", 20), ("generation", "Q", 24), ("file_size", "Q", 32), ("created_ns", "q", 40),
        ("heartbeat_period_ns", "Q", 48), ("producer_pid", "I", 56), ("body_max", "I", 60), ("slots_offset", "Q", 64),
        ("slot_size", "I", 72), ("slot_count", "I", 76), ("latest_offset", "Q", 80), ("latest_size", "I", 88),
        ("stream_count", "I", 92), ("streams_offset", "Q", 96), ("stream_size", "I", 104), ("signal_count", "I", 108),
        ("signals_offset", "Q", 112), ("signal_size", "I", 120), ("strings_length", "I", 124),
        ("strings_offset", "Q", 128), ("checksum", "I", 136), ("state", "I", 256), ("intent", "Q", 512),
        ("tail", "Q", 640), ("heartbeat", "q", 768), ("fault", "Q", 896), ("record_begin", "Q", 904),
        ("record_end", "Q", 912), ("record_time", "q", 920), ("record_causes", "I", 928), ("record_sources", "I", 932),
        ("record_source_ids", "4I", 936), ("record_kinds", "I", 952), ("record_kind", "6H", 956),
        ("record_count", "6Q", 968),
    )),
    "stream": (128, (
        ("stream_id", "I", 0), ("source_id", "I", 4), ("can_id", "I", 8), ("first_signal", "I", 12),
        ("signal_count", "I", 16), ("sensitivity", "B", 20), ("period_ns", "Q", 24), ("name_offset", "I", 32),
        ("name_length", "I", 36), ("source_offset", "I", 40), ("source_length", "I", 44), ("interface_offset", "I", 48),
        ("interface_length", "I", 52), ("schema_hash", "32s", 64),
    )),
    "signal": (64, (
        ("name_offset", "I", 0), ("name_length", "I", 4), ("unit_offset", "I", 8), ("unit_length", "I", 12),
        ("start", "H", 16), ("length", "H", 18), ("byte_order", "B", 20), ("value_type", "B", 21),
        ("multiplexor", "I", 24), ("mux_value", "I", 28), ("factor", "d", 32), ("offset", "d", 40),
    )),
    "slot": (48, (
        ("marker", "Q", 0), ("stream", "I", 8), ("epoch", "I", 12), ("counter", "Q", 16), ("source_time", "I", 24),
        ("flags", "H", 28), ("length", "H", 30), ("receive_time", "q", 32), ("publish_time", "q", 40),
    )),
    "latest": (56, (("begin", "Q", 0), ("slot", "48s", 8))),
}

# The low half of the tail, which is the futex word.
TAIL_FUTEX_OFFSET = 640 if sys.byteorder == "little" else 644

_MAGIC = b"CELLWARD"
_ENDIAN_TAG = 0x01020304
_CLOCK_BOOTTIME = 7
_STATE_READY, _STATE_CLOSED = 1, 2
_LINE = 64
_ALWAYS = 0xFFFFFFFF  # multiplexor of a signal that is present in every body
_MAX_STREAMS = 4096
_MAX_SIGNALS = 1 << 18
_MAX_STRINGS = 1 << 24
_MAX_SLOTS = 1 << 24
_MAX_BODY = 65535
_MAX_SIZE = 1 << 30
_HOUR = 3600 * 10**9
_UNSIGNED, _SIGNED, _FLOAT32, _FLOAT64 = range(4)
_F_GET_SEALS = 1034
_F_SEAL_SHRINK, _F_SEAL_WRITE, _F_SEAL_FUTURE_WRITE = 0x2, 0x8, 0x10


class RingError(Exception):
    """Base of all errors of this module."""


class ProducerGone(RingError):
    """Everything that the producer published has been read and the producer is no more."""


class ProducerStale(RingError):
    """The producer lives but has neither published nor beaten for too long. The reader stays usable."""


class NotAuthorized(RingError):
    """The server refuses this user and its groups."""


class TooManyReaders(RingError):
    """The server's readers have reached their bound."""


class VersionError(RingError):
    """Unknown layout version."""


class NotSealed(RingError):
    """Memory that somebody could still shrink or write."""


class LatestBusy(RingError):
    """The value was being written at every attempt, or the producer died while it wrote it."""


class LayoutError(RingError):
    """Damaged ring. field is named as in docs/ring.md: streams[3].name_offset."""

    def __init__(self, field: str, reason: str):
        super().__init__("damaged ring: %s: %s" % (field, reason))
        self.field = field


class Signal(NamedTuple):
    """One physical value in a body, with the bit numbering of DBC files."""

    name: str
    unit: str
    start: int  # start bit
    length: int  # bits
    big_endian: bool
    value_type: int  # 0 unsigned, 1 signed, 2 binary32, 3 binary64
    multiplexor: Optional[int]  # index of the signal of the same stream that selects
    mux_value: int  # its raw value with which this one is present
    factor: float  # physical value = raw value * factor + offset
    offset: float
    bytes: int  # how long a body must be to hold the signal


class Value(NamedTuple):
    """One decoded signal."""

    signal: Signal
    raw: int  # bits of the signal; negative for negative signed ones
    physical: float


class Stream:
    """One entry of the stream table: one message identifier of one node on one bus."""

    __slots__ = ("index", "stream_id", "source_id", "name", "source", "interface", "can_id", "period_ns",
                 "sensitivity", "schema_hash", "signals")

    def decode(self, body: bytes) -> List[Value]:
        """The values of all signals that are present in body, in the order of signals.

        A signal is absent when the body ends before it, or when its multiplexor has another value or is absent itself.
        """
        values = []
        selectors: Dict[int, Optional[int]] = {}
        for signal in self.signals:
            if signal.bytes > len(body):
                continue
            mux = signal.multiplexor
            if mux is not None and self._selector(mux, body, selectors) != signal.mux_value:
                continue
            raw = _extract(body, signal)
            physical: float = raw
            if signal.value_type == _SIGNED:
                if raw >> (signal.length - 1):
                    raw -= 1 << signal.length
                physical = raw
            elif signal.value_type == _FLOAT32:
                physical = struct.unpack("=f", struct.pack("=I", raw))[0]
            elif signal.value_type == _FLOAT64:
                physical = struct.unpack("=d", struct.pack("=Q", raw))[0]
            values.append(Value(signal, raw, float(physical) * signal.factor + signal.offset))
        return values

    def values(self, body: bytes) -> Dict[str, float]:
        """Name -> physical value of all signals that are present."""
        return {value.signal.name: value.physical for value in self.decode(body)}

    def _selector(self, index: int, body: bytes, known: Dict[int, Optional[int]]) -> Optional[int]:
        """The raw value of a multiplexor; None if it is absent. Opening the ring has excluded cycles."""
        chain = []
        at: Optional[int] = index
        while at is not None and at not in known:
            chain.append(at)
            at = self.signals[at].multiplexor
        for at in reversed(chain):
            signal = self.signals[at]
            present = signal.bytes <= len(body) and (
                signal.multiplexor is None or known[signal.multiplexor] == signal.mux_value)
            known[at] = _extract(body, signal) if present else None
        return known[index]

    def decode_array(self, records) -> Dict[str, "numpy.ndarray"]:
        """Decodes samples of this stream, as Reader.next_array returns them: name -> float64 each, NaN if absent."""
        if len(records) and not (records["stream"] == self.index).all():
            raise ValueError("decode samples of stream %s: there are others among them" % self.name)
        raws: Dict[int, tuple] = {}
        result = {}
        for at, signal in enumerate(self.signals):
            self._columns(at, records, raws)
            raw, present = raws[at]
            if signal.value_type == _SIGNED:
                shift = numpy.uint64(64 - signal.length)
                physical = ((raw << shift).view(numpy.int64) >> numpy.int64(64 - signal.length)).astype(numpy.float64)
            elif signal.value_type == _FLOAT32:
                physical = raw.astype(numpy.uint32).view(numpy.float32).astype(numpy.float64)
            elif signal.value_type == _FLOAT64:
                physical = raw.view(numpy.float64)
            else:
                physical = raw.astype(numpy.float64)
            result[signal.name] = numpy.where(present, physical * signal.factor + signal.offset, numpy.nan)
        return result

    def _columns(self, index, records, known):
        """Puts the raw values of a signal and where it is present into known, and those of its multiplexors."""
        chain = []
        at = index
        while at is not None and at not in known:
            chain.append(at)
            at = self.signals[at].multiplexor
        for at in reversed(chain):
            signal = self.signals[at]
            present = records["length"] >= signal.bytes
            if signal.multiplexor is not None:
                selector, selected = known[signal.multiplexor]
                present = present & selected & (selector == numpy.uint64(signal.mux_value))
            known[at] = _extract_columns(records["body"], signal), present


class Sample:
    """One verified sample."""

    __slots__ = ("position", "stream", "epoch", "counter", "source_time", "flags", "receive_time", "publish_time",
                 "body")

    def __init__(self, position: int, stream: Stream, epoch: int, counter: int, source_time: int, flags: int,
                 receive_time: int, publish_time: int, body: bytes):
        self.position = position  # counts the samples of a ring from 0
        self.stream = stream
        self.epoch = epoch  # of the key
        self.counter = counter  # of the stream, 48 bits
        self.source_time = source_time  # ms since the start of the node's run, modulo 2**32
        self.flags = flags
        self.receive_time = receive_time  # when the filter saw the frame
        self.publish_time = publish_time
        self.body = body

    def decode(self) -> List[Value]:
        """As Stream.decode."""
        return self.stream.decode(self.body)

    def values(self) -> Dict[str, float]:
        """As Stream.values."""
        return self.stream.values(self.body)

    def flag_names(self) -> List[str]:
        """The words for the flags that are set, lowest bit first."""
        return [name for bit, name in enumerate(FLAG_NAMES) if self.flags >> bit & 1]

    def __repr__(self):
        return "Sample(position=%d, stream=%r, counter=%d, body=%s)" % (
            self.position, self.stream.name, self.counter, self.body.hex())


class FaultRecord(NamedTuple):
    """Which data sources a standing security fault is about and what speaks for it: as much as fits into the ring."""

    time_ns: int  # CLOCK_BOOTTIME when it was so
    causes: Tuple[str, ...]  # of forgeable, authenticated, local
    sources: int  # how many data sources cannot be trusted
    source_ids: Tuple[int, ...]  # at most four of them
    kinds: int  # how many kinds of events speak for it
    events: Tuple[Tuple[int, int], ...]  # at most six: number of the kind, and how many against one source


class Status(NamedTuple):
    """What the header says now."""

    generation: int  # random, another one for each producer
    version: Tuple[int, int]
    producer_pid: int
    created_ns: int
    slot_count: int
    body_max: int
    published: int  # samples since the producer's start
    heartbeat_age_ns: int
    heartbeat_period_ns: int
    fault: str  # ok, suspect, fault, latched
    fault_changes: int
    closed: bool  # the producer ended in an orderly way
    gone: bool  # the connection has ended


# ---- Structures ----


class _Structure:
    """Reads one structure of LAYOUT."""

    def __init__(self, name: str):
        self.size, fields = LAYOUT[name]
        self.offsets = {field: offset for field, _, offset in fields}
        form, at = "=", 0
        for _, code, offset in fields:
            form += "%dx%s" % (offset - at, code)
            at = offset + struct.calcsize("=" + code)
        self._names = [field for field, _, _ in fields]
        self._struct = struct.Struct(form + "%dx" % (self.size - at))

    def read(self, buffer, offset: int = 0) -> dict:
        return dict(zip(self._names, self._struct.unpack_from(buffer, offset)))

    def unpack_from(self, buffer, offset: int) -> tuple:
        return self._struct.unpack_from(buffer, offset)


_HELLO, _HEADER, _STREAM, _SIGNAL, _SLOT, _LATEST = (
    _Structure(name) for name in ("hello", "header", "stream", "signal", "slot", "latest"))
# Native, so that it is one load of an aligned word.
_WORD = struct.Struct("@Q")


def _round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


# ---- Memory ----


class _OrderedMemory:
    """Loads on a processor that keeps loads in order."""

    def __init__(self, mapping: mmap.mmap):
        self._mapping = mapping

    def word(self, offset: int) -> int:
        """One load-acquire of an aligned word."""
        return _WORD.unpack_from(self._mapping, offset)[0]

    def copy(self, offset: int, length: int) -> bytes:
        """A copy that is over before any later load begins."""
        return self._mapping[offset : offset + length]


class _LibraryMemory:
    """Loads through the C reader."""

    def __init__(self, library, address: int):
        self._load = library.cellward_ring_load
        self._load.restype, self._load.argtypes = ctypes.c_uint64, [ctypes.c_void_p]
        self._copy = library.cellward_ring_copy
        self._copy.restype, self._copy.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        self._address = address

    def word(self, offset: int) -> int:
        return self._load(self._address + offset)

    def copy(self, offset: int, length: int) -> bytes:
        words = length // 8  # slots and latest values are whole lines
        buffer = ctypes.create_string_buffer(words * 8)
        self._copy(buffer, self._address + offset, words)
        return buffer.raw


def _keeps_loads_in_order(machine: str) -> bool:
    return machine in ("x86_64", "amd64", "AMD64", "s390x")


def _find_library(name: Optional[str], machine: str):
    """The C reader as a library; None where Python can do without."""
    if struct.calcsize("P") != 8:
        raise RingError("open ring: a 64-bit Python is needed")
    name = name or os.environ.get("CELLWARD_RING_LIBRARY")
    if name is None:
        if _keeps_loads_in_order(machine):
            return None
        beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libcellward_ring.so")
        if os.path.exists(beside):
            name = beside
        elif ctypes is not None:
            name = ctypes.util.find_library("cellward_ring")
    if name is None:
        raise RingError("open ring: this processor (%s) may reorder loads, so libcellward_ring.so is needed; make it "
                        "with: cc -O2 -shared -fPIC -DCELLWARD_RING_IMPLEMENTATION -x c cellward_ring.h "
                        "-o libcellward_ring.so -pthread" % machine)
    if ctypes is None:
        raise RingError("open ring: %s needs ctypes" % name)
    try:
        library = ctypes.CDLL(name)
        library.cellward_ring_load, library.cellward_ring_copy  # are there
        return library
    except (OSError, AttributeError) as err:
        raise RingError("open ring: load %s: %s" % (name, err)) from err


class _Address:
    """The address of a read-only mapping, for which Python has no call of its own. CPython's buffer protocol has."""

    def __init__(self, mapping: mmap.mmap):
        class Buffer(ctypes.Structure):  # Py_buffer of the C API
            _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("len", ctypes.c_ssize_t),
                        ("itemsize", ctypes.c_ssize_t), ("readonly", ctypes.c_int), ("ndim", ctypes.c_int),
                        ("format", ctypes.c_char_p), ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p),
                        ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p)]

        self._buffer = Buffer()
        ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(mapping), ctypes.byref(self._buffer), 0)
        self.value: int = self._buffer.buf

    def release(self) -> None:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(self._buffer))


def _map(fd: int) -> mmap.mmap:
    """Maps memory that came from a producer."""
    # Reading behind the end of memory that shrank is a fatal SIGBUS; another reader's writes would be forged samples.
    try:
        seals = fcntl.fcntl(fd, _F_GET_SEALS)
    except OSError as err:
        raise NotSealed("shared memory of the ring is not sealed: %s" % err) from err
    if not seals & _F_SEAL_SHRINK or not seals & (_F_SEAL_FUTURE_WRITE | _F_SEAL_WRITE):
        raise NotSealed("shared memory of the ring is not sealed: seals %#x" % seals)
    size = os.fstat(fd).st_size
    if not _HEADER.size <= size <= _MAX_SIZE:
        raise LayoutError("file_size", "memory has %d bytes" % size)
    return mmap.mmap(fd, size, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0), prot=mmap.PROT_READ)


# ---- Checks: the same as the producer's own and those of the Go reader, in the same order ----


def _check_header(buffer: bytes, size: int) -> dict:
    h = _HEADER.read(buffer)

    def refuse(field: str, reason: str = "") -> None:
        raise LayoutError(field, reason or str(h[field]))

    if h["magic"] != _MAGIC:
        refuse("magic", repr(h["magic"]))
    if h["endian_tag"] != _ENDIAN_TAG:
        refuse("endian_tag", "%#x: another byte order" % h["endian_tag"])
    if h["major"] != MAJOR_VERSION or h["minor"] < MINOR_VERSION:
        raise VersionError("unknown layout version of the ring: %d.%d, this reader knows %d and needs %d.%d or later" %
                           (h["major"], h["minor"], MAJOR_VERSION, MAJOR_VERSION, MINOR_VERSION))
    if h["state"] not in (_STATE_READY, _STATE_CLOSED):
        refuse("state", "%d: not ready" % h["state"])
    if not _HEADER.size <= h["header_length"] <= size or h["header_length"] % _LINE:
        refuse("header_length")
    if h["clock_id"] != _CLOCK_BOOTTIME:
        refuse("clock_id", "%d, want 7 (CLOCK_BOOTTIME)" % h["clock_id"])
    if h["file_size"] != size:
        refuse("file_size", "%d, but the memory has %d bytes" % (h["file_size"], size))
    if not 1 <= h["heartbeat_period_ns"] <= _HOUR:
        refuse("heartbeat_period_ns")
    if h["body_max"] > _MAX_BODY:
        refuse("body_max")
    if h["slot_size"] != _round_up(_SLOT.size + h["body_max"], _LINE):
        refuse("slot_size")
    if not 2 <= h["slot_count"] <= _MAX_SLOTS or h["slot_count"] & (h["slot_count"] - 1):
        refuse("slot_count")
    if h["latest_size"] != _round_up(_LATEST.size + h["body_max"], _LINE):
        refuse("latest_size")
    if h["stream_count"] > _MAX_STREAMS:
        refuse("stream_count")
    if h["stream_size"] != _STREAM.size:
        refuse("stream_size")
    if h["signal_count"] > _MAX_SIGNALS:
        refuse("signal_count")
    if h["signal_size"] != _SIGNAL.size:
        refuse("signal_size")
    if h["strings_length"] > _MAX_STRINGS:
        refuse("strings_length")
    # The regions follow one another in this order, each aligned to a line, so that none overlaps another.
    at = h["header_length"]
    for field, length in (
        ("streams_offset", h["stream_count"] * h["stream_size"]),
        ("signals_offset", h["signal_count"] * h["signal_size"]),
        ("strings_offset", h["strings_length"]),
        ("latest_offset", h["stream_count"] * h["latest_size"]),
        ("slots_offset", h["slot_count"] * h["slot_size"]),
    ):
        offset = h[field]
        if offset % _LINE or offset < at or offset + length > size:
            refuse(field, "%d bytes at %d, after %d, in memory of %d" % (length, offset, at, size))
        at = offset + length
    return h


class _Text:
    """The string area."""

    def __init__(self, area: bytes):
        self._area = area

    def cut(self, place: str, entry: dict, name: str) -> bytes:
        offset, length = entry[name + "_offset"], entry[name + "_length"]
        if offset + length > len(self._area):
            raise LayoutError("%s.%s_offset" % (place, name), "%d bytes at %d in a string area of %d" % (
                length, offset, len(self._area)))
        return self._area[offset : offset + length]


def _printable(field: str, raw: bytes) -> str:
    """Refuses what could mislead a terminal or a parser of a reader's output."""
    if len(raw) > 255:
        raise LayoutError(field, "has more than 255 bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise LayoutError(field, "is not UTF-8") from None
    if not text.isprintable():
        raise LayoutError(field, "%r has an unprintable character" % text)
    return text


def _signal_bytes(start: int, length: int, big_endian: bool) -> int:
    if not big_endian:
        return (start + length + 7) // 8
    # The first byte gives start % 8 + 1 bits, each further byte eight.
    return start // 8 + 1 + max(0, length - start % 8 - 1 + 7) // 8


def _check_signals(place: str, entries: list, body_max: int) -> tuple:
    """Makes signals of (entry, name, unit)."""
    names = set()
    signals = []
    for i, (e, raw_name, raw_unit) in enumerate(entries):
        at = "%s.signals[%d]." % (place, i)
        if not raw_name:
            raise LayoutError(at + "name", "is empty")
        name = _printable(at + "name", raw_name)
        unit = _printable(at + "unit", raw_unit)
        if name in names:
            raise LayoutError(at + "name", "%r is used twice" % name)
        names.add(name)
        if not 1 <= e["length"] <= 64:
            raise LayoutError(at + "length", "%d bits" % e["length"])
        if e["byte_order"] > 1:
            raise LayoutError(at + "byte_order", "%d is unknown" % e["byte_order"])
        if e["value_type"] > _FLOAT64:
            raise LayoutError(at + "value_type", "%d is unknown" % e["value_type"])
        if e["length"] != {_FLOAT32: 32, _FLOAT64: 64}.get(e["value_type"], e["length"]):
            raise LayoutError(at + "length", "%d bits for a floating-point value" % e["length"])
        need = _signal_bytes(e["start"], e["length"], e["byte_order"] == 1)
        if need > body_max:
            raise LayoutError(at + "start", "signal needs %d bytes, bodies have at most %d" % (need, body_max))
        for field in ("factor", "offset"):
            if not math.isfinite(e[field]):
                raise LayoutError(at + field, "is not a finite number")
        signals.append(Signal(name, unit, e["start"], e["length"], e["byte_order"] == 1, e["value_type"],
                              None if e["multiplexor"] == _ALWAYS else e["multiplexor"], e["mux_value"], e["factor"],
                              e["offset"], need))
    good = set()  # signals whose chain of multiplexors ends
    for i in range(len(signals)):
        chain = set()
        at = i
        while at not in good:
            chain.add(at)
            above = signals[at].multiplexor
            if above is None:
                break
            if above in chain or signals[above].value_type != _UNSIGNED:
                raise LayoutError("%s.signals[%d].multiplexor" % (place, i), "%r leads to itself or is not unsigned" % (
                    signals[above].name,))
            at = above
        good |= chain
    return tuple(signals)


def _schema_hash(entries: list) -> bytes:
    """SHA-256 over the canonical form of a stream's signals."""
    h = hashlib.sha256()
    for e, name, unit in entries:
        h.update(struct.pack("<H", len(name)) + name + struct.pack("<H", len(unit)) + unit)
        h.update(struct.pack("<HHBBIIdd", e["start"], e["length"], e["byte_order"], e["value_type"], e["multiplexor"],
                             e["mux_value"], e["factor"], e["offset"]))
    return h.digest()


def _check_tables(h: dict, stream_bytes: bytes, signal_bytes: bytes, area: bytes) -> Tuple[Stream, ...]:
    text = _Text(area)
    entries = []  # (stream entry, its name, source, interface, its signals)
    following = 0  # signals belong to the streams in order, each to one
    for i in range(h["stream_count"]):
        place = "streams[%d]" % i
        e = _STREAM.read(stream_bytes, i * _STREAM.size)
        texts = tuple(text.cut(place, e, name) for name in ("name", "source", "interface"))
        if e["first_signal"] != following:
            raise LayoutError(place + ".first_signal", "%d, want %d" % (e["first_signal"], following))
        if e["signal_count"] > h["signal_count"] - following:
            raise LayoutError(place + ".signal_count", "%d, but %d are left" % (
                e["signal_count"], h["signal_count"] - following))
        signals = []
        for j in range(e["signal_count"]):
            s = _SIGNAL.read(signal_bytes, (following + j) * _SIGNAL.size)
            at = "%s.signals[%d]" % (place, j)
            signals.append((s, text.cut(at, s, "name"), text.cut(at, s, "unit")))
            if s["factor"] == 0:
                raise LayoutError(at + ".factor", "is 0")
        for j, (s, _, _) in enumerate(signals):
            if s["multiplexor"] != _ALWAYS and s["multiplexor"] >= len(signals):
                raise LayoutError("%s.signals[%d].multiplexor" % (place, j), "%d of %d signals" % (
                    s["multiplexor"], len(signals)))
        following += e["signal_count"]
        entries.append((e, texts, signals))
    if following != h["signal_count"]:
        raise LayoutError("signal_count", "%d, but the streams have %d" % (h["signal_count"], following))

    streams = []
    ids, names = set(), set()
    for i, (e, texts, signals) in enumerate(entries):
        place = "streams[%d]." % i
        if e["stream_id"] in (0, 0xFFFFFFFF):
            raise LayoutError(place + "stream_id", "%d is reserved" % e["stream_id"])
        if not texts[0]:
            raise LayoutError(place + "name", "is empty")
        s = Stream()
        s.index = i
        s.name, s.source, s.interface = (
            _printable(place + field, raw) for field, raw in zip(("name", "source", "interface"), texts))
        if not 1 <= len(texts[2]) <= 15 or set(s.interface) & set("/ ()#"):
            raise LayoutError(place + "interface", "%r is not an interface name" % s.interface)
        if e["can_id"] & ~EXTENDED_ID > (0x1FFFFFFF if e["can_id"] & EXTENDED_ID else 0x7FF):
            raise LayoutError(place + "can_id", "%#x is out of range" % e["can_id"])
        if e["period_ns"] >= 1 << 63:
            raise LayoutError(place + "period_ns", "is out of range")
        if e["sensitivity"] >= len(SENSITIVITIES):
            raise LayoutError(place + "sensitivity", "%d is unknown" % e["sensitivity"])
        s.stream_id, s.source_id, s.can_id, s.period_ns = e["stream_id"], e["source_id"], e["can_id"], e["period_ns"]
        s.sensitivity, s.schema_hash = SENSITIVITIES[e["sensitivity"]], e["schema_hash"]
        s.signals = _check_signals("streams[%d]" % i, signals, h["body_max"])
        if s.stream_id in ids:
            raise LayoutError(place + "stream_id", "%d is used twice" % s.stream_id)
        if s.name in names:
            raise LayoutError(place + "name", "%r is used twice" % s.name)
        ids.add(s.stream_id)
        names.add(s.name)
        streams.append(s)
    for i, (e, _, signals) in enumerate(entries):
        if _schema_hash(signals) != e["schema_hash"]:
            raise LayoutError("streams[%d].schema_hash" % i, "is not that of the signals")
    return tuple(streams)


# ---- Decoding ----


def _extract(body: bytes, signal: Signal) -> int:
    """The bits of a signal. The caller has checked that the body is long enough."""
    first, bit = divmod(signal.start, 8)
    if not signal.big_endian:
        return int.from_bytes(body[first : signal.bytes], "little") >> bit & (1 << signal.length) - 1
    unused = (signal.bytes - first) * 8 - (7 - bit) - signal.length  # bits behind the signal in its last byte
    return int.from_bytes(body[first : signal.bytes], "big") >> unused & (1 << signal.length) - 1


def _extract_columns(bodies, signal: Signal):
    """The same for a table of bodies, one a row."""
    raw = numpy.zeros(len(bodies), numpy.uint64)
    at, bit = divmod(signal.start, 8)
    left = signal.length
    done = 0
    while left:
        n = min(8 - bit if not signal.big_endian else bit + 1, left)
        shift = bit if not signal.big_endian else bit + 1 - n
        part = (bodies[:, at] >> numpy.uint8(shift)).astype(numpy.uint64) & numpy.uint64((1 << n) - 1)
        raw = raw << numpy.uint64(n) | part if signal.big_endian else raw | part << numpy.uint64(done)
        done, left = done + n, left - n
        at, bit = at + 1, 7 if signal.big_endian else 0
    return raw


# ---- The ring of one producer ----


class _View:
    """The mapped memory of one ring, with a checked, private copy of everything in it that does not change."""

    def __init__(self, mapping: mmap.mmap, library):
        self.mapping = mapping
        self.address = None
        try:
            # The state is the last word that a producer writes before it hands the memory over. It is loaded first, and
            # the header is copied after it.
            if ctypes is not None and sys.implementation.name == "cpython":
                self.address = _Address(mapping)
            if library is None:
                self.memory = _OrderedMemory(mapping)
            elif self.address is None:
                raise RingError("open ring: the C reader needs CPython")
            else:
                self.memory = _LibraryMemory(library, self.address.value)
            self._parse()
        except BaseException:
            self.close()
            raise

    def _parse(self) -> None:
        size = len(self.mapping)
        state = self.state()
        buffer = bytearray(self.memory.copy(0, _HEADER.size))
        struct.pack_into("=I", buffer, _HEADER.offsets["state"], state)
        self.header = h = _check_header(bytes(buffer), size)
        stream_bytes, signal_bytes, area = (
            self.mapping[offset : offset + length]
            for offset, length in (
                (h["streams_offset"], h["stream_count"] * h["stream_size"]),
                (h["signals_offset"], h["signal_count"] * h["signal_size"]),
                (h["strings_offset"], h["strings_length"]),
            )
        )
        self.streams = _check_tables(h, stream_bytes, signal_bytes, area)
        # Last, because the checks above say more about what is wrong.
        total = 0
        for part in (bytes(buffer[: _HEADER.offsets["checksum"]]), stream_bytes, signal_bytes, area):
            total = zlib.crc32(part, total)
        if total != h["checksum"]:
            raise LayoutError("checksum", "%#x, want %#x" % (h["checksum"], total))
        # The tail is loaded first: the intent only grows, so a later reading of it is never below.
        tail = self.tail()
        intent = self.memory.word(_HEADER.offsets["intent"])
        if intent < tail or intent > 1 << 62:
            raise LayoutError("intent", "%d with a tail of %d" % (intent, tail))
        self.generation = h["generation"]
        self.slots_offset, self.slot_size, self.slot_count = h["slots_offset"], h["slot_size"], h["slot_count"]
        self.body_max = h["body_max"]

    def close(self) -> None:
        if self.address is not None:
            self.address.release()
            self.address = None
        self.mapping.close()

    def state(self) -> int:
        word = self.memory.word(_HEADER.offsets["state"])
        return word & 0xFFFFFFFF if sys.byteorder == "little" else word >> 32

    def tail(self) -> int:
        return self.memory.word(640)

    def oldest(self) -> int:
        """The lowest position that no announced batch overwrites."""
        return max(0, self.memory.word(512) - self.header["slot_count"])

    def copy(self, position: int, limit: int) -> Tuple[int, int, bytes, int]:
        """Copies up to limit slots from position on: (first, count, their memory, offset in it of the first one).

        What lies between position and first was overwritten before it could be read. A count of 0 with first ==
        position means that there is nothing new.
        """
        tail = self.tail()
        if position > tail:
            raise LayoutError("tail", "%d went back below %d" % (tail, position))
        if position == tail:
            return position, 0, b"", 0
        first = max(position, self.oldest())
        count = max(0, min(tail - first, limit, self.slot_count))
        if count == 0:  # a whole turn of the ring since the tail was loaded
            return first, 0, b"", 0
        at = first % self.slot_count
        front = min(count, self.slot_count - at)
        data = self.memory.copy(self.slots_offset + at * self.slot_size, front * self.slot_size)
        if front < count:
            data += self.memory.copy(self.slots_offset, (count - front) * self.slot_size)
        # The second look: those that may be torn are at the front of the copy.
        torn = min(max(0, self.oldest() - first), count)
        return first + torn, count - torn, data, torn * self.slot_size

    def sample(self, position: int, data: bytes, offset: int) -> Sample:
        (marker, stream, epoch, counter, source_time, flags, length, received,
         published) = _SLOT.unpack_from(data, offset)
        if marker != position + 1 or stream >= len(self.streams) or length > self.body_max:
            raise self._damaged_slot(position, marker, stream, length)
        body = offset + 48
        return Sample(position, self.streams[stream], epoch, counter, source_time, flags, received, published,
                      data[body : body + length])

    def _damaged_slot(self, position: int, marker: int, stream: int, length: int) -> LayoutError:
        return LayoutError("slots[%d]" % (position % self.slot_count),
                           "position %d has marker %d, stream %d, length %d" % (position, marker, stream, length))

    def records(self, position: int, count: int, data: bytes, offset: int):
        """The copied slots as a numpy array, up to the first damaged one."""
        names = [name for name, _, _ in LAYOUT["slot"][1]] + ["body"]
        formats = ["=u8", "=u4", "=u4", "=u8", "=u4", "=u2", "=u2", "=i8", "=i8", ("u1", (self.body_max,))]
        offsets = [at for _, _, at in LAYOUT["slot"][1]] + [48]
        form = numpy.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": self.slot_size})
        records = numpy.frombuffer(data, form, count, offset)
        wanted = numpy.arange(position + 1, position + 1 + count, dtype=numpy.uint64)
        bad = ((records["marker"] != wanted) | (records["stream"] >= len(self.streams))
               | (records["length"] > self.body_max)).nonzero()[0]
        if len(bad):
            if bad[0] == 0:
                raise self._damaged_slot(position, *(int(records[0][name]) for name in ("marker", "stream", "length")))
            records = records[: bad[0]]
        return records

    def latest(self, stream: int) -> Optional[Sample]:
        entry = self.header["latest_offset"] + stream * self.header["latest_size"]
        marker = self.memory.word(entry + 8)
        data = self.memory.copy(entry, self.header["latest_size"])
        if self.memory.word(entry) != marker:
            raise LatestBusy("latest value is being written")
        if marker == 0:
            return None
        # The marker is loaded twice, here and with the copy; begin equal to the first fixes the second.
        data = data[:8] + _WORD.pack(marker) + data[16:]
        sample = self.sample(marker - 1, data, 8)
        if sample.stream.index != stream:
            raise LayoutError("latest[%d]" % stream, "holds stream %d" % sample.stream.index)
        return sample


def _dial(path: str, library, timeout: Optional[float]) -> Tuple[socket.socket, _View]:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
        fd = _receive(connection)
        try:
            view = _View(_map(fd), library)
        finally:
            os.close(fd)  # the mapping keeps the memory
        connection.settimeout(None)
        return connection, view
    except BaseException:
        connection.close()
        raise


def _receive(connection: socket.socket, flags: int = 0) -> int:
    """Reads a message of the server and returns the descriptor that came with it."""
    # Not socket.recv_fds, which does not pass MSG_CMSG_CLOEXEC on: a child that another thread starts at this moment
    # would inherit the ring.
    data, control, flags, _ = connection.recvmsg(
        _HELLO.size, socket.CMSG_SPACE(4 * 4), getattr(socket, "MSG_CMSG_CLOEXEC", 0) | flags)
    fds = []
    for level, kind, payload in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += struct.unpack("=%di" % (len(payload) // 4), payload[: len(payload) // 4 * 4])
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise RingError("receive the ring: server's message is too long")
        if not data:
            raise ProducerGone("receive the ring: the server said nothing")
        if len(data) < _HELLO.size or data[:8] != _MAGIC:
            raise RingError("receive the ring: %d bytes that are no server's message" % len(data))
        hello = _HELLO.read(data)
        if hello["major"] != MAJOR_VERSION:
            raise VersionError("unknown layout version of the ring: %d.%d, this reader knows %d" % (
                hello["major"], hello["minor"], MAJOR_VERSION))
        if hello["status"] == 1:
            raise NotAuthorized("not authorized to read the ring")
        if hello["status"] == 2:
            raise TooManyReaders("too many readers on the ring")
        if hello["status"] != 0:
            raise RingError("receive the ring: refused with status %d" % hello["status"])
        if len(fds) != 1:
            raise RingError("receive the ring: %d descriptors instead of one" % len(fds))
        return fds.pop()
    finally:
        for fd in fds:
            os.close(fd)


# ---- Waiting ----


class _Futex:
    """Sleeps until one of two words changes: the tail, which the producer writes, and a word of this process."""

    _SYS_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "loongarch64": 98, "ppc64le": 221, "s390x": 238}
    _SYS_FUTEX_WAITV = 449
    _WAKE_PRIVATE = 1 | 128
    _SIZE32, _PRIVATE = 2, 128

    def __init__(self):
        class Waitv(ctypes.Structure):
            _fields_ = [("val", ctypes.c_uint64), ("uaddr", ctypes.c_uint64), ("flags", ctypes.c_uint32),
                        ("reserved", ctypes.c_uint32)]

        class Timespec(ctypes.Structure):
            _fields_ = [("tv_sec", ctypes.c_int64), ("tv_nsec", ctypes.c_int64)]

        self._number = self._SYS_FUTEX[platform.machine()]
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._call.restype = ctypes.c_long
        self._word = ctypes.c_uint32(0)
        self._lock = threading.Lock()
        self._words = (Waitv * 2)()
        self._until = Timespec()
        # An empty list of words is refused with EINVAL where the call exists, and with ENOSYS or EPERM where not.
        self._call(*(ctypes.c_long(n) for n in (self._SYS_FUTEX_WAITV, 0, 0, 0, 0, 0)))
        if ctypes.get_errno() != 22:
            raise OSError(ctypes.get_errno(), "futex_waitv")

    def kicks(self) -> int:
        return self._word.value

    def kick(self) -> None:
        """Ends a wait, also one that is about to begin."""
        with self._lock:
            self._word.value = (self._word.value + 1) & 0xFFFFFFFF
        self._call(ctypes.c_long(self._number), ctypes.byref(self._word), ctypes.c_long(self._WAKE_PRIVATE),
                   ctypes.c_long(0x7FFFFFFF), None, None, ctypes.c_long(0))

    def wait(self, address: int, value: int, kicks: int, limit: float) -> None:
        """Returns when the word at address is not value, after a kick, or at the limit in seconds; or early."""
        first, second = self._words
        first.val, first.uaddr, first.flags = value & 0xFFFFFFFF, address, self._SIZE32
        second.val, second.uaddr, second.flags = kicks, ctypes.addressof(self._word), self._SIZE32 | self._PRIVATE
        until = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + int(min(limit, 3600.0) * 1e9)
        self._until.tv_sec, self._until.tv_nsec = divmod(until, 10**9)
        self._call(ctypes.c_long(self._SYS_FUTEX_WAITV), self._words, ctypes.c_long(2), ctypes.c_long(0),
                   ctypes.byref(self._until), ctypes.c_long(time.CLOCK_MONOTONIC))


class Reader:
    """Reads a ring. See open()."""

    def __init__(self, path: str = DEFAULT_SOCKET, *, start: str = "oldest", reconnect: bool = False,
                 stale_after: Optional[float] = None, connect_timeout: Optional[float] = 5.0,
                 library: Optional[str] = None):
        if start not in ("oldest", "now"):
            raise ValueError("start is %r, not oldest or now" % (start,))
        self._path = path
        self._reconnect = reconnect
        self._stale_after = stale_after
        self._connect_timeout = connect_timeout
        self._library = _find_library(library, platform.machine())
        self._connection, self._view = _dial(path, self._library, connect_timeout)
        self._follow()
        self._position = self._view.tail() if start == "now" else self._view.oldest()
        self._gone = False
        self._interrupted = False
        self._stale = False  # ProducerStale has been raised for the present silence
        self._closed = False
        self._watcher: Optional[threading.Thread] = None
        self._pause = 0.001
        self.missed = 0  # samples that were overwritten before they could be read, since open(); exact
        self.reconnects = 0  # how often a new connection replaced one that had ended
        self._futex: Optional[_Futex] = None
        if self._view.address is not None:
            try:
                self._futex = _Futex()
            except (OSError, KeyError, AttributeError):
                pass

    # -- what is there --

    @property
    def streams(self) -> Tuple[Stream, ...]:
        """The stream table of the present ring."""
        return self._view.streams

    @property
    def generation(self) -> int:
        """The random number of the present ring. It changes with the producer."""
        return self._view.generation

    @property
    def position(self) -> int:
        """Next position to read."""
        return self._position

    def lookup(self, stream_id: int) -> Optional[Stream]:
        """The stream with the given id."""
        return next((s for s in self._view.streams if s.stream_id == stream_id), None)

    def status(self) -> Status:
        """Reads the header."""
        self._check_open()
        v, h = self._view, self._view.header
        fault = v.memory.word(896)
        state = fault & 0xFFFFFFFF
        return Status(
            v.generation, (h["major"], h["minor"]), h["producer_pid"], h["created_ns"], v.slot_count, v.body_max,
            v.tail(), _boottime() - _signed(v.memory.word(768)), h["heartbeat_period_ns"],
            FAULT_NAMES[state] if state < len(FAULT_NAMES) else "unknown", fault >> 32, v.state() == _STATE_CLOSED,
            self._is_gone())

    def fault_record(self) -> Optional[FaultRecord]:
        """Which sources the standing fault is about; None if there is none, or if the producer does not say."""
        self._check_open()
        v = self._view
        if v.header["minor"] < _FAULT_MINOR:
            return None
        for _ in range(100):
            end = v.memory.word(912)
            words = [v.memory.word(offset) for offset in range(920, 1016, 8)]
            if v.memory.word(904) != end:
                time.sleep(0)  # the producer may be waiting for this very processor
                continue
            at, causes, sources, *rest = struct.unpack("=qII4II6H6Q", struct.pack("=12Q", *words))
            if not causes:
                return None
            ids, kinds, kind, count = rest[:4], rest[4], rest[5:11], rest[11:]
            return FaultRecord(
                at, tuple(name for bit, name in enumerate(FAULT_CAUSES) if causes >> bit & 1), sources,
                tuple(ids[:min(sources, 4)]), kinds, tuple(zip(kind, count))[:min(kinds, 6)])
        raise LatestBusy("fault record is being written")

    # -- samples --

    def next(self, limit: int = 64, timeout: Optional[float] = None) -> List[Sample]:
        """The next samples, at most limit, of one producer. Waits for the first one, at most timeout seconds.

        [] when nothing came in time, or after interrupt(). Raises ProducerGone after the last sample of a producer that
        ended, unless reconnect is set; ProducerStale when nothing came and the heartbeat is old, once for each such
        time span; LayoutError when the ring is damaged. After all but the last the reader goes on where it was.
        """
        found = self._next(limit, timeout)
        if found is None:
            return []
        position, count, data, offset = found
        view = self._view
        samples = []
        for _ in range(count):
            try:
                samples.append(view.sample(position, data, offset))
            except LayoutError:
                if not samples:
                    raise
                break
            position += 1
            offset += view.slot_size
            self._position = position
        return samples

    def next_array(self, limit: int = 4096, timeout: Optional[float] = None):
        """The same as a numpy array with the fields of a slot as in docs/ring.md (marker is position + 1, stream the
        index into streams) and body, body_max bytes of which length are the body. None when nothing came."""
        if numpy is None:
            raise RingError("next_array needs numpy")
        found = self._next(limit, timeout)
        if found is None:
            return None
        records = self._view.records(*found)
        self._position += len(records)
        return records

    def __iter__(self) -> Iterator[Sample]:
        """All samples until the producer is gone."""
        while True:
            try:
                samples = self.next()
            except ProducerGone:
                return
            yield from samples

    def latest(self, stream: Union[Stream, int]) -> Optional[Sample]:
        """The newest sample of a stream (or of the one with this index), whatever was read or overwritten; or None."""
        self._check_open()
        index = stream.index if isinstance(stream, Stream) else stream
        if not 0 <= index < len(self._view.streams):
            raise ValueError("stream %d of %d" % (index, len(self._view.streams)))
        for attempt in range(100):
            try:
                return self._view.latest(index)
            except LatestBusy:
                if attempt == 99:
                    raise
                time.sleep(0)  # the producer may be waiting for this very processor
        return None

    # -- the end --

    def interrupt(self) -> None:
        """Makes a next() that waits, or the next one, return []. From any thread."""
        self._interrupted = True
        if self._futex is not None:
            self._futex.kick()

    def close(self) -> None:
        """Ends the reader. Samples and streams stay valid. No other call may be going on."""
        if self._closed:
            return
        self._closed = True
        self._disconnect()
        self._view.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # -- within --

    def _check_open(self) -> None:
        if self._closed:
            raise RingError("ring is closed")

    def _next(self, limit: int, timeout: Optional[float]) -> Optional[tuple]:
        """Waits for samples: as _View.copy returns them, with _position at the first one. None when none came."""
        if limit < 1:
            raise ValueError("read ring: no room for samples")
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            self._check_open()
            # Loaded before the conditions are looked at: a kick in between makes the wait return at once.
            kicks = self._futex.kicks() if self._futex is not None else 0
            if self._interrupted:
                self._interrupted = False
                return None
            gone = self._gone  # before the memory: see _is_gone
            before = self._position
            found = self._view.copy(before, limit)
            self.missed += found[0] - before
            self._position = found[0]
            if found[1]:
                self._stale = False
                self._pause = 0.001
                return found
            if found[0] != before:
                continue
            if not gone and self._is_gone():
                continue  # and one more look at the memory
            if gone:
                if not self._reconnect:
                    raise ProducerGone("producer of the ring is gone: it ended " + (
                        "in an orderly way" if self._view.state() == _STATE_CLOSED else "without closing the ring"))
                if not self._connect_again(deadline):
                    return None
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            patience = self._patience()
            if patience is None:
                raise ProducerStale("heartbeat of the ring's producer is stale")
            self._wait(kicks, min(patience, left))

    def _is_gone(self) -> bool:
        """Whether the connection has ended, or another ring has come over it. The kernel closes a dead producer's socket
        after its last store, and a producer has made its last store before another goes on for it: so what is in the memory
        once this has been seen is all there will ever be."""
        if not self._gone and self._watcher is None:
            try:
                self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                self._gone = True
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self._gone = True
        return self._gone

    def _watch(self, connection: socket.socket, futex: _Futex) -> None:
        """A server has nothing to say behind its hello but to whom it has told so (_follow), and then the ring with which
        it goes on: either that or the end is the first thing to happen. The message is for _go_on."""
        try:
            connection.recv(1, socket.MSG_PEEK)
        except OSError:
            pass
        self._gone = True
        futex.kick()

    def _wait(self, kicks: int, limit: float) -> None:
        futex, address = self._futex, self._view.address
        if futex is not None and address is not None:
            if self._watcher is None:
                self._watcher = threading.Thread(
                    target=self._watch, args=(self._connection, futex), name="cellward-ring", daemon=True)
                self._watcher.start()
            futex.wait(address.value + TAIL_FUTEX_OFFSET, self._position, kicks, limit)
            return
        # The end of the connection ends this sleep at once, a sample at its next end.
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        poll.poll(max(1, int(min(limit, self._pause) * 1000)))
        self._pause = min(self._pause * 2, 0.02)

    def _patience(self) -> Optional[float]:
        """Seconds until the heartbeat must be looked at again; None when it is stale now. After it was found stale
        once, the next complaint comes after another full time span."""
        after = self._stale_after
        if after is None:
            after = 3e-9 * self._view.header["heartbeat_period_ns"]
        if after < 0:
            return 3600.0
        age = max(0, _boottime() - _signed(self._view.memory.word(768))) * 1e-9
        if age < after:
            self._stale = False
            return after - age
        self._stale = not self._stale
        return None if self._stale else after

    def _disconnect(self) -> None:
        if self._watcher is not None:
            try:
                self._connection.shutdown(socket.SHUT_RDWR)  # ends the watcher's recv
            except OSError:
                pass
            self._watcher.join()
            self._watcher = None
        self._connection.close()

    def _follow(self) -> None:
        """Tells a server that knows of it (minor 1) that the reader goes along when the producer goes on in another ring."""
        if self._reconnect and self._view.header["minor"] >= 1:
            try:
                self._connection.send(b"F", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:
                pass  # a dead server is noticed elsewhere

    def _go_on(self) -> bool:
        """Goes on with a ring that has come over the connection; False when none has. It was sent before anything was
        published in it, so all of it is this reader's."""
        try:
            fd = _receive(self._connection, socket.MSG_DONTWAIT)
            try:
                view = _View(_map(fd), self._library)
            finally:
                os.close(fd)
        except (RingError, OSError):
            return False  # another connection tells why
        if self._watcher is not None:
            self._watcher.join()  # it has seen the message
            self._watcher = None
        old, self._view, self._position = self._view, view, 0
        self._gone = self._stale = False
        old.close()
        return True

    def _connect_again(self, deadline: float) -> bool:
        """Waits for a producer to serve the socket; False at the deadline or after interrupt()."""
        if self._go_on():
            return True
        pause = 0.01
        while True:
            # Even a caller with little time gets a chance to hear a server that is there.
            left = max(0.1, deadline - time.monotonic())
            bound = left if self._connect_timeout is None else min(self._connect_timeout, left)
            try:
                connection, view = _dial(self._path, self._library, None if math.isinf(bound) else bound)
                break
            # A path that is missing, refuses, is full or ends at once belongs to a producer that is about to come or
            # to go. Anything else will not get better by waiting.
            except (FileNotFoundError, ConnectionError, BlockingIOError, TimeoutError, socket.timeout, ProducerGone,
                    TooManyReaders):
                pass
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            step = min(pause, left)
            pause = min(2 * pause, 1.0)
            until = time.monotonic() + step
            while not self._interrupted and time.monotonic() < until:
                time.sleep(min(0.1, max(0.0, until - time.monotonic())))
            if self._interrupted:
                self._interrupted = False
                return False
        self._disconnect()
        old = self._view
        self._connection, self._view = connection, view
        self._gone = self._stale = False
        self.reconnects += 1
        if view.generation != old.generation:
            self._position = view.oldest()  # a new history
        self._follow()
        old.close()
        return True


def open(path: str = DEFAULT_SOCKET, **options) -> Reader:
    """Connects to the server at path, receives the ring and checks it.

    start            "oldest" or "now": where to begin
    reconnect        wait for the next producer when the present one ends: its oldest sample comes next, generation and
                     streams are those of the new ring. One that goes on in another ring, as at an upgrade of the agent,
                     is followed: that ring comes before it has a sample
    stale_after      seconds; age of the heartbeat that counts as stale. None: three periods; negative: never
    connect_timeout  seconds; bounds the connection to a server that says nothing
    library          path of the C reader as a library; see above

    Raises NotAuthorized, TooManyReaders, VersionError, NotSealed, LayoutError, or the OSError of connect(2).
    """
    return Reader(path, **options)


def _boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
