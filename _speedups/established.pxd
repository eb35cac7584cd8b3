# C types for pypatcher/established/, which is compiled from its own source: see established.py, beside this.
#
# 64-bit numbers are `int64_t` everywhere: `long` has 32 bits on armv7. What is not named here is Python's own. Classes
# are final, so that their methods are called directly.

cimport cython
from libc.stdint cimport int64_t

# range_set.py

@cython.final
cdef class Fragments:
    cdef Py_ssize_t _most
    cdef list _ranges
    cpdef add(self, int64_t start, int64_t stop)
    cpdef shift(self)


# codec.py

@cython.final
cdef class FrameReader:
    cdef public bytes data
    cdef public Py_ssize_t pos
    cdef public Py_ssize_t end
    @cython.locals(pos=Py_ssize_t, data=bytes, first=cython.int, size=cython.int)
    cpdef int64_t varint(self) except -1
    @cython.locals(pos=Py_ssize_t)
    cpdef bytes take(self, int64_t count)


@cython.locals(end=Py_ssize_t, stop=Py_ssize_t, name=bytes)
cpdef Py_ssize_t short_run(bytes train, Py_ssize_t start, Py_ssize_t size, Py_ssize_t called) except -1
@cython.locals(train=tuple, data=bytes)
cpdef bint have_short_headers(list trains) except -1


# protection.py

@cython.final
cdef class Key:
    cdef public object encrypt, decrypt
    cdef public bytes iv, secret
    cdef public int suite

@cython.final
cdef class Sealer:
    cdef object _masks
    cdef public Key _key
    cdef public int phase
    cdef public int64_t sealed
    @cython.locals(key=Key, header=bytes)
    cpdef tuple seal(self, bytes prefix, int64_t number, bytes payload)
    @cython.locals(masks=bytes, trains=list, first=Py_ssize_t, count=Py_ssize_t, size=Py_ssize_t, most=Py_ssize_t,
                   end=Py_ssize_t, last=Py_ssize_t)
    cpdef list finish(self, list headers, list sealed)

@cython.final
cdef class Opener:
    cdef object _masks
    cdef public Key _key, _next, _old
    cdef public int phase
    cdef public int64_t failed, flipped_at
    cpdef bytes masks(self, bytes train, Py_ssize_t size, Py_ssize_t offset, Py_ssize_t count)
    @cython.locals(key=Key, flips=bint)
    cpdef tuple open(self, bytes header, int64_t number, bytes sealed, int phase)


# received.py

@cython.final
cdef class Received:
    cdef public list ranges
    cdef public int64_t floor, largest
    cdef public double largest_time
    cdef public int64_t eliciting
    cdef public object ack_at
    cpdef bint is_new(self, int64_t number) except -1
    @cython.locals(ranges=list, in_order=bint)
    cpdef add(self, int64_t number, double now, bint eliciting)
    cpdef forget(self, int64_t up_to)
    cpdef bytes frame(self, double now, Py_ssize_t room)


# congestion.py

@cython.final
cdef class Cubic:
    cdef public int64_t datagram, window, in_flight
    cdef public double threshold, recovery_since
    cdef double _epoch, _max, _prior, _friendly, _k
    cdef int64_t _round_end
    cdef double _last_min, _this_min, _baseline
    cdef int _samples, _css_rounds
    cpdef acked(self, int64_t size, double sent_at, double now, double rtt, bint limited)
    cpdef sample(self, double rtt, int64_t newest_acked, int64_t next_number)
    cpdef lost(self, double newest_sent_at, double now)
    @cython.locals(window=double)
    cdef _begin(self, double now)
    @cython.locals(alpha=double)
    cdef _gain(self, int64_t size)
    @cython.locals(window=double, since=double, target=double)
    cdef _avoid(self, int64_t size, double now, double rtt)
    cdef double _at(self, double seconds) except? -1

