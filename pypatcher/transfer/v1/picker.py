"""Which bytes of a release are asked of which peer: the rarest part first, by chance among equals, the last ones twice.

Pure: it is told what came, what peers say and what time it is (monotonic seconds), and says what to ask. protocol.md
"From several peers". What is near is a peer of the LAN: of those that fetch the same, each brings other parts in from
outside. Not here: requests on a connection (``swarm``), and who may be a peer at all (the updater).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from pypatcher.transfer.v1.messages import NO_PARTS, PARTS
from pypatcher.transfer.v1.plan import Plan, Run, join_runs, part_rank

__all__ = ["NEAR_PATIENCE", "Asked", "Picker"]

_ALL = (1 << PARTS) - 1
_SMALLEST, _FIRST, _LARGEST = 1 << 16, 1 << 18, 4 << 20
"""Bytes of a request: at the least, of a peer's first one, at most. 4 MiB of 256 ranges are a message of 2 KiB."""
_RANGES, _OF_FILE = 256, 128
"""Ranges of a request at most; that part of the file is asked for at once at most, while others fetch the same."""
_QUICK, _SLOW = 1.0, 4.0
"""Seconds in which a request is answered whose next one is larger, or smaller."""
_TWICE_AFTER = 2.0
"""Seconds after which the last ranges are asked of a second peer, four times as many a third, nine times a fourth."""
_LOOK_AGAIN = 2.0
_BRINGS = 10.0
"""Seconds for which who brought something from a seed counts among those who share out what to ask of it."""
NEAR_PATIENCE = 30.0
"""Seconds in which nothing came from the LAN, after which the next in it fetches a part from outside."""
_IN_TURN, _NEAR_SECONDS, _NEAR_RATE = 4, 300.0, 1 << 16
"""Neighbours whose turn is waited for at most; the longest wait for the LAN: seconds, or what is missing at a rate."""
_COUNTED = 32
"""Others that share out a part at most: each costs a look at every part."""
_PROGRESS = 1 << 19
"""Bytes that are progress; of a small rest a tenth. Who drips must not keep a device waiting."""


@dataclass(eq=False, slots=True)
class Asked:
    """One request to one peer.

    Attributes:
        runs: what is asked for, ascending.
        at: when.
    """

    peer: bytes
    runs: list[Run]
    at: float

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(run.size for run in self.runs)

    def chunks(self) -> Iterator[int]:
        """The numbers of all of them."""
        return (number for run in self.runs for number in range(run.first, run.last))


@dataclass(slots=True)
class _Peer:
    """
    Attributes:
        is_near: it is in our LAN.
        is_fetching: it fetches the same release.
        has: a bit for each part that it has.
        given: one for each part that it gave to others lately.
        ranks: of its node id, for each part.
        brought: when it was first heard, or last had a part that no other had who fetches, or, near, nobody near.
        size: bytes of its next request.
    """

    is_near: bool
    ranks: list[bytes]
    brought: float
    size: int
    is_fetching: bool = False
    has: int = 0
    given: int = 0


@dataclass(slots=True)
class _Piece:
    """The chunks that lie in one part; who has all of the part has each of them whole.

    Attributes:
        free: how many of them nobody is asked for.
        wanted: how many were to be fetched at first.
        holders, near, fetchers: how many peers have the part, how many of them are near, and fetch themselves.
    """

    free: int = 0
    wanted: int = 0
    holders: int = 0
    near: int = 0
    fetchers: int = 0


@dataclass(slots=True)
class _Progress:
    """How long ago enough came from the LAN."""

    at: float
    came: int = 0

    def note(self, count: int, enough: int, now: float) -> None:
        self.came += count
        if self.came >= enough:
            self.came, self.at = 0, now


