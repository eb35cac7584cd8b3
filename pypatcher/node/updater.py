"""Looks for a newer release and brings it beside the program: look, choose, fetch, verify, stage.

What is wanted is decided by ``pypatcher.install``, who may be asked by ``FetchBudget``; this module only moves
things along. One peer's failure leads to the next peer, one release's failure to the next release, and no failure
ends the loop. DESIGN "Discovery" (looking) and "Transport and transfer" (fetching).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pypatcher.addresses import Address, format_address, is_lan
from pypatcher.artifact import PatchInfo
from pypatcher.errors import (
    ArtifactError,
    CannotReplaceError,
    NotNewerError,
    PatcherError,
    PeerBusyError,
    PeerError,
    RefusedReleaseError,
    StateError,
    WrongTargetError,
)
from pypatcher.events import (
    Emit,
    Event,
    FetchFailed,
    FetchProgress,
    FetchStarted,
    PreflightFailed,
    ReleaseFound,
    ReleaseRefused,
    ReleaseStaged,
)
from pypatcher.node.budget import FetchBudget, rank_addresses
from pypatcher.node.candidates import Candidate, Candidates
from pypatcher.node.schedule import Backoff, jittered
from pypatcher.node.settings import Settings
from pypatcher.version import Version

__all__ = ["Destination", "Fetch", "Updater", "Ways"]

_ROUND_LIMIT = 32
_RETRY = 30.0
_PREFLIGHT_PAUSES = (60.0, 6 * 3600.0)
_PROGRESS_INTERVAL = 0.25
_SAID_LIMIT = 256


class Destination(Protocol):
    """Where a release goes: decides what is wanted, takes the bytes, verifies and keeps; ``Installation`` is one."""

    @property
    def staged_path(self) -> Path:
        """Where a staged release lies."""

    def preflight(self, size: int, *, allow_volatile: bool) -> None:
        """Refuse before anything is fetched.

        Raises:
            CannotReplaceError, StateError, OSError: no release of that size could be kept.
        """

    def check_wanted(self, version: Version, sha512: bytes = b"") -> None:
        """Refuse a version, or the file of that hash.

        Raises:
            NotNewerError, RefusedReleaseError: it is not wanted.
        """

    def new_partial(self) -> Any:
        """A download to write to: ``write(data)``, ``discard()``."""

    def stage(self, partial: Any, expect: PatchInfo) -> object:
        """Verify a download and keep it.

        Raises:
            PatcherError, OSError: it is not ``expect``, not wanted, or cannot be kept.
        """


class Fetch(Protocol):
    """Fetches one release from one candidate, handing its bytes to ``write`` and their count to ``progress``.

    Raises:
        PeerError, ArtifactError: the peer did not deliver what it announced.
    """

    def __call__(
        self, candidate: Candidate, write: Callable[[bytes], None], progress: Callable[[int], None]
    ) -> Awaitable[PatchInfo]: ...


class Ways(Protocol):
    """Which addresses may be dialed now: somebody else opens the ways, within everybody's budgets."""

    def seek(self, addresses: Collection[Address]) -> None:
        """These hold a release that is wanted here, and no others do."""

    def is_open(self, address: Address) -> bool:
        """Whether it answered a moment ago."""

    def reached(self, address: Address) -> None:
        """It was dialed, and gave a release."""

    def failed(self, address: Address) -> None:
        """It was dialed in vain."""


