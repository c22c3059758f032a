# SPDX-License-Identifier: Apache-2.0
"""The Python reader as the tests drive it; commands and answers are those of reader.c.

    reader.py [--library PATH] [--numpy] [--sleep] shell | follow ... | interrupts ...

--numpy reads and decodes by whole arrays; --sleep has no ctypes, so that waiting falls back to sleeping.
"""

import argparse
import json
import struct
import sys
import threading
import zlib

import cellward_ring

MASK = (1 << 64) - 1
CLASSES = (
    (cellward_ring.ProducerGone, "gone"), (cellward_ring.NotAuthorized, "not_authorized"),
    (cellward_ring.TooManyReaders, "too_many"), (cellward_ring.VersionError, "version"),
    (cellward_ring.LayoutError, "layout"), (cellward_ring.NotSealed, "not_sealed"),
    (cellward_ring.LatestBusy, "busy"), (OSError, "system"), (cellward_ring.RingError, "system"),
    (ValueError, "other"),
)


def class_of(err):
    return next(name for kind, name in CLASSES if isinstance(err, kind))


def line_of(position, stream, epoch, counter, source_time, flags, received, published, body):
    return "sample %d %d %d %d %d %d %d %d %s" % (
        position, stream, epoch, counter, source_time, flags, received, published, body.hex() or "-")


def line_of_sample(s):
    return line_of(s.position, s.stream.index, s.epoch, s.counter, s.source_time, s.flags, s.receive_time,
                   s.publish_time, s.body)


def line_of_record(r):
    body = r["body"].tobytes()[: r["length"]]
    return line_of(r["marker"] - 1, r["stream"], r["epoch"], r["counter"], r["source_time"], r["flags"],
                   r["receive_time"], r["publish_time"], body)


class Shell:
    def __init__(self, options):
        self.ring = None
        self.options = options

    def open(self, path, start, reconnect, stale_ms, connect_ms=60000):
        self.close()
        stale_ms = int(stale_ms)
        self.ring = cellward_ring.open(
            path, start=start, reconnect=reconnect != "0", stale_after=stale_ms / 1000 if stale_ms else None,
            connect_timeout=int(connect_ms) / 1000, library=self.options.library)
        return ["ok"]

    def close(self):
        if self.ring is not None:
            self.ring.close()
            self.ring = None
        return ["ok"]

    def next(self, limit, timeout_ms):
        timeout = None if int(timeout_ms) < 0 else int(timeout_ms) / 1000
        generation = self.ring.generation
        if self.options.numpy:
            records = self.ring.next_array(int(limit), timeout)
            lines = [] if records is None else [line_of_record(r) for r in records]
        else:
            lines = [line_of_sample(s) for s in self.ring.next(int(limit), timeout)]
        # This reader goes on with a new producer without a word; the shell says it for those that do not.
        restarted = ["restarted"] if self.ring.generation != generation else []
        return restarted + (["samples"] + lines if lines else ["timeout"])

    def latest(self, stream):
        sample = self.ring.latest(int(stream))
        return ["none"] if sample is None else [line_of_sample(sample)]

    def streams(self):
        lines = []
        for s in self.ring.streams:
            lines.append("\t".join(map(str, (
                "stream", s.stream_id, s.source_id, s.can_id, s.name, s.source, s.interface, s.period_ns,
                cellward_ring.SENSITIVITIES.index(s.sensitivity), s.schema_hash.hex()))))
            for g in s.signals:
                lines.append("\t".join(map(str, (
                    "signal", g.name, g.unit, g.start, g.length, int(g.big_endian), g.value_type,
                    -1 if g.multiplexor is None else g.multiplexor, g.mux_value, "%.17g" % g.factor,
                    "%.17g" % g.offset))))
        return lines

    def status(self):
        s = self.ring.status()
        return ["status generation=%x version=%d.%d pid=%d created=%d slots=%d body_max=%d published=%d period=%d "
                "fault=%s changes=%d closed=%d gone=%d" % (
                    s.generation, *s.version, s.producer_pid, s.created_ns, s.slot_count, s.body_max, s.published,
                    s.heartbeat_period_ns, s.fault, s.fault_changes, s.closed, s.gone)]

    def fault(self):
        f = self.ring.fault_record()
        if f is None:
            return ["fault causes=0 sources=0 kinds=0 time=0"]
        causes = sum(1 << cellward_ring.FAULT_CAUSES.index(name) for name in f.causes)
        return [" ".join(
            ["fault causes=%d sources=%d" % (causes, f.sources)] + ["source=%d" % i for i in f.source_ids] +
            ["kinds=%d" % f.kinds] + ["%d=%d" % e for e in f.events] + ["time=%d" % f.time_ns])]

    def count(self):
        r = self.ring
        return ["count %d %d %d %x" % (r.position, r.missed, r.reconnects, r.generation)]

    def drain(self):
        read = 0
        try:
            while True:
                if self.options.numpy:
                    records = self.ring.next_array(16)
                    for s in self.ring.streams:
                        s.decode_array(records[records["stream"] == s.index])
                    read += len(records)
                else:
                    samples = self.ring.next(16)
                    for sample in samples:
                        sample.decode()
                    read += len(samples)
        except cellward_ring.RingError as err:
            end = (class_of(err) + " " + getattr(err, "field", "")).strip()
        for s in self.ring.streams:
            try:
                self.ring.latest(s)
            except cellward_ring.RingError:
                pass  # being written, for good, or damaged
        return ["drained %d %d %s" % (read, self.ring.missed, end)]

    def decode(self, stream, text):
        s = self.ring.streams[int(stream)]
        body = b"" if text == "-" else bytes.fromhex(text)
        if not self.options.numpy:
            return ["value\t%s\t%d\t%.17g" % (v.signal.name, v.raw & MASK, v.physical) for v in s.decode(body)]
        numpy = cellward_ring.numpy
        room = max(self.ring.status().body_max, 1)
        record = numpy.zeros(1, [("stream", "u4"), ("length", "u2"), ("body", "u1", (room,))])
        record["stream"], record["length"] = s.index, len(body)
        record["body"] = 0xEE  # what lies behind a body means nothing
        record["body"][0][: len(body)] = numpy.frombuffer(body, "u1")
        columns = s.decode_array(record)
        lines = []
        for v in s.decode(body):  # for the raw values and to know which ones are absent
            lines.append("value\t%s\t%d\t%.17g" % (v.signal.name, v.raw & MASK, columns.pop(v.signal.name)[0]))
        return lines + ["value\t%s\tpresent" % name for name, column in columns.items() if column[0] == column[0]]

    def answer(self, words):
        if words[0] not in ("open", "close") and self.ring is None:
            return ["no ring"]
        try:
            return getattr(self, words[0])(*words[1:])
        except cellward_ring.ProducerGone as err:
            if words[0] == "open":
                return ["refused gone "]
            return ["gone " + ("orderly" if "orderly" in str(err) else "unclean")]
        except cellward_ring.ProducerStale:
            return ["stale"]
        except (cellward_ring.RingError, OSError, ValueError) as err:
            print(err, file=sys.stderr)
            return ["refused %s %s" % (class_of(err), getattr(err, "field", ""))]


