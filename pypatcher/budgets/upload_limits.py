"""How much we upload, to whom, and how fast. Pure: a clock is passed in, waiting is the caller's.

design.md "Transport and transfer" has the numbers: uploads at once in all and per address, bytes a second, bytes a day
in all, per address, per network and per provider (a /24 or /48 within a /16 or /32), and a part of the day's bytes for
providers that took nothing yet, so that nobody can use them up for everybody. Only bytes that left count. The LAN,
loopback included, is limited only by how many uploads a small device can hold at once: its addresses are not counted
one by one, because many devices (and tests) may share one there. A slow taker keeps its place only as long as nobody
else wants it; who takes from several at once keeps it for a turn, and then only as long. Not here: what is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pypatcher.addresses import Address, host_of, is_lan, network_of, provider_of
from pypatcher.budgets.upload import EVERYBODY, SLOW_RATE, Upload, UploadTaker
from pypatcher.limits import DaySums, Limit, Pace, WindowLimiter

__all__ = ["UploadLimiter"]

_MEBIBYTE = 1 << 20
_BURST_SECONDS = 0.25
_ADDRESS_PART, _NETWORK_PART, _NEWCOMERS_PART = 4, 2, 4
_PROVIDER_FIFTHS = 3
_NOTHING, _NOTHING_PROVIDERS, _NOTHING_SECONDS = 3, 2, 60.0
_LITTLE_SECONDS = 600.0
_STUCK_SECONDS = 10.0
_TURN_SECONDS = 4.0
_NEAR_OVERHEAD = 4 << 20
"""Bytes a second in the LAN, where nothing else is paced, of what no chunk costs."""


class UploadLimiter:
    """Admits uploads and tells each how long to wait. One for all releases that a node serves."""

    def __init__(
        self,
        rate: int = _MEBIBYTE,
        *,
        day: int | None = None,
        uploads: int = 4,
        per_address: int = 1,
        daily_factor: int = 20,
        lan_uploads: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the limits.

        Args:
            rate: bytes a second to outside the LAN, all uploads together; 0 serves nobody at all.
            day: bytes in any 24 hours to outside the LAN, whatever else allows: of a file that is larger, nothing.
            uploads: at once, to outside the LAN.
            per_address: at once, to one address outside the LAN (one /64 for IPv6).
            daily_factor: bytes in any 24 hours to outside the LAN, as a multiple of the size of the file asked for;
                to one address a quarter of them, to one network half, to one provider three fifths.
            lan_uploads: at once, within the LAN.
            clock: monotonic seconds.
        """
        self.rate = rate
        self._uploads, self._per_address, self._lan_uploads = uploads, per_address, lan_uploads
        self._daily_factor, self._day = daily_factor, day
        self._clock = clock
        self._active: dict[Upload, None] = {}
        self._finishing: dict[Upload, None] = {}
        self._pace = Pace(rate, _BURST_SECONDS, clock())
        self._near_pace = Pace(_NEAR_OVERHEAD, _BURST_SECONDS, clock())
        self._sent = DaySums()
        self._nothing, self._little = WindowLimiter(), WindowLimiter()

    def admit(
        self,
        address: Address,
        size: int,
        drop: Callable[[], None] = lambda: None,
        *,
        takes_turns: Callable[[], bool] = lambda: False,
        is_brief: bool = False,
    ) -> Upload | None:
        """A place for an upload of ``size`` bytes, or None while the limits leave none.

        Args:
            drop: called when the upload loses its place to somebody else, because its taker is slow: it must end. Or
                because it rests; or, if it ``goes_on``, its turn is over: then when what it was asked is done.
            takes_turns: whether its taker may be told to come back later, though it has begun.
            is_brief: it takes next to nothing, and then ends; it takes no place, but as many more as those whose turn
                is over are all that there may be.
        """
        if self.rate <= 0:
            return None
        taker = None if is_lan(address) else UploadTaker(host_of(address), network_of(address), provider_of(address))
        if taker is not None:
            if not self._nothing.allows(_nothing_by(taker), self._clock()):
                return None
            if not (self._has_share(taker, size) and self._has_turn(taker)):
                return None
        if is_brief:
            return self._admit_briefly(taker, size, drop)
        if not self._has_room(taker is None, size, self._is_new(taker)):
            return None
        upload = Upload(self, taker, size, drop, takes_turns)
        self._active[upload] = None
        return upload

    def _admit_briefly(self, taker: UploadTaker | None, size: int, drop: Callable[[], None]) -> Upload | None:
        if taker is not None and any(upload.taker == taker for upload in self._finishing):
            return None
        if not self._may_finish(taker is None):
            return None
        upload = Upload(self, taker, size, drop, lambda: False)
        self._go_on(upload)
        return upload

    def _may_finish(self, is_near: bool) -> int:
        """How many more may go on without a place; who is slow ends for it."""
        places = self._lan_uploads if is_near else self._uploads
        return max(0, places - sum((each.taker is None) is is_near and not each.is_slow for each in self._finishing))

    def _go_on(self, upload: Upload) -> None:
        there = [each for each in self._finishing if (each.taker is None) is (upload.taker is None)]
        if len(there) >= (self._lan_uploads if upload.taker is None else self._uploads):
            min(there, key=Upload.pace).lose()
        self._finishing[upload] = None

    def _has_share(self, taker: UploadTaker, size: int) -> bool:
        """Whether the day's bytes have ``size`` more for it."""
        sent = self._sent.total(taker, self._clock())
        promised = sent.copy()
        for upload in (*self._active, *self._finishing):
            # Its own upload, if it has one, ends or keeps this one from its turn.
            if upload.taker is not None and upload.taker != taker:
                promised.update(dict.fromkeys(upload.taker, upload.left))
        allowed = self._daily_factor * size
        if self._day is not None:
            if sent[EVERYBODY] + size > self._day:
                return False
            allowed = min(allowed, self._day)
        if promised[taker.address] + size > max(size, allowed // _ADDRESS_PART):
            return False
        if promised[taker.network] + size > max(size, allowed // _NETWORK_PART):
            return False
        if promised[taker.provider] + size > max(size, allowed * _PROVIDER_FIFTHS // 5):
            return False
        if not promised[taker.provider]:
            # What others were promised, and may never take, does not count here.
            return sent[EVERYBODY] + size <= allowed
        return promised[EVERYBODY] + size <= allowed - allowed // _NEWCOMERS_PART

    def _has_turn(self, taker: UploadTaker) -> bool:
        """Whether that address may have an upload; one of its own that has taken nothing for long ends for it."""
        there = [upload for upload in self._active if upload.taker == taker]
        if len(there) < self._per_address:
            return True
        idle = max(there, key=lambda upload: (upload.rests, upload.idle()))
        if not idle.rests and idle.idle() < _STUCK_SECONDS:
            return False
        idle.lose()
        return True

    def _has_room(self, is_near: bool, size: int, is_new: bool) -> bool:
        """Whether there is a place, and of the day what it takes; slow takers may have lost theirs just now.

        Who comes for the first time does not wait for one whose network asks again and again and takes next to nothing.
        """

        def gives_way(upload: Upload) -> bool:
            return upload.is_slow or (is_new and upload.took_nothing and self._takes_little(upload.taker))

        there = [upload for upload in self._active if (upload.taker is None) is is_near]
        there.sort(key=lambda each: (not each.rests, not gives_way(each), min(each.pace(), SLOW_RATE), -each.held()))
        places, day = (self._lan_uploads, None) if is_near else (self._uploads, self._day)
        left = 0 if day is None else day - self._sent.total([EVERYBODY], self._clock())[EVERYBODY] - size
        losers, may_finish = 0, self._may_finish(is_near)
        # Who goes on without a place takes of the day all the same.
        left -= sum(each.left for each in self._finishing if not is_near and each.taker is not None)
        while len(there) - losers >= places or (day is not None and sum(each.left for each in there[losers:]) > left):
            if losers == len(there):
                return False
            if not (there[losers].rests or gives_way(there[losers])):
                if there[losers].held() < _TURN_SECONDS or not may_finish:
                    return False
                may_finish -= 1
                left -= there[losers].left
            losers += 1
        for loser in there[:losers]:
            loser.lose(goes_on=not gives_way(loser))
        return True

    def _is_new(self, taker: UploadTaker | None) -> bool:
        """Whether it is outside the LAN, and its provider took nothing today, nor asked for that."""
        if taker is None or self._takes_little(taker):
            return False
        return not self._sent.total([taker.provider], self._clock())[taker.provider]

    def _takes_little(self, taker: UploadTaker | None) -> bool:
        return taker is not None and not self._little.allows([_little_by(taker)], self._clock())

    def spend(self, taker: UploadTaker, count: int) -> float:
        """Account for ``count`` bytes to outside the LAN; returns the seconds to wait before sending them."""
        now = self._clock()
        self._sent.add(taker, count, now)
        return self._pace.spend(count, now)

    def work(self, count: int) -> float:
        """Seconds to wait for the work that so many bytes cost which are not sent."""
        return self._pace.spend(count, self._clock())

    def overhead(self, count: int) -> float:
        """The same in the LAN, of what no chunk costs."""
        return self._near_pace.spend(count, self._clock())

    def refund(self, taker: UploadTaker, count: int) -> None:
        """Of what was accounted for, so many bytes never left."""
        self._sent.take_back(taker, count)
        self._pace.give_back(count)

    def release(self, upload: Upload) -> None:
        """An upload ended; once is enough."""
        is_there = upload in self._active or upload in self._finishing
        if is_there and upload.taker is not None and upload.left_little:
            self._nothing.count(_nothing_by(upload.taker), self._clock())
        if is_there and upload.taker is not None and upload.took_nothing:
            self._little.count([_little_by(upload.taker)], self._clock())
        self._active.pop(upload, None)
        self._finishing.pop(upload, None)

    def finish(self, upload: Upload) -> None:
        """It has its place no more, and ends with what it was asked."""
        del self._active[upload]
        self._go_on(upload)

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()


def _nothing_by(taker: UploadTaker) -> list[Limit]:
    """How often a network and a provider may ask and take nothing: else a place costs a handshake a second."""
    return [
        Limit(taker.network, _NOTHING, _NOTHING_SECONDS),
        Limit((taker.provider,), _NOTHING * _NOTHING_PROVIDERS, _NOTHING_SECONDS),
    ]


def _little_by(taker: UploadTaker) -> Limit:
    """Whether its network took next to nothing by a place that it had before."""
    return Limit(taker.network, 1, _LITTLE_SECONDS)
