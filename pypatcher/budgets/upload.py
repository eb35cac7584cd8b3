"""One upload's place: what its taker was sent, what it took, and whether it is worth the place. Pure.

Not here: who gets a place, and how fast all of them together are (``upload_limits``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

__all__ = ["EVERYBODY", "FIRST_FLIGHT", "SLOW_RATE", "Answer", "Upload", "UploadTaker"]

FIRST_FLIGHT = 1 << 14
"""Bytes that whoever asks is sent ahead; then as many as it has taken."""

SLOW_RATE = 32768.0
"""Bytes a second that a place is worth."""

EVERYBODY = "all"
_PIECE, _SMALLEST_PIECE = 65536, 1024
_SLOW_SECONDS = 30.0
_SHOWN_SECONDS = 1.0
_REST_SECONDS = 0.5


class UploadTaker(NamedTuple):
    """By what bytes to outside the LAN are counted: a host, in its network, in its provider's; the finest first."""

    address: str
    network: str
    provider: str
    everybody: str = EVERYBODY


class Answer(Protocol):
    """The stream of an answer: bytes of it that left, and that arrived."""

    @property
    def sent(self) -> int: ...
    @property
    def acknowledged(self) -> int: ...


class _Limits(Protocol):
    """All uploads together, as one of them sees them.

    Attributes:
        rate: bytes a second to outside the LAN.
    """

    rate: int

    def now(self) -> float:
        """Monotonic seconds."""

    def spend(self, taker: UploadTaker, count: int) -> float:
        """Account for bytes to outside the LAN; returns the seconds to wait before sending them."""

    def work(self, count: int) -> float:
        """Seconds to wait for the work that so many bytes cost which are not sent."""

    def overhead(self, count: int) -> float:
        """The same in the LAN, of what no chunk costs."""

    def refund(self, taker: UploadTaker, count: int) -> None:
        """Of what was accounted for, so many bytes never left."""

    def finish(self, upload: Upload) -> None:
        """It has its place no more, and ends with what it was asked."""

    def release(self, upload: Upload) -> None:
        """It ended; once is enough."""


