"""Packets that are right byte for byte and made to cost us work or memory: each ends its own connection.

RFC 9000 section 21. What is counted is what a packet leaves behind and what each further one goes through, never time.
"""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from aioquic.buffer import encode_uint_var

from pypatcher.established.range_set import STREAM_FRAGMENTS
from pypatcher.transport.stream import Stream
from tests.support.quic import Pair

FAR = 1 << 21


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    pair.talk()
    return pair


def one_byte(offset: int) -> bytes:
    """A STREAM frame of stream 0."""
    return b"\x0e\x00" + encode_uint_var(offset) + b"\x01x"


def expect_much(pair: Pair) -> None:
    streams = pair.client.streams
    streams.write(streams.open(False), b"a request", False)
    streams.grant(0, FAR)
    streams.state.flow.receive_limit = FAR


def test_a_holder_that_sends_every_second_byte_is_cut_off(pair: Pair) -> None:
    expect_much(pair)
    offsets = count(1, 2)
    ended = [pair.hostile_server(b"".join(one_byte(next(offsets)) for _ in range(100))) for _ in range(6)]
    assert ended[4] is None
    assert ended[5] is not None
    assert "gaps" in ended[5][2]
    receiving = pair.client.streams.state.flow.streams[0].receiving
    assert receiving is not None
    assert receiving.gaps <= STREAM_FRAGMENTS


def test_a_stream_that_loses_every_third_datagram_arrives(pair: Pair) -> None:
    expect_much(pair)
    size, datagrams = 1150, 1500
    order = [number for number in range(datagrams) if number % 3] + list(range(0, datagrams, 3))
    for number in order:
        frame = b"\x0e\x00" + encode_uint_var(number * size) + encode_uint_var(size) + bytes(size)
        assert pair.hostile_server(frame) is None
    receiving = pair.client.streams.state.flow.streams[0].receiving
    assert receiving is not None
    assert receiving.start == datagrams * size


def test_a_packet_full_of_acknowledgements_is_cut_off(pair: Pair) -> None:
    ended = pair.hostile_client(bytes([2, 0, 0, 0, 0]) * 200)
    assert ended is not None
    assert "acknowledgements" in ended[2]


def test_a_peer_that_never_says_what_arrived_fills_no_memory(pair: Pair) -> None:
    remembered = 0
    for _ in range(5000):
        pair.now += 0.05
        assert pair.hostile_client(b"\x01\x00\x00\x00") is None
        pair.server.datagrams_to_send(pair.now)
        while pair.server.next_event() is not None:
            pass
        remembered = max(remembered, len(pair.server.streams.state.recovery.sent))
    assert remembered < 2100


def test_a_taker_of_single_bytes_that_acknowledges_none_waits(pair: Pair) -> None:
    stream, server = pair.server.streams.open(False), pair.server.streams
    server.state.recovery.cubic.window = 1 << 20
    for number in range(2100):
        pair.now += 0.01
        pair.server.streams.write(stream, b"x", False)
        assert pair.hostile_client(b"\x11\x01" + encode_uint_var(number + 1)) is None
        pair.server.datagrams_to_send(pair.now)
    assert 1000 < len(server.state.recovery.sent) < 1900
    assert server.unsent(stream) > 200


def test_who_asks_for_answers_and_acknowledges_none_is_cut_off(pair: Pair) -> None:
    """Whether an address can be reached is answered at once, whatever is on its way."""
    for number in range(3000):
        pair.now += 1.0
        assert pair.hostile_client(b"\x1a" + number.to_bytes(8, "big"), ("198.51.100.9", 7)) is None
        pair.server.datagrams_to_send(pair.now)
        if pair.server.closing is not None:
            break
    assert pair.server.closing is not None
    assert "on their way" in pair.server.closing[2]
    assert number > 1000


class _NoOwner:
    """A stream's connection that does nothing."""

    def grant(self, stream_id: int, offset: int) -> None: ...


async def test_what_waits_for_a_reader_in_two_byte_frames_is_few_objects() -> None:
    stream = Stream(_NoOwner(), 0, readable=True, writable=False)
    sent = bytes(number % 251 for number in range(16384))
    for start in range(0, len(sent), 2):
        stream.feed(sent[start : start + 2], False)
    assert len(stream._chunks) < 100
    async with asyncio.timeout(5):
        assert await stream.read_exactly(len(sent)) == sent