def shell(options):
    s = Shell(options)
    for line in sys.stdin:
        for out in s.answer(line.split()):
            print(out)
        print(".", flush=True)


def stamp_fault(s, streams, body_max):
    p = s.position
    if len(s.body) != 12 + p * 7 % (body_max - 11):
        return "length of another sample"
    if zlib.crc32(s.body[:-4]) != int.from_bytes(s.body[-4:], "little"):
        return "torn body"
    if struct.unpack_from("<Q", s.body)[0] != p:
        return "body of another sample"
    if (s.stream.index, s.epoch, s.counter, s.source_time, s.flags, s.receive_time) != (
            p % streams, p >> 7 & 0xFFFFFFFF, p * 3 & (1 << 48) - 1, p * 5 & 0xFFFFFFFF, p & 15, p * 11):
        return "fields of another sample"
    return None


def follow(options, path, start, room, pause):
    room, pause = int(room), int(pause)
    ring = cellward_ring.open(path, start=start, stale_after=-1, library=options.library)
    streams, body_max = len(ring.streams), ring.status().body_max
    begin = following = ring.position
    read = jumped = 0
    bad = ""
    print("ready", flush=True)
    try:
        while True:
            for s in ring.next(room):
                bad = stamp_fault(s, streams, body_max) or bad
                if s.position < following:
                    bad = "position went back"
                jumped += s.position - following
                following = s.position + 1
                read += 1
            if pause and read >= pause:
                pause = 0
                print("paused", flush=True)
                sys.stdin.readline()
    except cellward_ring.ProducerGone:
        pass
    except cellward_ring.RingError as err:
        bad = str(err)
    jumped += ring.position - following
    print(json.dumps({"start": begin, "read": read, "missed": ring.missed, "jumped": jumped, "next": ring.position,
                      "bad": bad}), flush=True)


def interrupts(options, path, rounds):
    ring = cellward_ring.open(path, start="now", stale_after=-1, library=options.library)
    for _ in range(int(rounds)):
        thread = threading.Thread(target=ring.interrupt)
        thread.start()
        assert ring.next() == []
        thread.join()
    print("ok")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library")
    parser.add_argument("--numpy", action="store_true")
    parser.add_argument("--sleep", action="store_true")
    parser.add_argument("command")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    if options.sleep:
        cellward_ring.ctypes = None
    {"shell": shell, "follow": follow, "interrupts": interrupts}[options.command](options, *options.arguments)


if __name__ == "__main__":
    main()