@cython.final
cdef class Pacer:
    cdef public int64_t datagram
    cdef double _tokens, _filled_at, _rate
    cpdef update(self, int64_t window, double rtt, bint slow_start)
    @cython.locals(rate=double, most=double)
    cpdef double budget(self, double now) except? -1
    cpdef spend(self, int64_t size)
    @cython.locals(wanted=double)
    cpdef double next_time(self, double now) except? -1


# streams.py

@cython.final
cdef class Sending:
    cdef public int64_t base, next, end, limit, take_start, take_end, reset_code
    cdef public bint fin, fin_sent, fin_lost, fin_acked, take_fin, reset_pending, reset_acked
    cdef int64_t _left_behind, _chunk_start
    cdef bytes _chunk
    cdef list _chunks, _starts
    cdef Fragments _acked, _lost
    cpdef write(self, bytes data, bint fin)
    @cython.locals(lost=Fragments, start=int64_t, stop=int64_t, wants_fin=bint)
    cpdef bint take(self, int64_t room, int64_t new) except -1
    @cython.locals(start=int64_t, length=Py_ssize_t, at=Py_ssize_t, kind=cython.int, chunk=bytes)
    cpdef bytes frame(self, bytes name)
    cpdef int64_t straight(self) except -1
    @cython.locals(start=int64_t, at=int64_t)
    cpdef bytes advance(self, bytes name, int64_t length)
    @cython.locals(acked=Fragments, chunks=list, starts=list)
    cpdef acked(self, int64_t start, int64_t stop, bint fin)
    cpdef lost(self, int64_t start, int64_t stop, bint fin)
    cpdef bint has_more(self) except -1

@cython.final
cdef class Receiving:
    cdef public int64_t limit, start, highest, final, stop_code
    cdef public bint limit_pending, ended, reset_seen, stop_pending
    cdef public list chunks
    cdef bytearray _ahead
    cdef Fragments _gaps
    cpdef bint append(self, int64_t offset, bytes data, int64_t end) except -1
    @cython.locals(end=int64_t)
    cpdef bint frame(self, int64_t offset, bytes data, bint fin) except -1
    cdef _check_final(self, int64_t end, bint fin)
    cdef _deliver(self, bytes data)

@cython.final
cdef class QuicStream:
    cdef public int64_t id
    cdef public Sending sending
    cdef public Receiving receiving
    cdef public bint queued


# recovery.py

@cython.final
@cython.no_gc
cdef class SentPacket:
    cdef public int64_t number, size, probe, acked, start, end
    cdef public double time
    cdef public bint counted, padded, fin
    cdef public QuicStream stream
    cdef public list more, controls

@cython.final
cdef class Recovery:
    cdef public dict sent
    cdef public Cubic cubic
    cdef public Pacer pacer
    cdef public int64_t next_number, skipped, largest_acked, peer_exponent, timeouts, probes
    cdef public double latest_rtt, min_rtt, rtt, variance, first_sample_at, peer_ack_delay, last_eliciting
    cdef public bint limited
    cdef int64_t _acked, _lost
    cdef public object loss_at
    cdef public list arrived, again
    cpdef on_sent(self, SentPacket packet)
    cpdef int64_t room(self) except? -1
    @cython.locals(reader=FrameReader, largest=int64_t, delay=int64_t, count=int64_t,
                   first=int64_t, high=int64_t, low=int64_t)
    cpdef on_ack(self, FrameReader reader, double now)
    cpdef double probe_timeout(self) except? -1
    @cython.locals(delay=double, newest=int64_t, packet=SentPacket, lost=list)
    cpdef detect(self, double now)
    @cython.locals(packet=SentPacket, acked=list, newest=SentPacket, cubic=Cubic, rtt=double, limited=bint)
    cdef _take(self, list ranges, int64_t largest, int64_t delay, double now)
    @cython.locals(sent=dict, oldest=int64_t, acked=list, low=int64_t, high=int64_t,
                   number=int64_t, packet=SentPacket)
    cpdef list _named(self, list ranges, int64_t largest)
    @cython.locals(packet=SentPacket, newest=double)
    cdef _lose(self, list lost, double now)


