"""One release from one peer to where it belongs: a download, its progress, and staging.

Nothing here chooses or judges: whom to ask and what a failure means is the updater's business, what is wanted and
whether the bytes are it the destination's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pypatcher.addresses import format_address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import RefusedReleaseError, WrongTargetError
from pypatcher.events import Emit, FetchProgress, FetchStarted, ReleaseStaged
from pypatcher.tasks import in_thread
from pypatcher.transfer.exchange import Sink
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

    def new_partial(self) -> Any:
        """A download to write to: ``write(data)``, ``discard()``."""

    def stage(self, partial: Any, expect: PatchInfo) -> object:
        """Verify a download and keep it.

        Raises:
            PatcherError, OSError: it is not ``expect``, not wanted, or cannot be kept.
        """


class Fetch(Protocol):
    """Fetches one release from one candidate into a sink.

    Raises:
        PeerError, ArtifactError: the peer did not deliver what it announced.
    """

    def __call__(self, candidate: Candidate, sink: Sink) -> Awaitable[PatchInfo]: ...


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
        self._emit = emit
        self._version, self._peer, self._source = version, peer, source
        self._runner = runner
        self._clock = clock
        self._said, self._has_begun = clock(), False

    def received(self, count: int, total: int) -> None:
        """See ``Sink``."""
        now = self._clock()
        if not self._has_begun:
            self._has_begun = True
            self._emit(FetchStarted(self._version, self._peer, total, self._source))
        if self._runner is not None:
            self._runner.progressed(count, now)
        if count == total or now - self._said >= _PROGRESS_INTERVAL:
            self._said = now
            self._emit(FetchProgress(self._version, self._peer, count, total))


class Delivery:
    """A fetch from one candidate, and why it was stopped, if it was.

    Attributes:
        candidate: who is asked for what.
        stopped: why another one was preferred; empty if none was.
    """

    def __init__(self, candidate: Candidate, fetch: Fetch, runner: Runner) -> None:
        self.candidate = candidate
        self.stopped = ""
        self.task: asyncio.Task[None] | None = None
        self._fetch = fetch
        self._runner = runner

    @property
    def received(self) -> int:
        """Bytes so far."""
        return self._runner.received

    def stop(self, why: str) -> None:
        """It ends soon; once is enough."""
        if self.task is not None and not self.stopped:
            self.stopped = why
            self.task.cancel()

    async def run(self, destination: Destination, emit: Emit, clock: Callable[[], float]) -> None:
        """Fetch and stage; nothing is left of it when that fails.

        Raises:
            PeerError, ArtifactError: the peer did not deliver what it announced.
            NotNewerError, RefusedReleaseError: this device does not want it after all.
            CannotReplaceError, StateError, OSError: this device cannot keep it.
        """
        info = self.candidate.info
        download = await in_thread(destination.new_partial, undo=lambda unused: unused.discard())
        try:
            version, peer = str(info.version), format_address(self.candidate.address)
            arrival = Arrival(
                download, emit, version, peer, source=self.candidate.source, runner=self._runner, clock=clock
            )
            await self._fetch(self.candidate, arrival)
            await in_thread(partial(destination.stage, download, info))
        except WrongTargetError as error:
            # Its hash and the owner's signature were good: the file itself is for another machine, whoever sends it.
            raise RefusedReleaseError(str(error)) from None
        finally:
            download.discard()
        emit(ReleaseStaged(str(info.version), str(destination.staged_path)))
