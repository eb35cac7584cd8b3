"""What a peer that knows the keys may send: it costs its own connection, little memory and little work."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from pypatcher.established.codec import LARGEST, FrameReader, TransportError
from pypatcher.established.ids import ConnectionId, TheirIds
from pypatcher.established.machine import Established
from pypatcher.established.octets import varint
from pypatcher.established.recovery import Recovery, SentPacket
from tests.support.virtual_path import CLIENT, Link, handover


def sent_packet(number: int) -> SentPacket:
    packet = SentPacket()
    packet.number, packet.time, packet.size = number, 1.0, 100
    return packet


class KeyThief:
    """A client's keys in other hands."""

    def __init__(self) -> None:
        self.link = Link()
        self.link.run(1.0)
        self.number = 5000
        self.answered = 0

    @property
    def server(self) -> Established:
        return self.link.server

    def send(self, *frames: bytes) -> tuple[int, str] | None:
        """One packet; how the server ended the connection, if it did."""
        state = self.link.client.state
        prefix = bytes((0x43 | state.sealer.phase << 2,)) + state.their_ids.current.value
        self.number += 1
        header, sealed = state.sealer.seal(prefix, self.number, b"".join(frames))
        ((packet, _),) = state.sealer.finish([header], [sealed])
        self.server.receive([(packet, CLIENT)], self.link.now)
        self.answered += sum(len(data) for data, _ in self.server.send(self.link.now))
        closing = self.server.closing
        return None if closing is None else (closing.code, closing.reason)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", 0xA),
        (b"\x1f", 0x7),  # no such frame
        (b"\x40\x01", 0xA),  # a type in more bytes than it needs
        (b"\x31\x00", 0x7),  # DATAGRAM, which nobody offered
        (b"\x08\x01x", 0x5),  # a stream that the server has not opened
        (b"\x0c\x10\x00x", 0x4),  # a fifth stream
        (b"\x0c\x00" + varint(1 << 18) + b"x", 0x3),  # beyond its window
        (b"\x04\x00\x00" + varint(1 << 30), 0x3),
        (b"\x0c\x00" + varint(LARGEST) + b"xx", 0x7),
        (b"\x09\x00abc", None),
        (b"\x11\x02\x10", 0x5),  # MAX_STREAM_DATA of a stream that it only writes
        (b"\x12" + varint(LARGEST), 0x7),
        (b"\x19\x3f", 0xA),  # an id that was never given out
        (b"\x19\x00", 0xA),  # the one that is in use
        (b"\x18\x01\x02\x08" + bytes(24), 0xA),  # takes itself back
        (b"\x18\x01\x00\x00" + bytes(16), 0x7),
        (b"\x1e", 0xA),  # only servers say that it is done
        (b"\x07\x01x", 0xA),
        (b"\x06\x00\x01x", 0x10A),
        (b"\x02" + varint(9999) + b"\x00\x00\x00", 0xA),  # acknowledges what never left
        (b"\x02\x00\x00\x00\x05", 0x7),
        (b"\x0e\x00\x00\x05x", 0x7),  # shorter than it says
    ],
)
def test_what_must_not_come_ends_the_connection(frame: bytes, code: int | None) -> None:
    ended = KeyThief().send(frame)
    assert (None if ended is None else ended[0]) == code


def test_a_peer_without_ids_is_answered_at_another_address() -> None:
    start = replace(handover(False), theirs=[ConnectionId(0, b"")])
    server, client = Established(start, 100.0), KeyThief()
    away = ("198.51.100.9", 7)
    for number, frame in ((9, b"\x1a" + b"question"), (10, b"\x18\x01\x00\x08" + bytes(24))):
        sealer, prefix = client.link.client.state.sealer, b"\x43server00"
        header, sealed = sealer.seal(prefix, number, frame.ljust(100, b"\0"))
        ((packet, _),) = sealer.finish([header], [sealed])
        server.receive([(packet, away)], 100.0)
        if number == 9:
            assert away in [address for _, address in server.send(100.0)]
            assert server.closing is None
    assert server.closing is not None
    assert server.closing.code == 0xA


def test_who_asks_whether_it_is_reached_is_answered_now_and_then() -> None:
    """The attack: 44 bytes a time, each answered by a full datagram: 440 kB drew 12 MB, in no limit of uploads."""
    liar = KeyThief()
    for number in range(10_000):
        liar.link.now += 0.001
        newest = liar.server.state.recovery.next_number - 1
        liar.send(b"\x1a" + number.to_bytes(8, "big"), b"\x02" + varint(newest) + b"\x00\x00\x00")
    assert liar.answered < 10_000 * 44


def test_who_has_the_same_sent_over_and_over_is_ended() -> None:
    """The attack: everything is acknowledged but an answer, which is lost then, and sent again, once a round trip."""
    liar, sent = KeyThief(), 0
    server = liar.server
    assert liar.send(b"\x0b\x00\x01q") is None
    server.write(0, bytes(1100), True)
    for _ in range(3000):
        liar.link.now += 0.01
        server.ping()
        sent += sum(len(data) for data, _ in server.send(liar.link.now))
        others = [number for number, packet in server.state.recovery.sent.items() if packet.stream is None]
        acked = (b"\x02" + varint(others[-1]) + b"\x00\x00\x00",) if others else ()
        if liar.send(b"\x01\x00\x00\x00", *acked):
            break
    assert server.closing is not None
    assert "lost" in server.closing.reason
    assert sent < 300_000