# flow.py

@cython.final
cdef class Flow:
    cdef public dict streams, readable
    cdef public object queue
    cdef public set changed
    cdef public int64_t receive_limit, received, send_limit, sent
    cdef int _mine
    cdef object _ours, _theirs
    cdef list _opened, _may_open, _seen, _told
    cdef public list allowed
    cpdef bint may_send(self, QuicStream stream) except -1
    cpdef enqueue(self, QuicStream stream)
    @cython.locals(stream=QuicStream, receiving=Receiving, end=int64_t)
    cpdef on_data(self, int64_t stream_id, int64_t offset, bytes data, bint fin)
    cpdef collect(self, QuicStream stream)
    @cython.locals(received=int64_t)
    cdef _count(self, Receiving receiving, int64_t end, int frame_type)


# paths.py

@cython.final
cdef class Path:
    cdef public tuple address
    cdef public bint proved
    cdef public double asks_next
    cdef public int64_t received, sent
    cdef public object challenges, responses, deadline
    cpdef int64_t room(self) except? -1
    cpdef int64_t room_for_others(self) except? -1

@cython.final
cdef class Paths:
    cdef public list all
    cdef double _answers, _answers_at
    @cython.locals(active=Path, path=Path)
    cpdef Path find(self, tuple address)

@cython.final
cdef class PathSize:
    cdef public int64_t size
    cdef int64_t _largest, _too_large, _candidate
    cdef int _tries
    cdef bint _waiting
    cdef object _again_at
    cpdef int64_t due(self, double now) except -1


# ids.py

@cython.final
cdef class OurIds:
    cdef public dict ids
    cdef public list to_send
    cdef int64_t _next, _told, _most
    cdef dict _values
    cpdef number_of(self, bytes value)

@cython.final
cdef class TheirIds:
    cdef public object current
    cdef public list spare, to_retire
    cdef public set _seen
    cdef int64_t _retired_below
    cdef public dict reserved


# state.py

@cython.final
cdef class State:
    cdef public bint is_client, sent_since_heard, confirmed, ping, close_pending, over
    cdef public object random, closing
    cdef public Sealer sealer
    cdef public Opener opener
    cdef public int64_t phase_since
    cdef public double old_keys_until, idle, idle_at, close_at
    cdef public Received received
    cdef public Flow flow
    cdef public OurIds our_ids
    cdef public TheirIds their_ids
    cdef public Paths paths
    cdef public PathSize size
    cdef public Recovery recovery
    cdef public Py_ssize_t id_size
    cdef public bytes host_id
    cdef public set pending
    cdef public list events
    cdef double _now
    cpdef double idle_seconds(self) except? -1
    cpdef clock(self, double now)
    @cython.locals(packet=SentPacket, arrived=list, again=list, recovery=Recovery)
    cpdef settle(self)
    @cython.locals(stream=QuicStream)
    cdef _arrived(self, SentPacket packet)
    @cython.locals(stream=QuicStream)
    cdef _lost(self, SentPacket packet)
    @cython.locals(sending=Sending)
    cdef _data_acked(self, QuicStream stream, int64_t start, int64_t end, bint fin)
    @cython.locals(sending=Sending)
    cdef _data_lost(self, QuicStream stream, int64_t start, int64_t end, bint fin)


# controls.py

cpdef int64_t write_controls(State state, list parts, SentPacket packet, int64_t room) except? -1


# incoming.py

