"""What is on its way: acknowledgements, losses, round-trip times, the probe timeout (RFC 9002). Pure.

A packet that is lost is forgotten, and what it carried is sent again in another one; data may then arrive twice, which
streams bear. Not here: what a packet carried means.
"""

from __future__ import annotations

from .codec import ACK, FRAME_ENCODING_ERROR, PROTOCOL_VIOLATION, FrameReader, TransportError
from .congestion import Cubic, Pacer
from .streams import QuicStream

__all__ = ["Recovery", "SentPacket"]

_PACKET_THRESHOLD = 3
_TIME_THRESHOLD = 9 / 8
_GRANULARITY = 0.001
_PERSISTENT = 3
_MOST_PACKETS = 2048
"""Of which nobody said that they arrived. What a writer may be ahead, 1 MiB, is 900 of them."""
_MOST_WITH_DATA = 1792
"""From so many on no data leaves: who takes several streams over a long way shall wait, not be ended."""
_LONGEST_BACKOFF = 10
_LOST_FACTOR, _LOST_LEAST = 3, 1 << 16
"""Of what arrived: more is lost to no network that carries anything; half of all packets makes as much again."""


class SentPacket:
    """One that wants an acknowledgement."""

    __slots__ = (
        "acked",
        "controls",
        "counted",
        "end",
        "fin",
        "more",
        "number",
        "padded",
        "probe",
        "size",
        "start",
        "stream",
        "time",
    )

    def __init__(self) -> None:
        """Nothing is known of it."""
        self.number = self.size = 0
        self.time = 0.0
        self.counted = True
        """Whether it counts as in flight."""
        self.probe = 0
        """The size of datagrams that it tries."""
        self.padded = False
        """Whether it has to be as long as every path carries."""
        self.acked = -1
        """The newest packet that its ACK frame named."""
        self.stream: QuicStream | None = None
        self.start = 0
        self.end = 0
        self.fin = False
        self.more: list[tuple[QuicStream, int, int, bool]] | None = None
        """Further STREAM frames."""
        self.controls: list[tuple[int, int]] | None = None
        """Other frames to be sent again: type, and which stream or number."""


