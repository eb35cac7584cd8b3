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
from functools import partial
from typing import Protocol

from pypatcher.addresses import Address, is_lan
from pypatcher.artifact import PatchInfo
from pypatcher.backoff import Backoff
from pypatcher.budgets.peer_budget import Turns
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
    WrongWholeError,
)
from pypatcher.events import (
    Emit,
    PreflightFailed,
    ReleaseFound,
)
from pypatcher.limits import Limit, WindowLimiter
from pypatcher.nat.ways import Reachability
from pypatcher.settings import Settings
from pypatcher.transfer.download import Delivery, Destination, Fetch
from pypatcher.transfer.exchange import NobodyLeftError, Sink
from pypatcher.transfer.hedging import Race, Runner
from pypatcher.update.outcomes import Outcomes
from pypatcher.update.wanted import Wanted
from pypatcher.waiting import wait_at_most

__all__ = ["PeersView", "Updater"]

_ROUND = Limit("fetches", 32, 30.0)
_RETRY = 30.0
_CHECK = 10.0
_FAR_GIVERS, _GIVERS = 6, 16
"""Peers that give parts of one release: from outside the LAN, and in all; each of them gives to 4 and 16."""
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

    def may_help(self, candidate: Candidate) -> bool:
        """Whether what it has is being fetched in such a way that it can give parts of it, too."""

    def is_connected(self, address: Address) -> bool:
        """Whether there is a connection with the node there, whoever dialed."""

    def make_place(self, info: PatchInfo) -> None:
        """Of those that give parts of it, the slowest is to be asked no more."""

    async def help(self, candidate: Candidate) -> None:
        """Take parts of what is being fetched from one more peer; how that went is told to the fetch's sink.

        Raises:
            PeerError: it cannot be reached.
        """


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
        self._outcomes = Outcomes(self._budget, lambda: peers.ways, lambda: peers.moves, emit, clock)
        self._once = wanted.once
        self._rng = rng
        self._clock = clock
        self._is_at_work = False
        self._race = Race(settings.download)
        self._running: dict[Runner, Delivery] = {}
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
        """Wait until the fetches that are under way now have ended: the next may begin before the last has."""
        if tasks := [one.task for one in self._running.values() if one.task is not None]:
            await asyncio.wait(tasks)

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
        now, under_way = self._clock(), dict(self._running)
        releases = self._peers.census.releases()
        wanted = {info: candidates for info, candidates in releases.items() if await self._wanted.wants(info)}
        for delivery in under_way.values():
            if not await self._wanted.rule.allows(delivery.candidate.info):
                delivery.stop("the owner's word does not allow it any more")
        self._turns = {info: turns for info, turns in self._turns.items() if info in wanted}
        goal = await self._wanted.goal()
        if not under_way.keys() <= self._running.keys():
            # One ended while the rule was asked, and what it brought is not wanted any more.
            return 0.0
        self._peers.want([*([goal] if goal is not None and goal not in wanted else []), *wanted])
        self._peers.ways.note_holders({candidate.address for candidates in wanted.values() for candidate in candidates})
        if (loser := self._race.judge(now)) is not None:
            slow = self._running[loser]
            slow.stop("slow; somebody else is tried", leaves=True)
            self._outcomes.slow(slow)
        soonest = _CHECK if self._running else float("inf")
        if (pause := self._not_before - now) > 0.0:
            return min(pause, soonest)
        for info, candidates in wanted.items():
            if self._have_one_help(tasks, info, candidates):
                return 0.0
            # Whoever can help with what is under way is no rival to it.
            rivals = [each for each in candidates if not self._peers.may_help(each)]
            if (wait := self._race.wait(info.version, now) if rivals else _CHECK) == 0.0:
                self._say_found(rivals[0])
                wait = self._begin_one_of(tasks, info, rivals)
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
        by_address = self._not_asked(candidates)
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

    def _have_one_help(self, tasks: asyncio.TaskGroup, info: PatchInfo, candidates: list[Candidate]) -> bool:
        """Whether one more of these begins to give parts of a release that others are giving already."""
        now = self._clock()
        runner = next(
            (each for each, one in self._running.items() if one.candidate.info == info and not one.stopped), None
        )
        able = {address: each for address, each in self._not_asked(candidates).items() if self._peers.may_help(each)}
        if runner is None or not able or not self._begun.allows([_ROUND], now):
            return False
        delivery = self._running[runner]
        far = sum(not is_lan(address) for address in delivery.givers)
        if far >= _FAR_GIVERS:
            able = {address: each for address, each in able.items() if is_lan(address)}
        if (far >= _FAR_GIVERS or len(delivery.givers) >= _GIVERS) and runner.is_slow(now):
            # However many drip, they keep nobody from it who gives more.
            self._peers.make_place(info)
        if len(delivery.givers) >= _GIVERS:
            return False
        address = self._next(info, able)
        if address is None:
            return False
        self._begun.count([_ROUND], now)
        self._turns[info].asked(address)
        delivery.givers[address] = self._peers.moves
        tasks.create_task(self._help(delivery, able[address]))
        return True

    async def _help(self, delivery: Delivery, candidate: Candidate) -> None:
        try:
            await self._peers.help(candidate)
        except PeerError as error:
            delivery.peer_ended(candidate.address, 0, error, 0)
        finally:
            delivery.givers.pop(candidate.address, None)
            self._peers.census.news.tell()

    def _not_asked(self, candidates: list[Candidate]) -> dict[Address, Candidate]:
        asked = {each for one in self._running.values() for each in one.givers}
        return {each.address: each for each in candidates if each.address not in asked}

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
        is_open = self._peers.ways.is_open(address) or self._peers.is_connected(address)
        return is_open and self._budget.wait(release, address, self._clock()) == 0.0

    def _begin(self, tasks: asyncio.TaskGroup, candidate: Candidate, fetch: Fetch) -> None:
        needed = candidate.info.file_size + self._race.outstanding()
        runner = self._race.enter(candidate.info.version, candidate.info.file_size, self._clock())
        delivery = self._running[runner] = Delivery(candidate, fetch, runner)
        delivery.givers[candidate.address] = self._peers.moves
        delivery.peer_ended = partial(self._outcomes.one_ended, delivery)
        delivery.task = tasks.create_task(self._await(delivery, needed))
        # Not at the end of that coroutine: one that is stopped before its first step never comes there.
        delivery.task.add_done_callback(lambda _: self._ended(runner))

    def _ended(self, runner: Runner) -> None:
        self._race.leave(runner)
        del self._running[runner]
        self._peers.census.news.tell()

    async def _await(self, delivery: Delivery, needed: int) -> None:
        """See a delivery to its end; ``needed``: bytes on disk for it and for those beside it."""
        info, moves = delivery.candidate.info, self._peers.moves
        try:
            volatile = self._settings.allow_volatile
            await asyncio.to_thread(self._destination.preflight, needed, allow_volatile=volatile)
            await delivery.run(self._destination, self._emit, self._clock)
            self._overtake(delivery)
            await self._note_success(delivery)
        except (CannotReplaceError, StateError) as error:
            self._pause(error)
        except OSError as error:
            self._pause(CannotReplaceError(f"cannot keep {info.version} beside the program: {error}"))
        except (NotNewerError, RefusedReleaseError) as error:
            self._wanted.refuse(info, error)
        except (WrongWholeError, NobodyLeftError) as error:
            # The whole is fetched without the tree now; or each peer failed, which was said, and what came is kept.
            self._outcomes.say(delivery, str(error), in_vain=isinstance(error, WrongWholeError))
        except (PeerError, ArtifactError) as error:
            self._outcomes.failed(delivery, error, moves)
        except asyncio.CancelledError:
            if not delivery.stopped:
                raise
            self._outcomes.say(delivery, delivery.stopped)

    async def _note_success(self, delivery: Delivery) -> None:
        info = delivery.candidate.info
        self._preflight_backoff.succeed()
        for address in self._outcomes.succeeded(delivery):
            self._peers.census.meet(address, [info])
        await self._wanted.past.staged(info)

    def _overtake(self, winner: Delivery) -> None:
        """What runs beside it and is not newer is not wanted any more."""
        for delivery in self._running.values():
            if delivery is not winner and delivery.candidate.info.version <= winner.candidate.info.version:
                delivery.stop("somebody else was faster")

    def _pause(self, error: PatcherError) -> None:
        """It is this device, not a peer: other peers would be asked in vain."""
        if len(self._running) > 1:
            # There is room for one, and another is under way.
            self._race.rest(self._clock())
            return
        self._once.say(PreflightFailed(str(error)))
        self._not_before = self._clock() + self._preflight_backoff.fail()
