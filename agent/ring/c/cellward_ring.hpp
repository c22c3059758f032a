/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cellward_ring.hpp - C++17 face of cellward_ring.h, which must be implemented in one source file of the program.
 *
 *	cellward::ring_reader ring;                        // throws cellward::ring_error
 *	while (auto batch = ring.next()) {                 // until the producer is gone
 *		for (const auto &sample : batch)
 *			for (const auto &value : ring.decode(sample))
 *				use(ring.stream(sample).name, ring.signal(sample, value).name, value.physical);
 *	}
 *
 * What can be expected of a healthy system is a result (the end of the producer, a stale heartbeat, a time-out); what
 * cannot is thrown. Concurrency and lifetimes are those of the C functions.
 */
#ifndef CELLWARD_RING_HPP
#define CELLWARD_RING_HPP

#include "cellward_ring.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace cellward
{

using ring_sample = cellward_ring_sample;
using ring_signal = cellward_ring_signal;
using ring_stream = cellward_ring_stream;
using ring_status = cellward_ring_status;
using ring_fault_evidence = cellward_ring_fault_evidence;
using ring_value = cellward_ring_value;

/* A failure: code() is one of CELLWARD_RING_..., field() is what a damaged ring was refused for. */
class ring_error : public std::runtime_error
{
      public:
	explicit ring_error(const cellward_ring_error &error)
	    : std::runtime_error(error.text), code_(error.code), system_(error.system), field_(error.field)
	{
	}
	int code() const noexcept
	{
		return code_;
	}
	int system() const noexcept
	{
		return system_;
	}
	const std::string &field() const noexcept
	{
		return field_;
	}

      private:
	int code_;
	int system_;
	std::string field_;
};

/* Tune a reader; the defaults are good. */
struct ring_options {
	std::string socket = CELLWARD_RING_DEFAULT_SOCKET;
	bool from_now = false;	/* begin with the next sample instead of the oldest one */
	bool reconnect = false; /* wait for the next producer when the present one ends */
	/* Age of the heartbeat that counts as stale. Zero: three periods; negative: never. */
	std::chrono::nanoseconds stale_after{0};
	std::chrono::nanoseconds spin{0};
	/* Zero: 5 s; negative: no bound. */
	std::chrono::nanoseconds connect_timeout{0};
};

/* A range over consecutive elements. */
template <typename T> class ring_span
{
      public:
	ring_span() = default;
	ring_span(const T *data, std::size_t size) : data_(data), size_(size)
	{
	}
	const T *begin() const noexcept
	{
		return data_;
	}
	const T *end() const noexcept
	{
		return data_ + size_;
	}
	const T &operator[](std::size_t i) const noexcept
	{
		return data_[i];
	}
	const T *data() const noexcept
	{
		return data_;
	}
	std::size_t size() const noexcept
	{
		return size_;
	}
	bool empty() const noexcept
	{
		return size_ == 0;
	}

      private:
	const T *data_ = nullptr;
	std::size_t size_ = 0;
};

/* How a call of ring_reader::next ended. */
enum class ring_result {
	samples,     /* there are some */
	timeout,     /* nothing came in time */
	stale,	     /* nothing came, and the heartbeat is old */
	interrupted, /* by ring_reader::interrupt or by a signal */
	restarted,   /* another producer: its stream table replaces the old one */
	gone	     /* the producer has ended and everything has been read */
};

/* What ring_reader::next returns: samples until the next call, and how it ended. True until the producer is gone. */
class ring_batch : public ring_span<ring_sample>
{
      public:
	explicit ring_batch(ring_result how) : result(how)
	{
	}
	ring_batch(const ring_sample *data, std::size_t size)
	    : ring_span<ring_sample>(data, size), result(ring_result::samples)
	{
	}
	explicit operator bool() const noexcept
	{
		return result != ring_result::gone;
	}

	ring_result result;
};

/* Reads a ring. Movable; belongs to one thread at a time, interrupt() apart. */
class ring_reader
{
      public:
	explicit ring_reader(const ring_options &options = {})
	{
		cellward_ring_options plain = {};
		cellward_ring_error error = {};
		cellward_ring *opened = nullptr;

		plain.socket = options.socket.c_str();
		plain.from_now = options.from_now;
		plain.reconnect = options.reconnect;
		plain.stale_after_ns = options.stale_after.count();
		plain.spin_ns = options.spin.count();
		plain.connect_timeout_ns = options.connect_timeout.count();
		if (cellward_ring_open(&opened, &plain, &error) != CELLWARD_RING_OK)
			throw ring_error(error);
		ring_.reset(opened);
	}

	/* The next samples, at most limit. Waits for the first one, at most for the given time. */
	ring_batch next(std::size_t limit = 64, std::optional<std::chrono::nanoseconds> timeout = std::nullopt)
	{
		if (batch_.size() < limit)
			batch_.resize(limit);
		int n = cellward_ring_next(ring_.get(), batch_.data(), limit, timeout ? nonnegative(*timeout) : -1);
		if (n > 0)
			return {batch_.data(), static_cast<std::size_t>(n)};
		switch (n) {
		case 0:
			return ring_batch(ring_result::timeout);
		case CELLWARD_RING_STALE:
			return ring_batch(ring_result::stale);
		case CELLWARD_RING_INTERRUPTED:
			return ring_batch(ring_result::interrupted);
		case CELLWARD_RING_RESTARTED:
			return ring_batch(ring_result::restarted);
		case CELLWARD_RING_GONE:
			return ring_batch(ring_result::gone);
		default:
			throw ring_error(*cellward_ring_last_error(ring_.get()));
		}
	}

	/* Ends a wait of next(), or the next one. From any thread. */
	void interrupt() noexcept
	{
		cellward_ring_interrupt(ring_.get());
	}

	/*
	 * The newest sample of a stream; nothing when it has none yet. Its body is valid until the next call. Throws
	 * with CELLWARD_RING_BUSY while the value is being written.
	 */
	std::optional<ring_sample> latest(std::size_t stream)
	{
		ring_sample sample = {};

		latest_.resize(cellward_ring_body_max(ring_.get()));
		/* An index that does not fit is one that is out of range. */
		std::uint32_t index = stream < UINT32_MAX ? static_cast<std::uint32_t>(stream) : UINT32_MAX;
		int n = cellward_ring_latest(ring_.get(), index, &sample, latest_.data(), latest_.size());
		if (n < 0)
			throw ring_error(*cellward_ring_last_error(ring_.get()));
		if (n == 0)
			return std::nullopt;
		return sample;
	}

	ring_span<ring_stream> streams() const noexcept
	{
		std::uint32_t count = 0;
		const ring_stream *first = cellward_ring_streams(ring_.get(), &count);

		return {first, count};
	}
	const ring_stream &stream(const ring_sample &sample) const noexcept
	{
		return streams()[sample.stream];
	}
	const ring_signal &signal(const ring_sample &sample, const ring_value &value) const noexcept
	{
		return stream(sample).signals[value.signal];
	}
	const ring_stream *lookup(std::uint32_t stream_id) const noexcept
	{
		return cellward_ring_lookup(ring_.get(), stream_id);
	}

	/* The values of all signals that are present in a sample's body; valid until the next call. */
	ring_span<ring_value> decode(const ring_sample &sample)
	{
		const ring_stream &of = stream(sample);

		if (values_.size() < of.signal_count)
			values_.resize(of.signal_count);
		return {values_.data(),
			cellward_ring_decode(&of, sample.body, sample.length, values_.data(), values_.size())};
	}

	ring_status status() noexcept
	{
		ring_status status = {};

		cellward_ring_get_status(ring_.get(), &status);
		return status;
	}
	/* State of the fault word, CELLWARD_RING_FAULT_... */
	std::uint32_t fault() const noexcept
	{
		return cellward_ring_fault(ring_.get(), nullptr);
	}
	/*
	 * Which data sources a standing fault is about and what speaks for it; all zeros if there is none. Throws with
	 * CELLWARD_RING_BUSY while it is being written.
	 */
	ring_fault_evidence fault_record()
	{
		ring_fault_evidence record = {};

		if (cellward_ring_fault_record(ring_.get(), &record) != CELLWARD_RING_OK)
			throw ring_error(*cellward_ring_last_error(ring_.get()));
		return record;
	}
	std::uint64_t position() const noexcept
	{
		return cellward_ring_position(ring_.get());
	}
	std::uint64_t missed() const noexcept
	{
		return cellward_ring_missed(ring_.get());
	}
	std::uint64_t reconnects() const noexcept
	{
		return cellward_ring_reconnects(ring_.get());
	}
	std::uint64_t generation() const noexcept
	{
		return cellward_ring_generation(ring_.get());
	}

      private:
	struct closer {
		void operator()(cellward_ring *ring) const noexcept
		{
			cellward_ring_close(ring);
		}
	};

	/* For the C function a negative time is no limit; here it is one that has passed. */
	static std::int64_t nonnegative(std::chrono::nanoseconds time) noexcept
	{
		return time.count() > 0 ? time.count() : 0;
	}

	std::unique_ptr<cellward_ring, closer> ring_;
	std::vector<ring_sample> batch_;
	std::vector<ring_value> values_;
	std::vector<std::uint8_t> latest_;
};

} // namespace cellward

#endif /* CELLWARD_RING_HPP */