class Updater:
    """One a node: brings the newest release that this device takes beside the program.

    Args:
        look: asks discovery who has what; its failures are logged and end nothing.
        fetch: see ``Fetch``.
        installation: see ``Destination``.
        candidates: fed by ``look`` and by every other source of addresses, which then calls ``wake``.
        known_files: hash without region -> SHA-512 of the whole file, both hex, of releases that were staged here: by
            it a refused release is known before it is fetched again.
        on_staged: told each release that was staged here.
        ways: which candidates may be dialed now; None is all of them.
        on_wanted: told which of the releases heard of are wanted, the newest first.
        stranger_jitter: without ``ways``, seconds at most before the first stranger is asked for a release.
    """

    def __init__(
        self,
        *,
        look: Callable[[], Awaitable[None]],
        fetch: Fetch,
        installation: Destination,
        known_files: Mapping[str, str],
        candidates: Candidates,
        budget: FetchBudget,
        settings: Settings,
        emit: Emit,
        on_staged: Callable[[PatchInfo], Awaitable[None]],
        clock: Callable[[], float],
        rng: random.Random,
        ways: Ways | None = None,
        on_wanted: Callable[[list[PatchInfo]], None] = lambda _: None,
        stranger_jitter: float = 60.0,
    ) -> None:
        self._ways = ways
        self._on_wanted = on_wanted
        self._stranger_jitter = stranger_jitter
        self._woken = asyncio.Event()
        self._busy = asyncio.Lock()
        self._look = look
        self._fetch = fetch
        self._installation = installation
        self._known_files = known_files
        self._candidates = candidates
        self._budget = budget
        self._settings = settings
        self._emit = emit
        self._on_staged = on_staged
        self._clock = clock
        self._rng = rng
        self._preflight_backoff = Backoff(*_PREFLIGHT_PAUSES)
        self._not_before = 0.0
        self._refused: set[PatchInfo] = set()
        self._moves = 0
        self._said: set[str] = set()

    async def run(self) -> None:
        """Look and fetch until cancelled."""
        started = next_look = self._clock()
        while True:
            if self._clock() >= next_look:
                await self._look()
                pause = self._settings.pause_between_looks(self._clock() - started)
                next_look = self._clock() + jittered(pause, self._rng)
            self._woken.clear()
            async with self._busy:
                wait = await self._pursue()
            pause = max(0.05, min(next_look - self._clock(), wait))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()

    def wake(self) -> None:
        """There are new candidates, or a way to one is open."""
        self._woken.set()

    def moved(self) -> None:
        """This node is somewhere else: a transfer that breaks now is nobody's fault."""
        self._moves += 1
        self.wake()

    async def settled(self) -> None:
        """Wait until no fetch is under way."""
        async with self._busy:
            return

    async def would_take(self, info: PatchInfo, address: Address) -> bool:
        """Whether an offer of ``info`` from ``address`` is wanted: the same decision as for a record.

        Raises:
            PeerBusyError: it is, but not just now.
        """
        if not await self._wants(info):
            return False
        paused = max(self._not_before - self._clock(), self._budget.wait(info.hash.hex(), address, self._clock()))
        if self._busy.locked() or paused > 0.0:
            raise PeerBusyError(f"{info.version} is fetched from somebody else, or paused")
        return True

    async def take(self, candidate: Candidate, fetch: Fetch) -> None:
        """Fetch and stage what was offered, by ``fetch``, unless a fetch is under way."""
        if self._busy.locked():
            return
        self._candidates.add([candidate], self._clock())
        async with self._busy:
            self._say_found(candidate)
            await self._try(candidate.info, lambda: self._fetch_offered(candidate, fetch))
        self.wake()

    async def _fetch_offered(self, candidate: Candidate, fetch: Fetch) -> float:
        return 0.0 if await self._fetch_from(candidate, fetch) else _RETRY

    async def _pursue(self) -> float:
        """Try for the newest release first; returns the seconds after which trying again makes sense."""
        releases = self._candidates.releases(self._clock())
        wanted = {info: candidates for info, candidates in releases.items() if await self._wants(info)}
        self._on_wanted(list(wanted))
        if (pause := self._not_before - self._clock()) > 0.0:
            return pause
        if self._ways is not None:
            self._ways.seek({candidate.address for candidates in wanted.values() for candidate in candidates})
        soonest = float("inf")
        for info, candidates in wanted.items():
            self._say_found(candidates[0])
            wait = await self._try(info, partial(self._fetch_from_one_of, info, candidates))
            if wait == 0.0:
                self.wake()
                return float("inf")
            soonest = min(soonest, wait)
            if self._not_before > self._clock():
                break
        return soonest

    def _say_found(self, heard: Candidate) -> None:
        found = ReleaseFound(str(heard.info.version), heard.node_id.hex(), heard.source)
        self._say_once(found, f"found {heard.info.version} {heard.info.hash.hex()}")

    async def _try(self, info: PatchInfo, fetch: Callable[[], Awaitable[float]]) -> float:
        """``fetch`` after the preflight; 0 when the release is staged, else seconds until trying again makes sense."""
        try:
            volatile = self._settings.allow_volatile
            await asyncio.to_thread(self._installation.preflight, info.file_size, allow_volatile=volatile)
            wait = await fetch()
        except (CannotReplaceError, StateError) as error:
            return self._pause(error)
        except OSError as error:
            return self._pause(CannotReplaceError(f"cannot keep {info.version} beside the program: {error}"))
        except (NotNewerError, RefusedReleaseError) as error:
            self._refuse(info, error)
            return float("inf")
        if wait == 0.0:
            self._preflight_backoff.succeed()
        return wait

    def _pause(self, error: PatcherError) -> float:
        """It is this device, not a peer: other peers would be asked in vain."""
        self._say_once(PreflightFailed(str(error)))
        pause = self._preflight_backoff.fail()
        self._not_before = self._clock() + pause
        return pause

    def _refuse(self, info: PatchInfo, error: PatcherError) -> None:
        """Remember what a download showed: nobody is asked for that release again."""
        if len(self._refused) >= _SAID_LIMIT:
            self._refused.clear()
        self._refused.add(info)
        self._say_once(ReleaseRefused(str(info.version), str(error)))

    async def _wants(self, info: PatchInfo) -> bool:
        if info in self._refused:
            return False
        sha512 = bytes.fromhex(self._known_files.get(info.hash.hex(), ""))
        try:
            await asyncio.to_thread(self._installation.check_wanted, info.version, sha512)
        except NotNewerError:
            return False
        except RefusedReleaseError as error:
            self._say_once(ReleaseRefused(str(info.version), str(error)))
            return False
        except (CannotReplaceError, OSError) as error:
            self._say_once(PreflightFailed(str(error)))
            return False
        return True

    async def _fetch_from_one_of(self, info: PatchInfo, candidates: list[Candidate]) -> float:
        """0 when the release is staged, else the seconds until a candidate may be asked (again)."""
        release = info.hash.hex()
        by_address = {candidate.address: candidate for candidate in candidates}
        # In a new order every time: uploads spread over the holders, and nobody can talk himself to the front.
        addresses = self._rng.sample(list(by_address), len(by_address))
        pending = rank_addresses(addresses, self._budget.good)
        for _ in range(_ROUND_LIMIT):
            # Looked for anew each time: a way that opened while somebody else was asked in vain is soon shut again.
            address = next((each for each in pending if self._may_ask(release, each)), None)
            if address is None:
                break
            pending.remove(address)
            if self._ways is None and not is_lan(address) and self._budget.first_stranger(release):
                await asyncio.sleep(self._rng.uniform(0, self._stranger_jitter))
            if await self._fetch_from(by_address[address], self._fetch):
                return 0.0
        waits = (self._budget.wait(release, address, self._clock()) for address in pending)
        return min([_RETRY, *(wait for wait in waits if wait > 0.0)])

    def _may_ask(self, release: str, address: Address) -> bool:
        is_open = self._ways is None or self._ways.is_open(address)
        return is_open and self._budget.wait(release, address, self._clock()) == 0.0

    async def _fetch_from(self, candidate: Candidate, fetch: Fetch) -> bool:
        """Whether it was fetched and staged; what is the peer's fault is counted.

        Raises:
            NotNewerError, RefusedReleaseError: this device does not want it after all.
            CannotReplaceError, StateError, OSError: this device cannot keep it.
        """
        info, address = candidate.info, candidate.address
        version, peer = str(info.version), format_address(address)
        size = info.file_size
        received, said, moves = 0, self._clock(), self._moves
        download = await asyncio.to_thread(self._installation.new_partial)

        def progress(count: int) -> None:
            nonlocal received, said
            if received == 0:
                self._emit(FetchStarted(version, peer, size, candidate.source))
                if self._ways is not None:
                    self._ways.reached(address)  # if the transfer breaks, the way back is known
            received = count
            if count == size or self._clock() - said >= _PROGRESS_INTERVAL:
                said = self._clock()
                self._emit(FetchProgress(version, peer, count, size))

        try:
            await fetch(candidate, download.write, progress)
            await asyncio.to_thread(self._installation.stage, download, info)
        except WrongTargetError as error:
            # Its hash and the owner's signature were good: the file itself is for another machine, whoever sends it.
            raise RefusedReleaseError(str(error)) from None
        except (PeerError, ArtifactError) as error:
            self._emit(FetchFailed(version, peer, str(error)))
            if moves == self._moves or not isinstance(error, PeerError):
                self._count_failure(info, address, received, error)
            return False
        finally:
            download.discard()
        self._budget.succeeded(address)
        if self._ways is not None:
            self._ways.reached(address)
        self._emit(ReleaseStaged(version, str(self._installation.staged_path)))
        await self._on_staged(info)
        return True

    def _count_failure(self, info: PatchInfo, address: Address, received: int, error: Exception) -> None:
        if isinstance(error, PeerBusyError) and not received:
            return
        # Who says so after it sent something was not too busy to begin: else that word would make any waste free.
        if received or not isinstance(error, PeerError):
            self._budget.failed(info.hash.hex(), info.file_size, address, received, self._clock())
        else:
            self._budget.unreachable(address, self._clock())
            if self._ways is not None:
                self._ways.failed(address)

    def _say_once(self, event: Event, what: str | None = None) -> None:
        """Say what would else be repeated at every round; ``what`` names it, else the event's own text does."""
        what = what or str(event)
        if what not in self._said:
            if len(self._said) >= _SAID_LIMIT:
                self._said.clear()
            self._said.add(what)
            self._emit(event)