@cython.final
cdef class Incoming:
    cdef State _state
    cdef Receiving _tls
    cdef bytes _tls_left
    cdef bint _genuine
    cdef Py_ssize_t _number_at
    cdef FrameReader _reader
    cdef bytes _called
    @cython.locals(state=State, train=tuple)
    cpdef receive(self, list trains, double now)
    @cython.locals(state=State, offset=Py_ssize_t, shortest=Py_ssize_t, path=Path, total=Py_ssize_t, count=Py_ssize_t,
                   masks=bytes, index=Py_ssize_t, start=Py_ssize_t, called=bytes)
    cdef _train(self, bytes data, Py_ssize_t size, tuple address, double now)
    @cython.locals(state=State, offset=Py_ssize_t, received=Received, first=cython.int, size=cython.int, low=int64_t,
                   expected=int64_t, window=int64_t, number=int64_t, header=bytes,
                   payload=bytes, flips=bint, path=Path, called=bytes, eliciting=bint, probing=bint)
    cdef _packet(self, bytes data, Py_ssize_t start, Py_ssize_t end, tuple address, bytes masks, Py_ssize_t at, double now)
    @cython.locals(state=State, before=Path)
    cdef _follow(self, Path path, bytes called, bint probing, bint newest)
    @cython.locals(reader=FrameReader, eliciting=bint, probing=bint, acks=cython.int, kind=cython.int)
    cdef tuple _frames(self, bytes payload, Path path, bytes called, double now)
    @cython.locals(stream_id=int64_t, offset=int64_t, length=int64_t)
    cdef _stream_frame(self, FrameReader reader, int kind)
    cdef _frame(self, FrameReader reader, int kind, Path path, bytes called, double now)


# outgoing.py

@cython.final
cdef class Outgoing:
    cdef State _state
    cdef int64_t _skip_at
    cdef int _acks_with_gaps
    cdef public object pacing_at
    cpdef list send(self, double now)
    cdef bytes _prefix(self, bytes connection_id)
    @cython.locals(recovery=Recovery, number=int64_t)
    cdef int64_t _number(self) except -1
    @cython.locals(state=State, recovery=Recovery, received=Received, path=Path, prefix=bytes,
                   overhead=int64_t, size=int64_t, cubic=Cubic, pacer=Pacer, budget=double, headers=list, sealed=list,
                   unproved=int64_t, room=int64_t, parts=list, acks=bint, fits=bint, may=bint,
                   newest=int64_t, packet=SentPacket, eliciting=bint, payload=bytes)
    cdef list _bulk(self, double now)
    @cython.locals(state=State, recovery=Recovery, flow=Flow, cubic=Cubic, stream=QuicStream, sending=Sending,
                   name=bytes, length=int64_t, count=int64_t, gone=int64_t, packet=SentPacket, frame=bytes)
    cdef int64_t _run(self, list headers, list sealed, bytes prefix, int64_t size, double budget, double now) except -1
    @cython.locals(pair=tuple)
    cdef _seal(self, list headers, list sealed, bytes prefix, int64_t number, bytes payload)
    @cython.locals(address=tuple, trains=list, data=bytes, size=Py_ssize_t)
    cdef list _finished(self, list headers, list sealed, Path path)
    @cython.locals(state=State)
    cdef _left(self, SentPacket packet, double now)
    cdef bint _has_data(self) except -1
    @cython.locals(state=State)
    cdef bint _has_more_than_data(self) except -1
    @cython.locals(state=State, before=Py_ssize_t)
    cdef bint _fill(self, list parts, SentPacket packet, Path path, int64_t room) except -1
    @cython.locals(flow=Flow, blocked=Py_ssize_t, stream=QuicStream, sending=Sending, before=int64_t, name=bytes,
                   frame=bytes)
    cdef _streams(self, list parts, SentPacket packet, int64_t room)


# machine.py

@cython.final
cdef class Established:
    cdef public State state
    cdef Incoming _incoming
    cdef Outgoing _outgoing
    cpdef list send(self, double now)
    cpdef list send_trains(self, double now)
    @cython.locals(state=State, path=Path, due=double)
    cpdef timer(self)