class Upload:
    """One upload's place; ``end`` gives it back.

    Attributes:
        taker: what its bytes are counted by; None within the LAN.
        left: bytes of the file that are still to be sent.
        goes_on: it has its place no more, and ends with what it was asked.
        turn: held by the one of its requests that waits for the pace.
    """

    __slots__ = (
        "_answers", "_drop", "_last_pace", "_limiter", "_marked", "_rests_since", "_since", "_size", "_spent",
        "_taken_then", "_takes_turns", "_total", "goes_on", "left", "taker", "turn",
    )  # fmt: skip

    def __init__(
        self,
        limiter: _Limits,
        taker: UploadTaker | None,
        size: int,
        drop: Callable[[], None],
        takes_turns: Callable[[], bool],
    ) -> None:
        """Made by ``UploadLimiter.admit``."""
        self._limiter, self.taker, self.left, self._drop = limiter, taker, size, drop
        self._size, self._takes_turns = size, takes_turns
        self._since = self._marked = limiter.now()
        self._taken_then, self._last_pace = 0, float("inf")
        self._spent, self._total = self._marked, 0
        self._answers: dict[Answer, int] = {}
        self.goes_on = False
        self.turn = asyncio.Lock()
        self._rests_since = float("inf")

    @property
    def piece(self) -> int:
        """How many bytes to send between two questions: a quarter of a second's worth, 64 KiB at most."""
        return _PIECE if self.taker is None else min(_PIECE, max(_SMALLEST_PIECE, self._limiter.rate // 4))

    def spend(self, count: int, answer: Answer | None = None) -> float:
        """Seconds to wait before sending the next ``count`` bytes, of an answer that is under way."""
        self._last_pace = self.pace()
        if self._limiter.now() - self._marked >= _SLOW_SECONDS:
            self._mark()
        delay = 0.0 if self.taker is None else self._limiter.spend(self.taker, count)
        # What we make it wait is not the taker's slowness.
        self._marked += delay
        self._spent = self._limiter.now() + delay
        self._total += count
        if answer in self._answers:
            self._answers[answer] += count
        self.left = max(0, self.left - count)
        return delay

    def work(self, count: int) -> float:
        """The same for work that is worth so many bytes, which are not sent: nothing of the day.

        Else who asks for zeros alone would use up a day by a thousandth of its bytes. Nor has its taker taken anything.
        """
        return 0.0 if self.taker is None else self._limiter.work(count)

    def overhead(self, count: int) -> float:
        """The same for what chunks do not cost, in the LAN too: else one neighbour has all of a processor."""
        return self._limiter.overhead(count) if self.taker is None else self._limiter.work(count)

    def spared(self, count: int) -> None:
        """So many bytes of the file were given without being sent: what deflating spared."""
        self.left = max(0, self.left - count)

    @contextlib.contextmanager
    def answering(self, answer: Answer) -> Iterator[None]:
        """During the block it is answered; what never left by its end was not given.

        What was sent ahead of a taker is not taken yet: else many answers that nobody takes look like a fast taker.
        """
        self._answers[answer] = 0
        try:
            yield
        finally:
            never_left = self._answers.pop(answer) - answer.sent
            self.settle(self._total - max(0, never_left))

    def settle(self, sent: int) -> None:
        """Only so many bytes left: what was accounted for beyond them is given back."""
        if (back := self._total - max(0, sent)) > 0:
            if self.taker is not None:
                self._limiter.refund(self.taker, back)
            self._total -= back
            self._taken_then = min(self._taken_then, self._total)
            self.left = min(self._size, self.left + back)

    def pace(self) -> float:
        """Bytes a second that its taker took in the last half minute or more; infinite as long as that is unknown.

        Unless it took nothing at all for a second: to hold a place without taking costs nothing but another address.
        """
        seconds = self._limiter.now() - self._marked
        if seconds >= _SHOWN_SECONDS and self.took_nothing:
            return 0.0
        return (self._taken - self._taken_then) / seconds if seconds >= _SLOW_SECONDS else self._last_pace

    @property
    def took_nothing(self) -> bool:
        """Whether its taker has shown nothing yet but that it can ask."""
        is_nothing = self._total <= 2 * FIRST_FLIGHT or self._taken < FIRST_FLIGHT
        return is_nothing and (self.left > 0 or self._size > 2 * FIRST_FLIGHT)

    @property
    def _taken(self) -> int:
        return self._total - sum(max(0, paid - answer.acknowledged) for answer, paid in self._answers.items())

    def _mark(self) -> None:
        self._marked, self._taken_then = self._limiter.now(), self._taken

    @property
    def left_little(self) -> bool:
        """Whether next to nothing left, at its end: less than anything that is of use."""
        return self.left > 0 and self._total < FIRST_FLIGHT // 4

    def rest(self, *, rests: bool) -> None:
        """Its taker asks for nothing just now, or goes on."""
        if not rests and self.rests:
            # What it did not ask for is not its slowness, and anybody could have had its place.
            self._mark()
        self._rests_since = self._limiter.now() if rests else float("inf")

    @property
    def rests(self) -> bool:
        """Whether its taker has asked for nothing for a while: whoever asks next gets the place."""
        return self._limiter.now() - self._rests_since >= _REST_SECONDS

    def idle(self) -> float:
        """Seconds since its taker was ready for more."""
        return max(0.0, self._limiter.now() - self._spent)

    def held(self) -> float:
        """Seconds that it has had its place, if its taker takes turns."""
        return self._limiter.now() - self._since if self._takes_turns() else 0.0

    @property
    def is_slow(self) -> bool:
        """Whether its taker takes less than its place is worth."""
        return self.pace() < SLOW_RATE

    def lose(self, *, goes_on: bool = False) -> None:
        """Somebody else gets the place; if it is to go on, what it was asked is still answered."""
        self.goes_on = goes_on and not self.rests
        if self.goes_on:
            self._limiter.finish(self)
        else:
            self.end()
        self._drop()

    def end(self) -> None:
        """Give the place back; once is enough."""
        self._limiter.release(self)