def test_two_ends_of_one_stream_are_one_too_many() -> None:
    for second in (b"\x0d\x00\x02", b"\x0c\x00\x09x", b"\x04\x00\x00\x01"):
        liar = KeyThief()
        assert liar.send(b"\x0d\x00\x03") is None
        ended = liar.send(second)
        assert ended is not None
        assert ended[0] == 0x6


def test_who_acknowledges_a_number_never_used_is_ended() -> None:
    liar = KeyThief()
    recovery = liar.server.state.recovery
    recovery.skipped = recovery.next_number
    recovery.next_number += 2
    ended = liar.send(b"\x02" + varint(recovery.next_number - 1) + b"\x00\x00\x03")
    assert ended is not None
    assert "never sent" in ended[1]


def test_connection_ids_without_end_leave_nothing_behind() -> None:
    liar = KeyThief()
    for number in range(10, 3000):
        value = number.to_bytes(8, "big")
        liar.link.now += 0.01
        assert liar.send(b"\x18" + varint(number) + varint(number) + b"\x08" + value + bytes(16)) is None
        acked = liar.server.state.recovery
        liar.send(b"\x02" + varint(acked.next_number - 1) + b"\x00\x00\x00")
    theirs = liar.server.state.their_ids
    assert len(theirs._seen) + len(theirs.to_retire) + len(theirs.spare) < 50


def test_ids_that_are_taken_back_faster_than_acknowledged_end_it() -> None:
    liar = KeyThief()
    for number in range(10, 3000):
        value = number.to_bytes(8, "big")
        if liar.send(b"\x18" + varint(number) + varint(number) + b"\x08" + value + bytes(16)):
            break
    assert liar.server.closing is not None
    assert number < 2500


def test_ids_of_ours_that_nobody_was_told_cannot_be_taken_back() -> None:
    """The attack: take back 240 in one packet, each of which makes another one that waits to be told."""
    liar = KeyThief()
    ended = liar.send(*(b"\x19" + varint(number) for number in range(1, 240)))
    assert ended == (0xA, "Cannot retire unknown connection ID")
    assert len(liar.server.state.our_ids.to_send) <= 8


def test_ids_that_are_changed_without_end_leave_nothing_behind() -> None:
    theirs = TheirIds(ConnectionId(0, b"peer0000"), [])
    with pytest.raises(TransportError, match="without end"):
        for number in range(1, 100_000):
            frame = varint(number) + b"\x00\x08" + number.to_bytes(8, "big") + bytes(16)
            theirs.on_new(FrameReader(frame))
            theirs.change()
            theirs.to_retire.clear()
    assert len(theirs._seen) <= 1024


def test_a_late_acknowledgement_counts_through_no_numbers() -> None:
    """A million packets that want no answer lie between the oldest that does, and the newest."""
    recovery = Recovery(1200)
    recovery.next_number = 1 << 40
    for number in (5, 77, 1 << 39, (1 << 40) - 1):
        recovery.on_sent(sent_packet(number))
    reader = FrameReader(varint((1 << 40) - 1) + b"\x00\x01" + varint(1 << 39) + b"\x00" + varint((1 << 39) - 40))
    recovery.on_ack(reader, 1.1)
    assert [packet.number for packet in recovery.arrived] == [77, 1 << 39, (1 << 40) - 1]


def test_both_ways_to_find_what_arrived_find_the_same() -> None:
    for seed in range(200):
        draw = random.Random(seed)
        sent = sorted(draw.sample(range(400), draw.randrange(1, 60)))
        edges = sorted(draw.sample(range(0, 400, 2), 2 * draw.randrange(1, 8)), reverse=True)
        ranges = list(zip(edges[1::2], edges[::2], strict=True))
        recovery = Recovery(1200)
        for number in sent:
            recovery.sent[number] = sent_packet(number)
        expected = [number for number in sent if any(low <= number <= high for low, high in ranges)]
        assert [packet.number for packet in recovery._named(ranges, ranges[0][1])] == expected
        assert list(recovery.sent) == [number for number in sent if number not in expected]


def test_noise_as_frames_breaks_nothing_but_its_connection() -> None:
    draw = random.Random(7)
    liar = KeyThief()
    for _ in range(300):
        if liar.server.closing is not None:
            liar = KeyThief()
        liar.send(bytes((draw.randrange(0x20),)) + draw.randbytes(draw.choice((1, 3, 20, 300))))


def test_noise_as_packets_is_dropped() -> None:
    draw = random.Random(8)
    link = Link()
    for size in range(60):
        data = bytes((0x40 | draw.randrange(0x40),)) + b"server00" + draw.randbytes(size)
        link.server.receive([(data, CLIENT), (data[:3], CLIENT), (b"\x40", CLIENT)], link.now)
    assert link.server.closing is None
    with pytest.raises(TransportError):
        FrameReader(b"\xc0\x00").varint()
