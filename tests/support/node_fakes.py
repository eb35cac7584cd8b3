"""What stands beside a part of the node in its unit tests: an installation in memory, and a loop on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from pypatcher.artifact import PatchInfo
from pypatcher.errors import CannotReplaceError, NotNewerError, PatcherError
from pypatcher.events import Event
from pypatcher.install.layout import Layout
from pypatcher.version import Version
from tests.support.virtual_time import run_virtual

__all__ = ["EventLog", "FakeInstallation", "run_alone"]

_T = TypeVar("_T")


class Inline(ThreadPoolExecutor):
    """Does at once, and in the loop's thread, what would go to a thread: virtual time stands still meanwhile."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **keywords))
        except Exception as error:
            future.set_exception(error)
        return future


def run_alone(body: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on virtual time, threads included."""

    async def main() -> _T:
        asyncio.get_running_loop().set_default_executor(Inline())
        return await body

    return run_virtual(main())


class EventLog(list[Event]):
    """Events, and the virtual seconds at which they were said."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def __call__(self, event: Event) -> None:
        self.append(event)
        self.times.append(asyncio.get_running_loop().time())

    def names(self) -> list[str]:
        """Their names, in order."""
        return [event.name for event in self]


@dataclass
class FakeInstallation:
    """A program at version 1.0.0 and what was staged beside it; each error is raised as long as it is set."""

    layout: Layout
    version: Version = field(default_factory=lambda: Version(1, 0, 0))
    preflight_error: PatcherError | None = None
    room: int | None = None
    partial_error: Exception | None = None
    stage_error: Exception | None = None
    refused_files: set[bytes] = field(default_factory=set)
    trial: object | None = None
    staged: list[PatchInfo] = field(default_factory=list)
    partials: int = 0
    left: int = 0
    together: object | None = None

    @property
    def staged_path(self) -> Path:
        return self.layout.path(self.layout.staged)

    def preflight(self, size: int, *, allow_volatile: bool) -> None:
        if self.preflight_error is not None:
            raise self.preflight_error
        if self.room is not None and size > self.room:
            raise CannotReplaceError("no room")

    def check_wanted(self, version: Version, sha512: bytes = b"") -> None:
        from pypatcher.errors import RefusedReleaseError

        if sha512 in self.refused_files:
            raise RefusedReleaseError(f"version {version} failed here before")
        if version <= max([self.version, *(info.version for info in self.staged)]):
            raise NotNewerError(f"{version} is not newer")

    def new_partial(self, info: PatchInfo | None = None) -> Any:
        if self.partial_error is not None:
            raise self.partial_error
        self.partials += 1
        return _Partial(self)

    def stage(self, partial: _Partial, expect: PatchInfo, said: Callable[[], object]) -> PatchInfo:
        if self.stage_error is not None:
            raise self.stage_error
        self.staged.append(expect)
        said()
        return expect

    def staged_release(self) -> Any:
        return SimpleNamespace(info=self.staged[-1]) if self.staged else None

    def on_trial(self) -> bool:
        return self.trial is not None

    def release_for_restart(self) -> Any:
        return None if self.trial is not None else self.staged_release()


class _Partial:
    def __init__(self, installation: FakeInstallation) -> None:
        self._installation = installation
        self._open = True
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data

    def cut(self, size: int) -> None:
        del self.data[size:]

    def leave(self) -> None:
        self._installation.left += self._open
        self.discard()

    def discard(self) -> None:
        if self._open:
            self._open = False
            self._installation.partials -= 1
