"""Fails one point of a running part, once: an await, a callback of the event loop, or a call of the system.

Nobody lists the points: they are what the part reaches. Everything that a context started under ``Injector.watching``
does, in its tasks, callbacks and timers, is under test; what runs beside it in the same loop is left alone.

- An **await** fails as if what is awaited had raised. Its name is the chain of our functions that wait there. Who waits
  for tasks only (a task group's end, ``asyncio.wait``) is passed over: what fails there are the tasks.
- A **callback** is one of ours that the loop calls: a reader, a timer, what a thread hands over. It fails before its
  first line.
- A **call** is one of a method of a socket, a function of ``os`` or ``fcntl``, or the start of a thread.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import functools
import json
import os
import random
import resource
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pypatcher
from pypatcher.errors import PatcherError
from tests.support.virtual_time import VirtualLoop

__all__ = ["FailingLoop", "FailingTasks", "Failure", "Injector", "Live", "fail_calls", "report", "sweep"]

_PACKAGE = str(Path(pypatcher.__file__).parent) + os.sep
_ASYNCIO = str(Path(asyncio.__file__).parent) + os.sep
_FRAMES = 3
_watched: ContextVar[Injector | None] = ContextVar("watched", default=None)
_everywhere: Injector | None = None

_SOCKET = ("bind", "setsockopt", "sendto", "sendmsg", "recvmsg", "recvfrom", "connect", "getsockname")
_OS = (
    "open", "close", "read", "pread", "write", "fsync", "rename", "link", "unlink", "mkdir", "stat", "fstat",
    "fchmod", "fchown", "listdir", "scandir", "statvfs", "getxattr", "listxattr", "readlink", "execve", "fork",
    "waitid", "waitpid", "kill", "pipe", "pwrite", "copy_file_range", "ftruncate", "dup",
)  # fmt: skip
_ERRORS = {
    "socket": errno.ENFILE,
    "bind": errno.EADDRNOTAVAIL,
    "setsockopt": errno.ENOBUFS,
    "connect": errno.ENETUNREACH,
    "flock": errno.ENOLCK,
    "open": errno.ENFILE,
    "pipe": errno.EMFILE,
    "fork": errno.EAGAIN,
    "getsockname": errno.ENOBUFS,
    "sendto": errno.ENOBUFS,
    "sendmsg": errno.ENOBUFS,
    "recvmsg": errno.ENOMEM,
    "recvfrom": errno.ENOMEM,
}


_FAILS: dict[str, Callable[[], Exception]] = {
    "OSError": lambda: OSError(errno.EIO, "this once"),
    "PatcherError": lambda: PatcherError("this once"),
    "ValueError": lambda: ValueError("this once"),
}
_CLEAN = 12
"""Lives without a failure: what all of them do regularly, none does by chance."""
_CLEAN_IF_NOTHING_IS_REGULAR = 3
"""The same where only what a life complains of counts."""
_AT_ONCE = 2
_AGAIN = 4
"""Lives more that miss the same, before that is a fault: some points are reached only when two things coincide."""
_MOST_CPU = 300
"""Seconds of processor for one life, which takes a few."""


@dataclass(frozen=True)
class Failure:
    """Where to fail a life: at which point, at which time (counted from 1), by what."""

    point: str
    occurrence: int
    error: str

    def __str__(self) -> str:
        return f"{self.error} at {self.point} (time {self.occurrence})"


Live = Callable[[Failure | None, int], dict[str, Any]]


class Injector:
    """Counts the points that are reached, and fails at one of them.

    Args:
        clock: for when each was reached.
        failure: where to fail; None nowhere. A call fails as calls do, whatever its error.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        failure: Failure | None = None,
    ) -> None:
        self.seen: dict[str, list[float]] = {}
        self.failed: float | None = None
        self._clock = clock
        self._failure = failure

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what the block starts."""
        token = _watched.set(self)
        try:
            yield
        finally:
            _watched.reset(token)

    def reached(self, point: str) -> bool:
        """Whether to fail there now."""
        times = self.seen.setdefault(point, [])
        times.append(self._clock())
        failure = self._failure
        if failure is None or (point, len(times)) != (failure.point, failure.occurrence):
            return False
        self.failed = self._clock()
        return True

    def everywhere(self) -> None:
        """Watch whatever this process does from now on, in every thread."""
        global _everywhere  # noqa: PLW0603
        _everywhere = self

    def nowhere(self) -> None:
        """Watch no more."""
        global _everywhere  # noqa: PLW0603
        _everywhere = None

    def error(self) -> Exception:
        """What is raised at an await or in a callback."""
        assert self._failure is not None
        return _FAILS[self._failure.error]()


def _current() -> Injector | None:
    return _watched.get() or _everywhere


class FailingTasks(asyncio.SelectorEventLoop):
    """A loop whose tasks and callbacks can be failed."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.set_task_factory(_make_task)

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        return super().call_soon(_guarded(callback), *args, context=context)

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        return super().call_soon_threadsafe(_guarded(callback), *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return super().call_at(when, _guarded(callback), *args, context=context)

    def _add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        return super()._add_reader(fd, _guarded(callback), *args)  # type: ignore[misc]

    def _add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        return super()._add_writer(fd, _guarded(callback), *args)  # type: ignore[misc]


class FailingLoop(FailingTasks, VirtualLoop):
    """The same on virtual time."""


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    injector = _current()
    if injector is not None and asyncio.iscoroutine(coroutine):
        coroutine = _Watched(coroutine, injector)
    return asyncio.Task(coroutine, loop=loop, **options)


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that fails where it waits, if it is told to."""

    def __init__(self, inner: Any, injector: Injector) -> None:
        self._inner = inner
        self._injector = injector
        self.__qualname__ = getattr(inner, "__qualname__", "?")
        self.__name__ = getattr(inner, "__name__", "?")

    def send(self, value: Any) -> Any:
        return self._suspended(self._inner.send(value))

    def throw(self, *error: Any) -> Any:
        return self._suspended(self._inner.throw(*error))

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError("a task drives it")

    @property
    def cr_frame(self) -> Any:
        return getattr(self._inner, "cr_frame", None)

    @property
    def cr_await(self) -> Any:
        return getattr(self._inner, "cr_await", None)

    @property
    def cr_code(self) -> Any:
        return getattr(self._inner, "cr_code", None)

    @property
    def cr_running(self) -> bool:
        return bool(getattr(self._inner, "cr_running", False))

    def _suspended(self, awaited: Any) -> Any:
        while (point := _await_point(self._inner)) is not None and self._injector.reached(point):
            awaited = self._inner.throw(self._injector.error())
        return awaited


def _await_point(coroutine: Any) -> str | None:
    """Our functions that wait, the innermost first; None where they wait for tasks, or none of ours waits."""
    ours: list[str] = []
    innermost: Any = None
    current = coroutine
    while current is not None:
        frame = next(
            (found for name in ("cr_frame", "gi_frame", "ag_frame") if (found := getattr(current, name, None))), None
        )
        if frame is None and type(current).__name__.startswith("async_generator"):
            return None  # into or out of a context manager of ours: what it waits for are tasks
        if frame is not None:
            innermost = frame
            if frame.f_code.co_filename.startswith(_PACKAGE):
                ours.append(_place(frame))
        current = next(
            (found for name in ("cr_await", "gi_yieldfrom", "ag_await") if (found := getattr(current, name, None))),
            None,
        )
    if not ours or innermost is None or _waits_for_tasks(innermost):
        return None
    return "await " + " < ".join(reversed(ours[-_FRAMES:]))


def _waits_for_tasks(frame: FrameType) -> bool:
    code = frame.f_code
    return code.co_filename.startswith(_ASYNCIO) and (
        code.co_filename.endswith("taskgroups.py")
        or (code.co_name in ("_wait", "wait") and code.co_filename.endswith("tasks.py"))
    )


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename.removeprefix(_PACKAGE)}:{frame.f_lineno} {frame.f_code.co_name}"


def _guarded(callback: Callable[..., Any]) -> Callable[..., Any]:
    function = callback
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", None) or ""
    if not module.startswith("pypatcher"):
        return callback
    point = f"callback {module.removeprefix('pypatcher.')}.{getattr(function, '__qualname__', '?')}"

    def call(*arguments: Any) -> Any:
        injector = _current()
        if injector is not None and injector.reached(point):
            raise injector.error()
        return callback(*arguments)

    return call


@contextmanager
def fail_calls() -> Iterator[None]:
    """Let calls of the system fail too, until the end of the block."""
    restore: list[tuple[Any, str, Any]] = []

    def replace(owner: Any, name: str, new: Any) -> None:
        restore.append((owner, name, owner.__dict__.get(name)))
        setattr(owner, name, new)

    for name in _SOCKET:
        replace(socket.socket, name, _failing(name, getattr(socket.socket, name)))
    replace(socket.socket, "__init__", _failing("socket", socket.socket.__init__))
    replace(fcntl, "ioctl", _failing("ioctl", fcntl.ioctl))
    for name in _OS:
        replace(os, name, _failing(name, getattr(os, name)))
    replace(fcntl, "flock", _failing("flock", fcntl.flock))
    replace(threading.Thread, "start", _failing("thread", threading.Thread.start))
    try:
        yield
    finally:
        for owner, name, old in reversed(restore):
            if old is None:
                delattr(owner, name)
            else:
                setattr(owner, name, old)


def _failing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        injector = _current()
        if injector is not None and (caller := _caller()) is not None and injector.reached(f"{name} {caller}"):
            if name == "close":
                real(*arguments, **keywords)  # Linux closes even so
            if name == "thread":
                raise RuntimeError("can't start new thread")
            number = _ERRORS.get(name, errno.EIO)
            raise OSError(number, os.strerror(number))
        return real(*arguments, **keywords)

    return call


def _caller() -> str | None:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PACKAGE):
            return _place(frame)
        if name.startswith(_ASYNCIO):
            return None
        frame = frame.f_back
    return None


def _live_in_child(live: Live, failure: Failure | None, seed: int) -> tuple[int, Path]:
    """One life in a process of its own; its pid, and where it says what came of it."""
    descriptor, name = tempfile.mkstemp()
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid, Path(name)
    status = 1
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_CPU, _MOST_CPU))  # who cannot be ended ends even so
    try:
        os.dup2(os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        with os.fdopen(descriptor, "w") as file:
            json.dump(live(failure, seed), file)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _end_of(pid: int, path: Path) -> dict[str, Any]:
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    log = path.with_name(f"{path.name}.log")
    try:
        said = log.read_text()[-4000:]
        if status:
            return {"complaint": f"ended with {status}", "seen": {}, "failed": None, "end": 0.0, "log": said}
        return {**json.loads(path.read_bytes()), "log": said}
    finally:
        path.unlink()
        log.unlink()


def _regular(life: dict[str, Any], stretch: float) -> set[str]:
    """What it did in each of its last two stretches."""
    ends = (life["end"], life["end"] - stretch)
    return {
        point
        for point, times in life["seen"].items()
        if all(any(end - stretch < time <= end for time in times) for end in ends)
    }


def sweep(live: Live, sample: int | None, seed: int, stretch: float) -> Iterator[str]:
    """Fail lives, each at another point, and say what is wrong with any of them.

    Args:
        live: one life; what it says is ``complaint``, ``seen`` and ``failed`` of its injector, and its ``end``.
        stretch: seconds in which whatever is done regularly is done once at least; 0 where nothing is.
        sample: how many points, by chance; None is each of them, with every error and twice: at its first time, and at
            a later one.
    """
    clean = _CLEAN if stretch else _CLEAN_IF_NOTHING_IS_REGULAR
    lives = [_end_of(*_live_in_child(live, None, number)) for number in range(1, 1 + clean)]
    if trouble := [f"{life['complaint']}\n{life['log']}" for life in lives if life["complaint"]]:
        yield from trouble
        return
    regular = set.intersection(*(_regular(life, stretch) for life in lives))
    failures = sorted(
        _failures(lives, seed, stretch), key=lambda one: _chance(seed, one.point, one.error, one.occurrence == 1)
    )
    failures = failures[:sample]
    print(f"{len(failures)} failures of {len(lives[0]['seen'])} points; {len(regular)} are reached again and again")
    running: list[tuple[Failure, tuple[int, Path]]] = []
    for failure in [*failures, None, None]:
        if len(running) == _AT_ONCE or (failure is None and running):
            done, child = running.pop(0)
            wrong = _wrong(_end_of(*child), regular, stretch)
            for again in range(1, 1 + _AGAIN):
                if wrong:  # what comes by chance may stay away by chance, but not each time
                    wrong &= _wrong(_end_of(*_live_in_child(live, done, seed + again)), regular, stretch)
            if wrong:
                yield f"{done}: {'; '.join(sorted(wrong))}"
        if failure is not None:
            running.append((failure, _live_in_child(live, failure, seed)))


def _failures(lives: list[dict[str, Any]], seed: int, stretch: float) -> Iterator[Failure]:
    """Of points that every clean life reaches, so that they are reached, before its last two stretches.

    Those show what is regular, so they lie as far behind what a life begins with as the end of one that failed.
    """
    early = [
        {point: sum(time <= life["end"] - 2 * stretch for time in times) for point, times in life["seen"].items()}
        for life in lives
    ]
    for point in sorted(set.intersection(*(set(counts) for counts in early))):
        if not (often := min(counts[point] for counts in early)):
            continue
        for occurrence in {1, 1 + int(often * _chance(seed, point))}:
            for error in _FAILS if point.startswith(("await", "callback")) else ("OSError",):
                yield Failure(point, occurrence, error)


def _chance(seed: int, *name: object) -> float:
    """The same for that name whatever else there is: a sample is the same each time, though a life seldom is."""
    return random.Random(f"{seed} {name}").random()


def _wrong(life: dict[str, Any], regular: set[str], stretch: float) -> set[str]:
    """What does not go on after the failure."""
    if not life["complaint"] and (life["failed"] is None or life["failed"] >= life["end"]):
        return set()  # by chance this life did not come there so often, or only when it was told to end
    since = max(life["failed"] or 0.0, life["end"] - 2 * stretch)
    missing = {point for point in regular if not any(time > since for time in life["seen"].get(point, ()))}
    return missing | ({life["complaint"]} if life["complaint"] else set())


def report(complaints: Iterator[str]) -> int:
    """Print what is wrong; an exit status."""
    wrong = 0
    for complaint in complaints:
        wrong += 1
        print(complaint, flush=True)
    return 1 if wrong else 0
