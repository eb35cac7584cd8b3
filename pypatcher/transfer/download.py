"""One release from one peer to where it belongs: a download, its progress, and staging.

Nothing here chooses or judges: whom to ask and what a failure means is the updater's business, what is wanted and
whether the bytes are it the destination's.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pypatcher.addresses import Address, format_address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import (
    ContentMismatchError,
    NoRegionError,
    PeerError,
    RefusedReleaseError,
    RegionError,
    WrongTargetError,
    WrongWholeError,
)
from pypatcher.events import Emit, FetchProgress, FetchStarted, ReleaseStaged
from pypatcher.tasks import in_thread
from pypatcher.transfer.exchange import Parts, Sink
from pypatcher.transfer.hedging import Runner
from pypatcher.version import Version

__all__ = ["Arrival", "Delivery", "Destination", "Fetch"]

_PROGRESS_INTERVAL = 0.25


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

    def new_partial(self, info: PatchInfo | None = None) -> Any:
        """A download of a release, or what is left of one: ``write(data)``, ``Parts``, ``leave()``, ``discard()``."""

    def stage(self, partial: Any, expect: PatchInfo, said: Callable[[], object]) -> object:
        """Verify a download and keep it; ``said`` is called once it is, before anything comes of that.

        Raises:
            PatcherError, OSError: it is not ``expect``, not wanted, or cannot be kept.
        """


class Fetch(Protocol):
    """Fetches one release from one candidate into a sink.

    Raises:
        PeerError, ArtifactError: the peer did not deliver what it announced.
    """

    def __call__(self, candidate: Candidate, sink: Sink) -> Awaitable[PatchInfo]: ...


PeerEnded = Callable[[Address, int, PeerError | None, int], None]
"""See ``Sink.peer_ended``."""


class Arrival:
    """The sink of one fetch: writes to a download, and says how far it is, four times a second at most.

    Args:
        download: takes the bytes by ``write(data)``.
        source: where the peer was heard of.
        runner: of a race that this fetch is in.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        download: Any,
        emit: Emit,
        version: str,
        peer: str,
        *,
        source: str = "",
        runner: Runner | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.write = download.write
        self.peer_ended: PeerEnded = lambda *_: None
        self.parts: Parts = download
        self.drop_tree: Callable[[], None] | None = None
        """The whole was made by a tree, and this is to be called if it is another file."""
        self._emit = emit
        self._version, self._peer, self._source = version, peer, source
        self._runner = runner
        self._clock = clock
        self._said, self._has_begun = clock(), False

    def follows_tree(self, drop: Callable[[], None]) -> None:
        """See ``Sink``."""
        self.drop_tree = drop

    def received(self, count: int, total: int, came: int | None = None) -> None:
        """See ``Sink``."""
        now = self._clock()
        if not self._has_begun:
            self._has_begun = True
            self._emit(FetchStarted(self._version, self._peer, total, self._source))
        if self._runner is not None:
            self._runner.progressed(count, now, came)
        if count == total or now - self._said >= _PROGRESS_INTERVAL:
            self._said = now
            self._emit(FetchProgress(self._version, self._peer, count, total))


class Delivery:
    """A fetch from one candidate, and why it was stopped, if it was.

    Attributes:
        candidate: who is asked for what.
        stopped: why another one was preferred; empty if none was.
        givers: the peers that give it, or parts of it, or are dialed for that, and how often our address had changed
            when that began.
        gave: the bytes of use that came from those of several that did not fail.
        failed: those that failed while others went on.
        peer_ended: see ``Sink``.
    """

    def __init__(
        self, candidate: Candidate, fetch: Fetch, runner: Runner, peer_ended: PeerEnded = lambda *_: None
    ) -> None:
        self.peer_ended = peer_ended
        self.givers: dict[Address, int] = {}
        self.gave: Counter[Address] = Counter()
        self.failed: set[Address] = set()
        self.candidate = candidate
        self.stopped = ""
        self.task: asyncio.Task[None] | None = None
        self._fetch = fetch
        self._runner = runner
        self._leaves = True

    @property
    def received(self) -> int:
        """Bytes that the peer sent so far."""
        return self._runner.came

    def stop(self, why: str, *, leaves: bool = False) -> None:
        """It ends soon; once is enough. ``leaves``: what is here by then is left for the next one."""
        if self.task is not None and not self.stopped:
            self.stopped, self._leaves = why, leaves
            self.task.cancel()

    async def run(self, destination: Destination, emit: Emit, clock: Callable[[], float]) -> None:
        """Fetch and stage; when a peer fails, or the node stops, what is here by then is left for the next one.

        Also when it was too slow: else who pretends to be quicker takes away what others gave.

        Raises:
            PeerError, ArtifactError: the peer did not deliver what it announced.
            WrongWholeError: it did, and still the whole is not the release.
            NotNewerError, RefusedReleaseError: this device does not want it after all.
            CannotReplaceError, StateError, OSError: this device cannot keep it.
        """
        info = self.candidate.info
        download = await in_thread(partial(destination.new_partial, info), undo=lambda unused: unused.leave())
        try:
            version, peer = str(info.version), format_address(self.candidate.address)
            arrival = Arrival(
                download, emit, version, peer, source=self.candidate.source, runner=self._runner, clock=clock
            )
            arrival.peer_ended = self.peer_ended
            await self._fetch(self.candidate, arrival)
            await in_thread(partial(download.cut, info.file_size))
            staged = ReleaseStaged(version, str(destination.staged_path))
            say = partial(asyncio.get_running_loop().call_soon_threadsafe, emit, staged)
            try:
                await in_thread(partial(destination.stage, download, info, say))
            except (ContentMismatchError, NoRegionError, RegionError) as error:
                if arrival.drop_tree is None:
                    raise
                arrival.drop_tree()
                raise WrongWholeError(f"by the tree that the owner signed it is another file: {error}") from None
        except (PeerError, asyncio.CancelledError):
            # Nothing of it is believed. Else whoever gives nothing would take away what others gave.
            if self._leaves:
                download.leave()
            raise
        except WrongTargetError as error:
            # Its hash and the owner's signature were good: the file itself is for another machine, whoever sends it.
            raise RefusedReleaseError(str(error)) from None
        finally:
            download.discard()