class Recovery:
    """The sent packets of one number space, and when something has to be done about them."""

    def __init__(self, datagram: int) -> None:
        """Nothing left yet; packets are of ``datagram`` bytes."""
        self.sent: dict[int, SentPacket] = {}
        self.cubic = Cubic(datagram)
        self.pacer = Pacer(datagram)
        self.next_number = 0
        self.skipped = -1
        """A number that was never used: who acknowledges it lies (RFC 9000 section 21.4)."""
        self.largest_acked = -1
        self.latest_rtt = 0.0
        self.min_rtt = float("inf")
        self.rtt = 0.0
        self.variance = 0.0
        self.first_sample_at = float("inf")
        self.peer_ack_delay = 0.025
        self.peer_exponent = 3
        self.timeouts = 0
        self.probes = 0
        """Packets that may leave whatever the window says."""
        self.limited = False
        self._acked = self._lost = 0
        """Bytes of all packets that arrived, and of all that did not."""
        self.loss_at: float | None = None
        self.last_eliciting = 0.0
        self.arrived: list[SentPacket] = []
        """What was acknowledged, for who knows what it carried; whoever calls takes it."""
        self.again: list[SentPacket] = []
        """What is lost, or may be: what it carried has to leave again."""

    def measured(self, latest: float, smoothed: float, minimum: float, variance: float) -> None:
        """What the handshake measured."""
        self.latest_rtt, self.rtt, self.min_rtt, self.variance = latest, smoothed, minimum, variance
        self.first_sample_at = 0.0
        self._pace()

    def on_sent(self, packet: SentPacket) -> None:
        """A packet that wants an acknowledgement left."""
        self.sent[packet.number] = packet
        if packet.counted:
            self.cubic.in_flight += packet.size
            self.pacer.spend(packet.size)
        self.last_eliciting = packet.time

    @property
    def too_many(self) -> bool:
        """Whether more is on its way than an honest peer would leave unanswered."""
        return len(self.sent) > _MOST_PACKETS

    @property
    def loses_too_much(self) -> bool:
        """Whether so much did not arrive, as the peer has it, that it has us send the same for ever."""
        return self._lost > _LOST_LEAST + _LOST_FACTOR * self._acked

    def room(self) -> int:
        """How many packets with data may leave before others are acknowledged; none if 0 or less."""
        return _MOST_WITH_DATA - len(self.sent)

    def on_ack(self, reader: FrameReader, now: float) -> None:
        """Read an ACK frame behind its type, without the counts of ECN.

        Raises:
            TransportError: it cannot be, or is of packets that never left.
        """
        largest, delay = reader.varint(), reader.varint()
        count, first = reader.varint(), reader.varint()
        if largest >= self.next_number:
            raise TransportError(PROTOCOL_VIOLATION, ACK, "Acknowledges what was never sent")
        high = largest
        low = high - first
        ranges = [(low, high)]
        for _ in range(count):
            if low < 0:
                break
            high = low - reader.varint() - 2
            low = high - reader.varint()
            ranges.append((low, high))
        if low < 0:
            raise TransportError(FRAME_ENCODING_ERROR, ACK, "A packet number below 0")
        for low, high in ranges:
            if low <= self.skipped <= high:
                raise TransportError(PROTOCOL_VIOLATION, ACK, "Acknowledges what was never sent")
        self._take(ranges, largest, delay, now)

    def probe_timeout(self) -> float:
        """Seconds without an answer after which something is sent to get one (RFC 9002 section 6.2)."""
        if self.rtt == 0:
            return 0.3
        return self.rtt + max(4 * self.variance, _GRANULARITY) + self.peer_ack_delay

    def timer(self) -> float | None:
        """When ``on_timeout`` is due."""
        if self.loss_at is not None:
            return self.loss_at
        if not self.sent:
            return None
        return self.last_eliciting + self.probe_timeout() * (1 << min(self.timeouts, _LONGEST_BACKOFF))

    def on_timeout(self, now: float) -> None:
        """Packets are lost by now, or nothing was heard for long."""
        if self.loss_at is not None and now >= self.loss_at:
            self.detect(now)
            return
        self.timeouts += 1
        self.probes = 2
        # It counts as sent until it is known to be lost; what it carries is sent again already.
        for packet in self.sent.values():
            if not packet.probe:
                self.again.append(packet)
                break
        self.last_eliciting = now

    def detect(self, now: float) -> None:
        """Find what is lost, by later packets that arrived."""
        self.loss_at = None
        delay = max(_TIME_THRESHOLD * max(self.latest_rtt, self.rtt), _GRANULARITY)
        newest = self.largest_acked - _PACKET_THRESHOLD
        lost = []
        for number, packet in self.sent.items():
            if number > self.largest_acked:
                break
            if number <= newest or packet.time + delay <= now:
                lost.append(packet)
            elif self.loss_at is None:
                self.loss_at = packet.time + delay
        if lost:
            self._lose(lost, now)

    def forget_all(self) -> None:
        """Nothing more is expected."""
        self.sent.clear()
        self.loss_at = None
        self.cubic.in_flight = 0

    def set_datagram(self, size: int) -> None:
        """Packets have another size now."""
        self.cubic.datagram = self.pacer.datagram = size

    def restart(self, datagram: int) -> None:
        """The path is another one: what was learned of the last one says nothing (RFC 9000 section 9.4)."""
        in_flight = self.cubic.in_flight
        self.cubic, self.pacer = Cubic(datagram), Pacer(datagram)
        self.cubic.in_flight = in_flight
        self.latest_rtt = self.rtt = self.variance = 0.0
        self.min_rtt = self.first_sample_at = float("inf")

    def _take(self, ranges: list[tuple[int, int]], largest: int, delay: int, now: float) -> None:
        sent = self.sent
        if not sent:
            return
        acked = self._named(ranges, largest)
        if not acked:
            return
        newest = acked[-1]
        cubic = self.cubic
        if newest.number == largest:
            self._measure(now - newest.time, delay, now)
            cubic.sample(self.latest_rtt, largest, self.next_number)
        self.largest_acked = max(self.largest_acked, largest)
        rtt, limited = self.rtt, self.limited
        self.arrived += acked
        for packet in acked:
            if packet.counted:
                cubic.in_flight -= packet.size
                self._acked += packet.size
                cubic.acked(packet.size, packet.time, now, rtt, limited)
        self.timeouts = 0
        self.detect(now)
        self._pace()

    def _named(self, ranges: list[tuple[int, int]], largest: int) -> list[SentPacket]:
        """Take out those of the ranges, which descend; in their order."""
        sent = self.sent
        oldest = next(iter(sent))
        acked: list[SentPacket] = []
        if largest - oldest <= 2 * len(sent) + 64:
            for low, high in reversed(ranges):
                for number in range(max(low, oldest), high + 1):
                    packet = sent.pop(number, None)
                    if packet is not None:
                        acked.append(packet)
            return acked
        # Packets that want no answer have numbers, too: nobody shall make us count through those.
        index = len(ranges) - 1
        for number, packet in sent.items():
            while index >= 0 and ranges[index][1] < number:
                index -= 1
            if index < 0:
                break
            if number >= ranges[index][0]:
                acked.append(packet)
        for packet in acked:
            del sent[packet.number]
        return acked

    def _measure(self, rtt: float, delay: int, now: float) -> None:
        self.latest_rtt = rtt = max(rtt, 1e-6)
        if self.rtt == 0:
            self.rtt, self.min_rtt, self.variance = rtt, rtt, rtt / 2
            self.first_sample_at = now
            return
        self.min_rtt = min(self.min_rtt, rtt)
        waited = min((delay << self.peer_exponent) / 1000000, self.peer_ack_delay)
        if rtt - waited >= self.min_rtt:
            rtt -= waited
        self.variance += (abs(self.rtt - rtt) - self.variance) / 4
        self.rtt += (rtt - self.rtt) / 8

    def _lose(self, lost: list[SentPacket], now: float) -> None:
        newest = -1.0
        for packet in lost:
            del self.sent[packet.number]
            if packet.counted:
                self.cubic.in_flight -= packet.size
                self._lost += packet.size
                newest = packet.time
            self.again.append(packet)
        if newest < 0:
            return  # probes of a size, whose loss is no sign of congestion
        self.cubic.lost(newest, now)
        if self._persistent(lost):
            self.cubic.collapse()
        self._pace()

    def _persistent(self, lost: list[SentPacket]) -> bool:
        """Whether nothing between two of them arrived for so long that the path is another one by now."""
        long = (self.rtt + max(4 * self.variance, _GRANULARITY) + self.peer_ack_delay) * _PERSISTENT
        start: SentPacket | None = None
        previous = -2
        for packet in lost:
            if packet.number != previous + 1:
                start = None
            previous = packet.number
            if packet.time > self.first_sample_at:
                if start is None:
                    start = packet
                elif packet.time - start.time > long:
                    return True
        return False

    def _pace(self) -> None:
        if self.rtt > 0:
            self.pacer.update(self.cubic.window, self.rtt, self.cubic.in_slow_start)
