"""Where the peer is: addresses that it proved and others, and how large a datagram may be there. Pure.

RFC 9000 sections 8 and 9: whose address it is shows only when the peer answers what was sent there; until then it gets
at most three times what came from there. RFC 8899: larger datagrams are tried with padding, whose loss costs nothing.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Path", "PathSize", "Paths"]

_MOST_PATHS = 8
_MOST_CHALLENGES = 32
_OWN_CHALLENGES = 5
_ANSWERS, _ANSWERS_A_SECOND = 8.0, 1.0
"""Challenges that are answered at once and later: each answer fills a datagram, 27 times the question."""
_QUESTION = 64
"""Bytes that suffice for a challenge alone."""
_QUESTIONS = 128
"""Of what may go to an address without a proof, what is kept to ask it again: the answer may be lost, and who waits for
us sends nothing that would pay for more."""
_TRIES = 3
_NEAR_ENOUGH = 16
_TRY_AGAIN = 600.0
MIN_DATAGRAM = 1200

Address = tuple[str, int]


class Path:
    """One address of the peer."""

    __slots__ = ("address", "asks_next", "challenges", "deadline", "proved", "received", "responses", "sent")

    def __init__(self, address: Address, proved: bool) -> None:
        """Nothing came from there yet."""
        self.address = address
        self.proved = proved
        self.received = 0
        self.sent = 0
        self.asks_next = 0.0
        """When it is asked for a proof, again if none came: nobody repeats an answer (RFC 9000 section 8.2.1)."""
        self.challenges: deque[bytes] = deque(maxlen=_OWN_CHALLENGES)
        self.responses: deque[bytes] = deque()
        """What it asked, to be answered there."""
        self.deadline: float | None = None

    def room(self) -> int:
        """Bytes that may go there."""
        return 1 << 30 if self.proved else 3 * self.received - self.sent

    def room_for_others(self) -> int:
        """The same for all but challenges."""
        return self.room() if self.proved else self.room() - _QUESTIONS

    def asks_at(self) -> float | None:
        """When it is asked for a proof; None is never, or not before more came from there."""
        return self.asks_next if not self.proved and self.room() >= _QUESTION else None

    def was_asked(self, challenge: bytes) -> None:
        """A PATH_CHALLENGE came from there."""
        if len(self.responses) < _MOST_CHALLENGES:
            self.responses.append(challenge)


class Paths:
    """All of them; the first is where everything goes."""

    def __init__(self, address: Address) -> None:
        """Proved by the handshake."""
        self.all = [Path(address, True)]
        self._answers, self._answers_at = _ANSWERS, 0.0

    @property
    def active(self) -> Path:
        """Where everything goes."""
        return self.all[0]

    @property
    def proved(self) -> Address | None:
        """The newest address that the peer proved."""
        return next((path.address for path in self.all if path.proved), None)

    def find(self, address: Address) -> Path | None:
        """The path with that address, if it is known."""
        active = self.all[0]
        if active.address == address:
            return active
        for path in self.all:
            if path.address == address:
                return path
        return None

    def add(self, path: Path) -> Path | None:
        """A genuine packet came from there; returns one that is forgotten for it."""
        gone = None
        if len(self.all) >= _MOST_PATHS:
            others = self.all[1:]
            gone = next((each for each in others if not each.proved), others[0])
            self.all.remove(gone)
        self.all.append(path)
        return gone

    def may_answer(self, now: float) -> bool:
        """Whether one more challenge is answered, wherever it came from; who gets no answer asks again."""
        level = self._answers + (now - self._answers_at) * _ANSWERS_A_SECOND
        self._answers, self._answers_at = min(_ANSWERS, level), now
        if self._answers < 1.0:
            return False
        self._answers -= 1.0
        return True

    def promote(self, path: Path) -> None:
        """The peer is there now."""
        self.all.remove(path)
        self.all.insert(0, path)
        if not path.proved:
            path.asks_next = 0.0
            path.deadline = None

    def answered(self, challenge: bytes) -> None:
        """A PATH_RESPONSE came: it proves the address that was asked (RFC 9000 section 8.2.3)."""
        for path in self.all:
            if challenge in path.challenges:
                path.proved = True
                path.deadline = None
                path.challenges.clear()
                return

    def give_up(self) -> bool:
        """The active path proved nothing in time: go back to the newest one that did, if there is one."""
        failed = self.all[0]
        proved = next((path for path in self.all if path.proved), None)
        if proved is None:
            return False
        self.all.remove(failed)
        self.all.remove(proved)
        self.all.insert(0, proved)
        return True


class PathSize:
    """How many bytes of a UDP payload the path carries, found by halving what is unknown."""

    def __init__(self, largest: int) -> None:
        """``largest`` is what this side and the peer can take."""
        self.size = MIN_DATAGRAM
        self._largest = max(largest, MIN_DATAGRAM)
        self._too_large = self._largest + 1
        self._candidate = self._largest
        self._tries = _TRIES
        self._waiting = False
        self._again_at: float | None = None

    def due(self, now: float) -> int:
        """The size to try now; 0 if there is none."""
        if self._again_at is not None and now >= self._again_at:
            self._restart()
        if self._waiting or self._again_at is not None or self._candidate <= self.size:
            return 0
        return self._candidate

    @property
    def timer(self) -> float | None:
        """When a larger size is tried again."""
        return self._again_at if self.size < self._largest else None

    def tried(self) -> None:
        """A datagram of that size left."""
        self._waiting = True

    def acked(self, size: int, now: float) -> None:
        """It arrived."""
        self._waiting = False
        if self.size < size < self._too_large:
            self.size = size
            self._choose(now)

    def lost(self, size: int, now: float) -> None:
        """It did not."""
        self._waiting = False
        if size != self._candidate:
            return
        self._tries -= 1
        if self._tries <= 0:
            self._too_large = size
            self._choose(now)

    def black_hole(self, now: float) -> None:
        """Nothing arrives any more: perhaps the path carries less than it did."""
        if self.size > MIN_DATAGRAM:
            self._too_large = self.size
            self.size = MIN_DATAGRAM
            self._waiting = False
            self._choose(now)

    def _choose(self, now: float) -> None:
        self._tries = _TRIES
        if self._too_large - self.size <= _NEAR_ENOUGH:
            self._candidate = 0
            self._again_at = now + _TRY_AGAIN if self.size < self._largest else None
        else:
            self._candidate = (self.size + self._too_large) // 2

    def _restart(self) -> None:
        self._again_at = None
        self._too_large = self._largest + 1
        self._candidate = self._largest
        self._tries = _TRIES
