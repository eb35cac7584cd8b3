"""Brings a newer release beside the program: choose, fetch, verify, stage.

What is wanted is decided by ``Wanted``, who may be asked by ``FetchBudget``, how many at once by ``Race``;
this module only moves things along. It reads who has what and who can be reached, and nobody calls it but with offers.
One peer's failure leads to the next peer, one release's failure to the next release, and no failure ends the loop.
design.md "Transport and transfer" (fetching).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection
from typing import Protocol

from pypatcher.addresses import Address, format_address, is_lan
from pypatcher.artifact import PatchInfo
from pypatcher.backoff import Backoff
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.census import Census
from pypatcher.errors import (
    ArtifactError,
    CannotReplaceError,
    NotNewerError,
    PatcherError,
    PeerBusyError,
    PeerError,
    RefusedReleaseError,
    StateError,
)
from pypatcher.events import (
    Emit,
    FetchFailed,
    PreflightFailed,
    ReleaseFound,
)
from pypatcher.limits import Limit, WindowLimiter
from pypatcher.nat.ways import Reachability
from pypatcher.settings import Settings
from pypatcher.transfer.download import Delivery, Destination, Fetch
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.hedging import Race, Runner
from pypatcher.transfer.peer_budget import Turns
from pypatcher.update.wanted import Wanted
from pypatcher.waiting import wait_at_most

__all__ = ["PeersView", "Updater"]

_ROUND = Limit("fetches", 32, 30.0)
_RETRY = 30.0
_CHECK = 10.0
_LONGEST_WAIT = 3600.0
_PREFLIGHT_PAUSES = (60.0, 6 * 3600.0)


class PeersView(Protocol):
    """The other nodes, as the updater sees them: it reads census and ways, and says what it wants.

    Attributes:
        moves: how often others began to reach us somewhere else: a transfer that breaks then is nobody's fault.
    """

    census: Census
    moves: int

    @property
    def ways(self) -> Reachability:
        """Who may be dialed now."""

    def want(self, releases: Collection[PatchInfo] | None) -> None:
        """These releases are known of and wanted here, the newest first; None: nothing is taken here."""

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        """See ``Fetch``."""


class Updater:
    """One per node: brings the newest release that this device takes beside the program.

    Args:
        peers: see ``PeersView``.
        destination: see ``Destination``.
        wanted: which releases this device takes; told what this updater finds.
        settings: whether it may be installed where an update is lost at the next boot.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        peers: PeersView,
        destination: Destination,
        wanted: Wanted,
        settings: Settings,
        emit: Emit,
        *,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers = peers
        self._destination = destination
        self._wanted = wanted
        self._budget = wanted.past.budget
        self._settings = settings
        self._emit = emit
        self._once = wanted.once
        self._rng = rng
        self._clock = clock
        self._is_at_work = False
        self._race = Race()
        self._running: dict[Runner, Delivery] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._turns: dict[PatchInfo, Turns] = {}
        self._begun = WindowLimiter()
        self._preflight_backoff = Backoff(*_PREFLIGHT_PAUSES)
        self._not_before = 0.0

    async def run(self) -> None:
        """Fetch what is wanted until cancelled. Until then nothing is taken, and nothing looked for."""
        self._is_at_work = True
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    news = self._peers.census.news.next
                    wait = await self._pursue(tasks)
                    await wait_at_most(news, max(0.05, min(wait, _LONGEST_WAIT)))
        finally:
            self._is_at_work = False
            self._peers.want(None)

    async def settled(self) -> None:
        """Wait until no fetch is under way."""
        await self._idle.wait()

    async def would_take(self, info: PatchInfo, address: Address) -> bool:
        """Whether an offer of ``info`` from ``address`` is wanted now: the same decision as for a record.

        Raises:
            PeerBusyError: it is, but not just now.
        """
        if not self._is_at_work or not await self._wanted.wants(info):
            return False
        now = self._clock()
        paused = max(self._not_before - now, self._budget.wait(info.hash.hex(), address, now))
        if paused > 0.0 or self._race.wait(info.version, now) > 0.0:
            raise PeerBusyError(f"{info.version} is fetched from somebody else, or paused")
        return True

    async def take(self, candidate: Candidate, fetch: Fetch) -> None:
        """Fetch and stage what was offered, by ``fetch``, unless another fetch has its place by now."""
        if self._race.wait(candidate.info.version, self._clock()) > 0.0:
            return
        self._peers.census.add(candidate)
        self._say_found(candidate)
        async with asyncio.TaskGroup() as tasks:
            self._begin(tasks, candidate, fetch)

    async def _pursue(self, tasks: asyncio.TaskGroup) -> float:
        """Begin one fetch at most, of the newest release first; returns the seconds until the next try makes sense."""
        now = self._clock()
        releases = self._peers.census.releases()
        wanted = {info: candidates for info, candidates in releases.items() if await self._wanted.wants(info)}
        for delivery in self._running.values():
            if not await self._wanted.rule.allows(delivery.candidate.info):
                delivery.stop("the owner's word does not allow it any more")
        self._turns = {info: turns for info, turns in self._turns.items() if info in wanted}
        goal = await self._wanted.goal()
        self._peers.want([*([goal] if goal is not None and goal not in wanted else []), *wanted])
        self._peers.ways.note_holders({candidate.address for candidates in wanted.values() for candidate in candidates})
        if (loser := self._race.judge(now)) is not None:
            slow = self._running[loser]
            slow.stop("slow; somebody else is tried")
            info, address = slow.candidate.info, slow.candidate.address
            self._budget.slow(info.hash.hex(), info.file_size, address, slow.received, now)
        soonest = _CHECK if self._running else float("inf")
        if (pause := self._not_before - now) > 0.0:
            return min(pause, soonest)
        for info, candidates in wanted.items():
            if (wait := self._race.wait(info.version, now)) == 0.0:
                self._say_found(candidates[0])
                wait = self._begin_one_of(tasks, info, candidates)
                if wait == 0.0:
                    return _CHECK
            soonest = min(soonest, wait)
        return soonest

    def _say_found(self, heard: Candidate) -> None:
        found = ReleaseFound(str(heard.info.version), heard.node_id.hex(), heard.source)
        self._once.say(found, f"found {heard.info.version} {heard.info.hash.hex()}")

    def _begin_one_of(self, tasks: asyncio.TaskGroup, info: PatchInfo, candidates: list[Candidate]) -> float:
        """0 when a fetch began, else the seconds until a candidate may be asked (again)."""
        release, now = info.hash.hex(), self._clock()
        if (pause := self._begun.wait([_ROUND], now)) > 0.0:
            return pause
        asked = {delivery.candidate.address for delivery in self._running.values()}
        by_address = {each.address: each for each in candidates if each.address not in asked}
        address = self._next(info, by_address)
        jitter = self._peers.ways.stranger_jitter
        if address is not None and jitter and not is_lan(address) and self._budget.first_stranger(release):
            self._budget.delay_strangers(release, self._rng.uniform(0, jitter), now)
            address = self._next(info, by_address)
        if address is None:
            waits = (self._budget.wait(release, each, now) for each in by_address)
            return min([_RETRY, *(wait for wait in waits if wait > 0.0)])
        self._begun.count([_ROUND], now)
        self._turns[info].asked(address)
        self._begin(tasks, by_address[address], self._peers.fetch)
        return 0.0

    def _next(self, info: PatchInfo, addresses: Collection[Address]) -> Address | None:
        """Whose turn it is, of those who may be asked now."""
        turns, release = self._turns.setdefault(info, Turns(self._rng)), info.hash.hex()
        for _ in range(2):
            for address in turns.order(addresses, self._budget.good):
                if self._may_ask(release, address):
                    return address
            turns.restart()
        return None

    def _may_ask(self, release: str, address: Address) -> bool:
        return self._peers.ways.is_open(address) and self._budget.wait(release, address, self._clock()) == 0.0

    def _begin(self, tasks: asyncio.TaskGroup, candidate: Candidate, fetch: Fetch) -> None:
        needed = candidate.info.file_size + self._race.outstanding()
        runner = self._race.enter(candidate.info.version, candidate.info.file_size, self._clock())
        delivery = self._running[runner] = Delivery(candidate, fetch, runner)
        self._idle.clear()
        delivery.task = tasks.create_task(self._await(delivery, runner, needed))

    async def _await(self, delivery: Delivery, runner: Runner, needed: int) -> None:
        """See a delivery to its end; ``needed``: bytes on disk for it and for those beside it."""
        info, address, moves = delivery.candidate.info, delivery.candidate.address, self._peers.moves
        try:
            volatile = self._settings.allow_volatile
            await asyncio.to_thread(self._destination.preflight, needed, allow_volatile=volatile)
            await delivery.run(self._destination, self._emit, self._clock)
            self._overtake(runner)
            await self._note_success(info, address)
        except (CannotReplaceError, StateError) as error:
            self._pause(error)
        except OSError as error:
            self._pause(CannotReplaceError(f"cannot keep {info.version} beside the program: {error}"))
        except (NotNewerError, RefusedReleaseError) as error:
            self._wanted.refuse(info, error)
        except (PeerError, ArtifactError) as error:
            self._say_failed(delivery, str(error))
            if moves != self._peers.moves and isinstance(error, PeerError):
                self._note_break(delivery)
            else:
                self._count_failure(delivery, error)
        except asyncio.CancelledError:
            if not delivery.stopped:
                raise
            self._say_failed(delivery, delivery.stopped)
        finally:
            self._race.leave(runner)
            del self._running[runner]
            if not self._running:
                self._idle.set()
            self._peers.census.news.tell()

    def _say_failed(self, delivery: Delivery, reason: str) -> None:
        info, address = delivery.candidate.info, delivery.candidate.address
        wasted = self._budget.waste(address, delivery.received, self._clock())
        self._emit(FetchFailed(str(info.version), format_address(address), reason, *wasted))

    async def _note_success(self, info: PatchInfo, address: Address) -> None:
        self._preflight_backoff.succeed()
        self._budget.succeeded(address)
        self._peers.ways.reached(address)
        self._peers.census.meet(address, [info])
        await self._wanted.past.staged(info)

    def _overtake(self, winner: Runner) -> None:
        """What runs beside it and is not newer is not wanted any more."""
        for runner, delivery in self._running.items():
            if runner is not winner and runner.version <= winner.version:
                delivery.stop("somebody else was faster")

    def _pause(self, error: PatcherError) -> None:
        """It is this device, not a peer: other peers would be asked in vain."""
        if len(self._running) > 1:
            # There is room for one, and another is under way.
            self._race.rest(self._clock())
            return
        self._once.say(PreflightFailed(str(error)))
        self._not_before = self._clock() + self._preflight_backoff.fail()

    def _note_break(self, delivery: Delivery) -> None:
        """Our address changed meanwhile, which is nobody's fault; who was there a moment ago is asked again at once."""
        if delivery.received:
            self._peers.ways.reached(delivery.candidate.address)

    def _count_failure(self, delivery: Delivery, error: Exception) -> None:
        info, address, now = delivery.candidate.info, delivery.candidate.address, self._clock()
        if isinstance(error, PeerBusyError) and not delivery.received:
            self._budget.busy(address, now)
        # Who says so after it sent something was not too busy to begin: else that word would make any waste free.
        elif delivery.received or not isinstance(error, PeerError):
            self._budget.failed(info.hash.hex(), info.file_size, address, delivery.received, now)
        else:
            self._budget.unreachable(address, now)
            self._peers.ways.failed(address)
