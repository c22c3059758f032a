/* SPDX-License-Identifier: Apache-2.0 */
/* The C++ reader as the tests drive it; commands and answers are those of reader.c. */
#define CELLWARD_RING_IMPLEMENTATION
#include "cellward_ring.hpp"

#include <iomanip>
#include <iostream>
#include <sstream>
#include <thread>

#include "stamp.h"

namespace
{

std::string class_of(const cellward::ring_error &error)
{
	switch (error.code()) {
	case CELLWARD_RING_GONE:
		return "gone";
	case CELLWARD_RING_NOT_AUTHORIZED:
		return "not_authorized";
	case CELLWARD_RING_TOO_MANY:
		return "too_many";
	case CELLWARD_RING_VERSION:
		return "version";
	case CELLWARD_RING_LAYOUT:
		return "layout";
	case CELLWARD_RING_NOT_SEALED:
		return "not_sealed";
	case CELLWARD_RING_BUSY:
		return "busy";
	case CELLWARD_RING_SYSTEM:
		return "system";
	default:
		return "other";
	}
}

std::string hex(const std::uint8_t *bytes, std::size_t count)
{
	std::ostringstream out;

	if (count == 0)
		return "-";
	out << std::hex << std::setfill('0');
	for (std::size_t i = 0; i < count; i++)
		out << std::setw(2) << unsigned{bytes[i]};
	return out.str();
}

void print(const cellward::ring_sample &s)
{
	std::cout << "sample " << s.position << ' ' << s.stream << ' ' << s.epoch << ' ' << s.counter << ' '
		  << s.source_time << ' ' << s.flags << ' ' << s.receive_time << ' ' << s.publish_time << ' '
		  << hex(s.body, s.length) << '\n';
}

void print_streams(const cellward::ring_reader &ring)
{
	for (const auto &s : ring.streams()) {
		std::cout << "stream\t" << s.stream_id << '\t' << s.source_id << '\t' << s.can_id << '\t' << s.name
			  << '\t' << s.source << '\t' << s.bus << '\t' << s.period_ns << '\t' << unsigned{s.sensitivity}
			  << '\t' << hex(s.schema_hash, sizeof s.schema_hash) << '\n';
		for (std::uint32_t i = 0; i < s.signal_count; i++) {
			const auto &g = s.signals[i];
			std::int64_t mux = g.multiplexor == CELLWARD_RING_ALWAYS ? -1 : std::int64_t{g.multiplexor};

			std::cout << "signal\t" << g.name << '\t' << g.unit << '\t' << g.start << '\t' << g.length
				  << '\t' << unsigned{g.byte_order} << '\t' << unsigned{g.value_type} << '\t' << mux
				  << '\t' << g.mux_value << '\t' << g.factor << '\t' << g.offset << '\n';
		}
	}
}

void print_status(cellward::ring_reader &ring)
{
	static const char *const faults[] = {"ok", "suspect", "fault", "latched"};
	const auto s = ring.status();

	std::cout << "status generation=" << std::hex << s.generation << std::dec << " version=" << s.major << '.'
		  << s.minor << " pid=" << s.producer_pid << " created=" << s.created_ns << " slots=" << s.slot_count
		  << " body_max=" << s.body_max << " published=" << s.published << " period=" << s.heartbeat_period_ns
		  << " fault=" << (ring.fault() < 4 ? faults[ring.fault()] : "unknown")
		  << " changes=" << s.fault_changes << " closed=" << s.closed << " gone=" << s.gone << '\n';
}

void print_fault(cellward::ring_reader &ring)
{
	const auto f = ring.fault_record();

	std::cout << "fault causes=" << f.causes << " sources=" << f.sources;
	for (std::uint32_t i = 0; i < f.sources && i < CELLWARD_RING_FAULT_SOURCES; i++)
		std::cout << " source=" << f.source_ids[i];
	std::cout << " kinds=" << f.kinds;
	for (std::uint32_t i = 0; i < f.kinds && i < CELLWARD_RING_FAULT_KINDS; i++)
		std::cout << ' ' << f.kind[i] << '=' << f.count[i];
	std::cout << " time=" << f.time_ns << '\n';
}

void print_next(cellward::ring_reader &ring, std::size_t limit, long timeout_ms)
{
	std::optional<std::chrono::nanoseconds> timeout;

	if (timeout_ms >= 0)
		timeout = std::chrono::milliseconds(timeout_ms);
	const auto batch = ring.next(limit, timeout);
	switch (batch.result) {
	case cellward::ring_result::samples:
		std::cout << "samples\n";
		for (const auto &sample : batch)
			print(sample);
		break;
	case cellward::ring_result::timeout:
		std::cout << "timeout\n";
		break;
	case cellward::ring_result::stale:
		std::cout << "stale\n";
		break;
	case cellward::ring_result::interrupted:
		std::cout << "interrupted\n";
		break;
	case cellward::ring_result::restarted:
		std::cout << "restarted\n";
		break;
	case cellward::ring_result::gone:
		std::cout << "gone " << (ring.status().closed ? "orderly" : "unclean") << '\n';
		break;
	}
}

void drain(cellward::ring_reader &ring)
{
	std::uint64_t read = 0;
	std::string end = "gone";

	try {
		while (auto batch = ring.next(16))
			for (const auto &sample : batch) {
				ring.decode(sample);
				read++;
			}
	} catch (const cellward::ring_error &error) {
		end = class_of(error) + (error.field().empty() ? "" : " ") + error.field();
	}
	for (std::size_t i = 0; i < ring.streams().size(); i++) {
		try {
			ring.latest(i);
		} catch (const cellward::ring_error &) {
			/* being written, for good, or damaged */
		}
	}
	std::cout << "drained " << read << ' ' << ring.missed() << ' ' << end << '\n';
}

std::vector<std::uint8_t> parse_hex(const std::string &text)
{
	std::vector<std::uint8_t> bytes;

	for (std::size_t i = 0; i + 1 < text.size(); i += 2)
		bytes.push_back(static_cast<std::uint8_t>(std::stoul(text.substr(i, 2), nullptr, 16)));
	return bytes;
}

void decode(cellward::ring_reader &ring, std::uint32_t stream, const std::string &text)
{
	const auto body = parse_hex(text);
	cellward::ring_sample sample = {};

	sample.stream = stream;
	sample.body = body.data();
	sample.length = static_cast<std::uint16_t>(body.size());
	for (const auto &value : ring.decode(sample))
		std::cout << "value\t" << ring.signal(sample, value).name << '\t' << value.raw << '\t' << value.physical
			  << '\n';
}

void answer(std::optional<cellward::ring_reader> &ring, const std::string &line)
{
	std::istringstream in(line);
	std::string word, argument, from;
	long a = 0, b = 0, connect = 60000;

	in >> word;
	if (word == "open") {
		cellward::ring_options options;

		in >> options.socket >> from >> a >> b;
		if (!(in >> connect))
			connect = 60000;
		options.from_now = from == "now";
		options.reconnect = a != 0;
		options.stale_after = std::chrono::milliseconds(b);
		options.connect_timeout = std::chrono::milliseconds(connect);
		ring.reset();
		ring.emplace(options);
		std::cout << "ok\n";
	} else if (word == "close") {
		ring.reset();
		std::cout << "ok\n";
	} else if (!ring) {
		std::cout << "no ring\n";
	} else if (word == "next") {
		in >> a >> b;
		print_next(*ring, static_cast<std::size_t>(a), b);
	} else if (word == "latest") {
		in >> a;
		if (const auto sample = ring->latest(static_cast<std::size_t>(a)))
			print(*sample);
		else
			std::cout << "none\n";
	} else if (word == "streams") {
		print_streams(*ring);
	} else if (word == "status") {
		print_status(*ring);
	} else if (word == "fault") {
		print_fault(*ring);
	} else if (word == "count") {
		std::cout << "count " << ring->position() << ' ' << ring->missed() << ' ' << ring->reconnects() << ' '
			  << std::hex << ring->generation() << std::dec << '\n';
	} else if (word == "drain") {
		drain(*ring);
	} else if (word == "decode") {
		in >> a >> argument;
		decode(*ring, static_cast<std::uint32_t>(a), argument);
	} else {
		std::cout << "unknown command\n";
	}
}

int shell()
{
	std::optional<cellward::ring_reader> ring;
	std::string line;

	std::cout << std::setprecision(17);
	while (std::getline(std::cin, line)) {
		try {
			answer(ring, line);
		} catch (const cellward::ring_error &error) {
			std::cout << "refused " << class_of(error) << ' ' << error.field() << '\n';
			std::cerr << error.what() << '\n';
		}
		std::cout << "." << std::endl;
	}
	return 0;
}

int follow(const std::string &socket, const std::string &from, std::size_t room, std::uint64_t pause)
{
	cellward::ring_options options;

	options.socket = socket;
	options.from_now = from == "now";
	options.stale_after = std::chrono::nanoseconds(-1);
	cellward::ring_reader ring(options);
	const auto streams = static_cast<std::uint32_t>(ring.streams().size());
	const std::uint32_t body_max = ring.status().body_max;
	const std::uint64_t start = ring.position();
	std::uint64_t next = start, read = 0, jumped = 0;
	std::string bad;

	std::cout << "ready" << std::endl;
	try {
		while (auto batch = ring.next(room)) {
			for (const auto &sample : batch) {
				if (const char *fault = stamp_fault(&sample, streams, body_max))
					bad = fault;
				if (sample.position < next)
					bad = "position went back";
				jumped += sample.position - next;
				next = sample.position + 1;
				read++;
			}
			if (pause && read >= pause) {
				pause = 0;
				std::cout << "paused" << std::endl;
				std::cin.get();
			}
		}
	} catch (const cellward::ring_error &error) {
		bad = error.what();
	}
	jumped += ring.position() - next;
	std::cout << "{\"start\":" << start << ",\"read\":" << read << ",\"missed\":" << ring.missed()
		  << ",\"jumped\":" << jumped << ",\"next\":" << ring.position() << ",\"bad\":\"" << bad << "\"}"
		  << std::endl;
	return 0;
}

/* Every interrupt comes at another phase of the wait; one that is lost hangs the program. */
int interrupts(const std::string &socket, long rounds)
{
	cellward::ring_options options;

	options.socket = socket;
	options.from_now = true;
	options.stale_after = std::chrono::nanoseconds(-1);
	cellward::ring_reader ring(options);
	cellward::ring_reader moved(std::move(ring));
	for (long i = 0; i < rounds; i++) {
		std::thread thread([&moved] { moved.interrupt(); });
		const auto batch = moved.next(1);

		thread.join();
		if (batch.result != cellward::ring_result::interrupted) {
			std::cout << "round " << i << '\n';
			return 1;
		}
	}
	std::cout << "ok\n";
	return 0;
}

} // namespace

int main(int argc, char **argv)
{
	const std::vector<std::string> words(argv + 1, argv + argc);

	try {
		if (words.size() == 1 && words[0] == "shell")
			return shell();
		if (words.size() == 5 && words[0] == "follow")
			return follow(words[1], words[2], std::stoul(words[3]), std::stoull(words[4]));
		if (words.size() == 3 && words[0] == "interrupts")
			return interrupts(words[1], std::stol(words[2]));
	} catch (const cellward::ring_error &error) {
		std::cerr << error.what() << '\n';
		return 1;
	}
	std::cerr << "usage: see reader.c\n";
	return 2;
}
