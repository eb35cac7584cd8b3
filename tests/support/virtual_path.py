"""Two established connections on a virtual network: bytes are lost, delayed, doubled and swapped by a seed.

link = Link(seed=3, loss=0.02, delay=0.025)
link.client.write(link.client.open(False), b"question", True)
link.run(until=lambda: link.got(link.server, 0).ended)
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from pypatcher.established.flow import FlowLimits
from pypatcher.established.ids import ConnectionId
from pypatcher.established.machine import Established
from pypatcher.established.protection import Opener
from pypatcher.established.state import Confirmed, Event, Handover, StreamData

CLIENT, SERVER = ("198.51.100.1", 4001), ("203.0.113.1", 4002)
AES, CHACHA = 0x1301, 0x1303
WINDOW = 1 << 18
LIMITS = FlowLimits(1 << 20, WINDOW, WINDOW, WINDOW, 4, 4)
_NUMBER_AT = 9
WIDE = FlowLimits(1 << 23, 1 << 21, 1 << 21, 1 << 21, 4, 4)
"""What a fetch grants."""


def handover(
    is_client: bool, *, suite: int = AES, seed: int = 0, limits: FlowLimits = LIMITS, largest: int = 1452
) -> Handover:
    """How a handshake between the two would end."""
    names = ConnectionId(0, b"client00"), ConnectionId(0, b"server00", bytes(range(16)))
    secrets = bytes(range(32)), bytes(range(32, 64))
    ours, theirs = names if is_client else names[::-1]
    mine, others = secrets if is_client else secrets[::-1]
    return Handover(
        is_client=is_client,
        suite=suite,
        send_secret=mine,
        receive_secret=others,
        first_number=3,
        address=SERVER if is_client else CLIENT,
        ours=[ours],
        theirs=[theirs],
        our_limits=limits,
        their_limits=limits,
        id_limit=4,
        rtt=None,
        idle=30.0,
        ack_delay=0.025,
        ack_exponent=3,
        largest=largest,
        random=random.Random(seed * 2 + is_client).randbytes,
    )


@dataclass
class Got:
    """What arrived of a stream."""

    data: bytearray = field(default_factory=bytearray)
    ended: bool = False


class Link:
    """A client, a server, and what is between them."""

    def __init__(
        self,
        *,
        seed: int = 0,
        loss: float = 0.0,
        twice: float = 0.0,
        delay: float = 0.01,
        jitter: float = 0.0,
        rate: float = 0.0,
        queue: float = 0.05,
        suite: int = AES,
        limits: FlowLimits = LIMITS,
        largest: int = 1452,
    ) -> None:
        """``rate`` is in bytes a second each way, 0 for any; what would wait longer than ``queue`` there is lost."""
        self.now = 100.0
        self.loss, self.twice, self.delay, self.jitter = loss, twice, delay, jitter
        self.rate, self.queue = rate, queue
        self.mtu = 65535
        self.window = limits.own_bidi
        self.client_address = CLIENT
        self.random = random.Random(seed)
        self.client = Established(handover(True, suite=suite, seed=seed, limits=limits, largest=largest), self.now)
        self.server = Established(handover(False, suite=suite, seed=seed, limits=limits, largest=largest), self.now)
        self.read = True
        self.watch: Callable[[Established, bytes], None] = lambda _side, _data: None
        self.events: dict[Established, list[Event]] = {self.client: [], self.server: []}
        self.streams: dict[Established, dict[int, Got]] = {self.client: {}, self.server: {}}
        self.numbers: dict[Established, set[tuple[int, int]]] = defaultdict(set)
        """What each has used: how often it changed its keys before, and the last 32 bits of packet numbers."""
        self.sent_bytes = {self.client: 0, self.server: 0}
        self._line: dict[Established, float] = {self.client: 0.0, self.server: 0.0}
        self._flying: list[tuple[float, int, Established, bytes, tuple[str, int]]] = []
        self._order = itertools.count()
        self._phases: dict[Established, list[int]] = {self.client: [0], self.server: [0]}
        self._masks = {
            side: Opener(suite, handover(side is self.client).send_secret) for side in (self.client, self.server)
        }

    def got(self, side: Established, stream_id: int) -> Got:
        """What that side got of a stream."""
        return self.streams[side].setdefault(stream_id, Got())

    def run(self, seconds: float = 600.0, until: Callable[[], bool] = lambda: False) -> None:
        """Let time go by until something is so.

        Raises:
            AssertionError: it never was.
        """
        end = self.now + seconds
        self.step()
        while not until():
            times = [side.timer() for side in (self.client, self.server)]
            due = [at for at in times if at is not None]
            if self._flying:
                due.append(self._flying[0][0])
            if not due or min(due) > end:
                self.now = end
                assert (until.__name__ == "<lambda>" and until()) or seconds < 600.0, "it did not come about"
                return
            self.now = max(self.now, min(due))
            self.step()

    def step(self) -> None:
        """What is due now happens."""
        arrived: dict[Established, list[tuple[bytes, tuple[str, int]]]] = {self.client: [], self.server: []}
        while self._flying and self._flying[0][0] <= self.now:
            _, _, side, data, source = heapq.heappop(self._flying)
            arrived[side].append((data, source))
        for side, batch in arrived.items():
            if batch:
                side.receive(batch, self.now)
            at = side.timer()
            if at is not None and at <= self.now:
                side.on_timer(self.now)
            self._take(side)
            for data, address in side.send(self.now):
                self._carry(side, data, address)
            self._take(side)

    def _carry(self, side: Established, data: bytes, address: tuple[str, int]) -> None:
        self.watch(side, data)
        self._count_number(side, data)
        self.sent_bytes[side] += len(data)
        other, source = (self.server, self.client_address) if side is self.client else (self.client, SERVER)
        if address != (SERVER if side is self.client else self.client_address) or len(data) > self.mtu:
            return
        at = self.now
        if self.rate:
            free = max(self._line[side], self.now)
            if free - self.now > self.queue:
                return
            at = self._line[side] = free + len(data) / self.rate
        for _ in range(1 + (self.random.random() < self.twice)):
            if self.random.random() >= self.loss:
                late = at + self.delay + self.random.random() * self.jitter
                heapq.heappush(self._flying, (late, next(self._order), other, data, source))

    def _take(self, side: Established) -> None:
        for event in side.take_events():
            self.events[side].append(event)
            if isinstance(event, StreamData):
                got = self.got(side, event.stream_id)
                got.data += event.data
                got.ended = got.ended or event.end
                if self.read:
                    side.grant(event.stream_id, len(got.data) + self.window)

    def _count_number(self, side: Established, data: bytes) -> None:
        mask = self._masks[side].masks(data, len(data), _NUMBER_AT, 1)
        phase = ((data[0] ^ mask[0]) >> 2) & 1
        phases = self._phases[side]
        if phases[-1] != phase:
            phases.append(phase)
        number = int.from_bytes(data[_NUMBER_AT : _NUMBER_AT + 4], "big") ^ int.from_bytes(mask[1:5], "big")
        used = (len(phases), number)
        assert used not in self.numbers[side], f"packet number {number} was used twice under one key"
        self.numbers[side].add(used)

    @property
    def confirmed(self) -> bool:
        """Whether the client knows that the server has its handshake."""
        return any(isinstance(event, Confirmed) for event in self.events[self.client])