class Picker:
    """One download's.

    Args:
        plan: what is there, and what is missing; it is told here what came.
        node_id: ours, 32 bytes.
        now: monotonic seconds, as in every call.
    """

    def __init__(self, plan: Plan, node_id: bytes, rng: random.Random, now: float) -> None:
        self._plan = plan
        self._rng = rng
        self._ranks = _ranks(node_id)
        self._peers: dict[bytes, _Peer] = {}
        self._asked = bytearray(len(plan))
        self._under_way: dict[Asked, None] = {}
        self._pieces = [_Piece() for _ in range(PARTS)]
        self._ahead: dict[bool, tuple[float, list[int]]] = {}
        self._progress = _Progress(now)
        self._near_until: float | None = None
        for number in filter(plan.is_wanted, range(len(plan))):
            self._note_free(number, 1)
        for piece in self._pieces:
            piece.wanted = piece.free

    def hear(
        self,
        peer: bytes,
        now: float,
        *,
        is_near: bool,
        parts: bytes | None,
        is_fetching: bool,
        given: bytes = NO_PARTS,
    ) -> None:
        """A peer, named by its node id, says what it has: a bitmap, or everything (None); and what others took."""
        one = self._peers.get(peer)
        if one is None:
            if is_near and self._near_until is None:
                # Once: who comes and goes must not begin the wait anew.
                self._progress = _Progress(now)
                self._near_until = now + max(_NEAR_SECONDS, self._plan.missing / _NEAR_RATE)
            # A few first ones of several who know nothing of each other yet must not be the whole of a small file.
            first = min(_FIRST, max(_SMALLEST, self._plan.file_size // _OF_FILE))
            one = self._peers[peer] = _Peer(is_near, _ranks(peer), now, first)
            self._ahead.clear()
        if is_fetching is not one.is_fetching:
            self._note_has(one, 0, now)
            one.is_fetching = is_fetching
            self._ahead.clear()
        self._note_has(one, _ALL if parts is None else _parts_bits(parts), now)
        one.given = _parts_bits(given)

    def leave(self, peer: bytes) -> None:
        """It is gone, and what it is asked for is asked of others."""
        one = self._peers.pop(peer, None)
        if one is not None:
            self._note_has(one, 0, 0.0)
            self._ahead.clear()
        for asked in [each for each in self._under_way if each.peer == peer]:
            self._free(asked)

    def next(self, peer: bytes, now: float) -> Asked | None:
        """What to ask of a peer now; None while there is nothing."""
        one = self._peers.get(peer)
        if one is None or not self._plan.missing:
            return None
        runs = self._fresh(one, now) or self._again(peer, one, now)
        if not runs:
            return None
        asked = Asked(peer, runs, now)
        self._under_way[asked] = None
        for number in asked.chunks():
            self._count(number, 1)
        return asked

    def came(self, asked: Asked, run: Run, now: float) -> None:
        """These chunks came, are right, and are in the new file."""
        wanted = [number for number in range(run.first, run.last) if self._plan.is_wanted(number)]
        one = self._peers.get(asked.peer)
        if one is not None and one.is_near:
            enough = max(1, min(_PROGRESS, self._plan.missing // 10))
            self._progress.note(sum(self._plan.chunk(number)[0] for number in wanted), enough, now)
        for number in wanted:
            self.is_here(number)
        self._plan.is_there(run.first, run.last)

    def is_here(self, number: int) -> None:
        """This chunk is in the new file, and is right."""
        if self._plan.is_wanted(number) and not self._asked[number]:
            self._note_free(number, -1)
        self._plan.is_there(number, number + 1)

    def lacks(self, first: int, last: int) -> None:
        """These chunks do not lie where they were said to be."""
        for number in range(first, last):
            if self._plan.is_copied(number) and not self._asked[number]:
                self._note_free(number, 1)
        self._plan.is_missing(first, last)

    def end(self, asked: Asked, now: float, *, is_whole: bool) -> list[int]:
        """A request is over: whole as it was asked, or not. The parts that it was about, in order."""
        self._free(asked)
        one = self._peers.get(asked.peer)
        if one is not None and is_whole:
            seconds = now - asked.at
            if seconds < _QUICK:
                one.size = min(2 * one.size, _LARGEST)
            elif seconds > _SLOW:
                one.size = max(one.size // 2, _SMALLEST)
        return sorted({part for number in asked.chunks() for part in self._plan.parts(number)})

    def needless(self) -> list[Asked]:
        """Requests of which everything came from another peer."""
        return [each for each in self._under_way if not any(map(self._plan.is_wanted, each.chunks()))]

    def _fresh(self, one: _Peer, now: float) -> list[Run]:
        """What nobody is asked for yet."""
        left = {
            part
            for part, piece in enumerate(self._pieces)
            if piece.free and one.has >> part & 1 and self._may_ask(one, part, now)
        }
        under_way = sum(asked.size for asked in self._under_way)
        room = one.size
        if len(self._peers) > 1:
            # What is left is shared out, or the last request of a slow peer would take as long as it likes.
            room = min(room, max(_SMALLEST, (self._plan.missing - under_way) // (2 * len(self._peers))))
        to_its_end = False
        if any(other.is_fetching for other in self._peers.values()):
            # What is asked for is not told to them: the less that is, the less do two ask a seed for the same.
            room = min(room, max(_SMALLEST, self._plan.file_size // _OF_FILE))
            # Nor is a part before all of it is here: none is cut for its last bytes.
            to_its_end = self._plan.file_size // PARTS <= room
        chosen: dict[int, tuple[int, int]] = {}
        last = -1
        while left and room > 0:
            follows = last >= 0 and last + 1 in left and self._follows(one, last, now)
            last = last + 1 if follows else min(left, key=lambda part: self._urgency(one, part, now))
            left.discard(last)
            for number, offset, size in self._plan.chunks_in(last):
                is_room = room > 0 or to_its_end
                if is_room and number not in chosen and self._plan.is_wanted(number) and not self._asked[number]:
                    chosen[number] = offset, size
                    room -= size
        return list(join_runs((number, *chosen[number]) for number in sorted(chosen)))[:_RANGES]

    def _urgency(self, one: _Peer, part: int, now: float) -> tuple[int, bool, int, int, float]:
        """What few have comes first; of that what we have half of, so that it can be given soon; then what others did
        not take of that peer, whoever they are; of that what those whom we know leave to us, or all would ask a seed
        for the same at once."""
        piece = self._pieces[part]
        if 2 * piece.free < piece.wanted:
            return piece.holders, False, 0, 0, self._rng.random()
        ahead = self._ahead_of_us(now, are_near=False)[part]
        return piece.holders, True, one.given >> part & 1, ahead, self._rng.random()

    def _follows(self, one: _Peer, part: int, now: float) -> bool:
        """Whether the next part is as urgent."""
        return self._urgency(one, part + 1, now)[:-1] == self._urgency(one, part, now)[:-1]

    def _again(self, peer: bytes, one: _Peer, now: float) -> list[Run]:
        """What another peer is asked for, and has not sent for a while, once nothing else is left."""
        if any(piece.free for piece in self._pieces):
            return []
        own = {number for asked in self._under_way if asked.peer == peer for number in asked.chunks()}
        for asked in self._under_way:
            if runs := list(join_runs(self._lacking(asked, one, own, now)))[:_RANGES]:
                return runs
        return []

    def _may_ask(self, one: _Peer, part: int, now: float) -> bool:
        """Whether a part may be asked of that peer: from outside only if it is ours to bring in."""
        if one.is_near or self._near_until is None or now >= self._near_until:
            return True
        ahead = self._ahead_of_us(now, are_near=True)[part]
        if self._pieces[part].near:
            ahead = max(ahead, 1)
        return now - self._progress.at >= NEAR_PATIENCE * min(ahead, _IN_TURN)

    def _ahead_of_us(self, now: float, *, are_near: bool) -> list[int]:
        """For each part, how many that fetch the same, and bring something in, come before us."""
        at, found = self._ahead.get(are_near, (now - _LOOK_AGAIN, []))
        if now - at >= _LOOK_AGAIN:
            ranks = [
                one.ranks
                for one in self._peers.values()
                if one.is_fetching
                and (one.is_near or not are_near)
                and now - one.brought < (NEAR_PATIENCE if are_near else _BRINGS)
            ][:_COUNTED]
            found = [sum(each[part] < self._ranks[part] for each in ranks) for part in range(PARTS)]
            self._ahead[are_near] = now, found
        return found

    def _lacking(self, asked: Asked, one: _Peer, own: set[int], now: float) -> Iterator[tuple[int, int, int]]:
        """What has not come yet of a request, and may be asked of that peer, too; two that drip keep it from nobody."""
        for run in asked.runs:
            offset = run.offset
            for number in range(run.first, run.last):
                size, parts = self._plan.chunk(number)[0], self._plan.parts(number)
                if (
                    now - asked.at >= _TWICE_AFTER * self._asked[number] ** 2
                    and number not in own
                    and self._plan.is_wanted(number)
                    and any(one.has >> part & 1 and self._may_ask(one, part, now) for part in parts)
                ):
                    yield number, offset, size
                offset += size

    def _count(self, number: int, by: int) -> None:
        was, self._asked[number] = self._asked[number], self._asked[number] + by
        if self._plan.is_wanted(number) and not (was and self._asked[number]):
            self._note_free(number, -by)

    def _free(self, asked: Asked) -> None:
        if self._under_way.pop(asked, asked) is None:
            for number in asked.chunks():
                self._count(number, -1)

    def _note_free(self, number: int, by: int) -> None:
        for part in self._plan.parts(number):
            self._pieces[part].free += by

    def _note_has(self, one: _Peer, has: int, now: float) -> None:
        for part, piece in enumerate(self._pieces):
            change = (has >> part & 1) - (one.has >> part & 1)
            others = piece.near if one.is_near else piece.fetchers
            if change > 0 and not others and not self._plan.has_part(part):
                one.brought = now
            piece.holders += change
            piece.near += change * one.is_near
            piece.fetchers += change * one.is_fetching
        one.has = has


def _parts_bits(parts: bytes) -> int:
    """A bitmap as it is sent, with part j as bit j."""
    return int(f"{int.from_bytes(parts, 'big'):0{PARTS}b}"[::-1], 2)


def _ranks(node_id: bytes) -> list[bytes]:
    """For each part."""
    return [part_rank(node_id, part) for part in range(PARTS)]
