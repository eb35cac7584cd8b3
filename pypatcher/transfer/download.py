"""One release from one peer to where it belongs: a download, its progress, and staging.

Nothing here chooses or judges: whom to ask and what a failure means is the updater's business, what is wanted and
whether the bytes are it the destination's.
"""

from __future__ import annotations

import asyncio
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
from pypatcher.transfer.hedging import Runner
from pypatcher.version import Version

__all__ = ["Delivery", "Destination", "Fetch"]

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
    """Fetches one release from one candidate, handing its bytes to ``write`` and their count to ``progress``.

    Raises:
        PeerError, ArtifactError: the peer did not deliver what it announced.
    """

    def __call__(
        self, candidate: Candidate, write: Callable[[bytes], None], progress: Callable[[int], None]
    ) -> Awaitable[PatchInfo]: ...


class Delivery:
    """A fetch from one candidate, and why it was stopped, if it was.

    Attributes:
        candidate: who is asked for what.
        received: bytes so far.
        stopped: why another one was preferred; empty if none was.
    """

    def __init__(self, candidate: Candidate, fetch: Fetch, runner: Runner) -> None:
        self.candidate = candidate
        self.received = 0
        self.stopped = ""
        self.task: asyncio.Task[None] | None = None
        self._fetch = fetch
        self._runner = runner

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
        info, peer = self.candidate.info, format_address(self.candidate.address)
        version, size, said = str(info.version), info.file_size, clock()
        download = await in_thread(destination.new_partial, undo=lambda unused: unused.discard())

        def progress(count: int) -> None:
            nonlocal said
            if self.received == 0:
                emit(FetchStarted(version, peer, size, self.candidate.source))
            self.received = count
            self._runner.progressed(count, clock())
            if count == size or clock() - said >= _PROGRESS_INTERVAL:
                said = clock()
                emit(FetchProgress(version, peer, count, size))

        try:
            await self._fetch(self.candidate, download.write, progress)
            await in_thread(partial(destination.stage, download, info))
        except WrongTargetError as error:
            # Its hash and the owner's signature were good: the file itself is for another machine, whoever sends it.
            raise RefusedReleaseError(str(error)) from None
        finally:
            download.discard()
        emit(ReleaseStaged(version, str(destination.staged_path)))
