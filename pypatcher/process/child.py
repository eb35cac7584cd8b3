"""One start of another program as our child: fork, exec, wait, and ending like it (design.md "`run`").

Lives here: system calls on one process. Not here: signals to pass on, what to do when it ends (supervisor).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import datetime
import logging
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn

from pypatcher.process.detection import application_of, start_environment
from pypatcher.process.image import EXIT_OWN_FAILURE, listen_descriptors, passes
from pypatcher.process.packaging import Program
from pypatcher.shortage import persisting, start_thread
from pypatcher.waiting import wait_at_most

__all__ = ["EXIT_CANNOT_EXECUTE", "EXIT_NOT_FOUND", "Child", "end_like", "how_it_ended", "is_foreground", "start_child"]

EXIT_CANNOT_EXECUTE = 126
EXIT_NOT_FOUND = 127
"""What a program that could not be executed ends with, as of env, nohup, timeout and every shell."""

_PR_SET_PDEATHSIG = 1
_SIGNAL_STATUS = 128
_LOOK_AT_CHILD = 0.2
_START_PAUSES = (0.1, 0.3, 1.0, 3.0, *[5.0] * 24)
"""Seconds between tries: two minutes in all."""
_log = logging.getLogger("pypatcher")


class Child:
    """A running program. ``wait`` and ``reap`` are apart so that its process id stays ours until nobody needs it."""

    def __init__(self, pid: int, failure: int) -> None:
        self.pid = pid
        self.failure = failure
        """errno of the exec that failed, 0 if the program runs."""
        self.returncode: int | None = None
        """Exit status, or minus the signal that ended it; None before ``reap``."""
        self._told_application = 0

    def wait(self) -> None:
        """Block until it has ended; may be called in any thread."""
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def has_ended(self) -> bool:
        """Whether it has; does not wait."""
        try:
            return persisting(partial(os.waitid, os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is not None
        except ChildProcessError:
            return True

    def reap(self) -> int:
        """Collect how it ended."""
        if self.returncode is None:
            try:
                self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            except ChildProcessError:
                self.returncode = EXIT_OWN_FAILURE  # somebody else collected it
            if self._told_application and self.returncode == _SIGNAL_STATUS + self._told_application:
                self.returncode = -self._told_application  # as the launcher says it
        return self.returncode

    def send(self, number: int) -> None:
        """Send it a signal, unless it was reaped, or has become another user's; see `application_of`."""
        if self.returncode is None:
            pid = self.pid if number == signal.SIGKILL else application_of(self.pid)
            self._told_application = number if pid != self.pid else self._told_application
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def how_it_ended(returncode: int, seconds: float | None, now: float) -> str:
    """For people: exit status or signal, after how long, and when (unix time)."""
    name = f"exit status {returncode}"
    if returncode < 0:
        known = returncode in {-int(number) for number in signal.valid_signals()}
        name = (
            f"signal {signal.Signals(-returncode).name}"
            if known and -returncode < signal.SIGRTMIN
            else (f"signal {-returncode}")
        )
    after = "" if seconds is None else f" after {seconds:.0f} s"
    return f"{name}{after}, {datetime.datetime.fromtimestamp(now, datetime.UTC).isoformat(timespec='seconds')}"


def start_child(program: Program, added: Mapping[str, str], removed: frozenset[str]) -> Child:
    """Start ``program``; it gets SIGTERM should the calling thread end, so call this from the main thread.

    It has our process group and terminal and the descriptors that we were started with, the sockets from systemd among
    them, but none that we opened (they close at exec). Its signals are as ours were at the start, nothing is blocked.

    Raises:
        OSError: no process can be made.
    """
    path, argv = os.fspath(program.executable), program.argv
    environment = {name: value for name, value in start_environment(program).items() if name not in removed} | dict(
        added
    )
    own_pid = os.getpid()
    listen = listen_descriptors(environment, own_pid)
    libc = ctypes.CDLL(None)
    ignored = program.origin.ignored
    numbers = tuple(int(number) for number in signal.valid_signals())
    reader, writer = os.pipe()
    # A signal to the copy must not run our handlers there, which share the event loop's wake-up socket with us.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # see below: system calls only
            pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    finally:
        if os.getpid() == own_pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if pid == 0:
        # Only system calls from here on: other threads may have held any lock when this process was copied.
        status = EXIT_OWN_FAILURE
        try:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != own_pid:  # it ended before prctl, so there will be no signal
                os._exit(EXIT_OWN_FAILURE)
            for number in numbers:
                libc.signal(number, ctypes.c_void_p(1 if number in ignored else 0))
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            for number in listen:
                os.set_inheritable(number, True)
            if listen:
                environment["LISTEN_PID"] = str(os.getpid())
            os.execve(path, argv, environment)  # noqa: S606 - no shell is the point
        except OSError as error:
            status = EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else EXIT_CANNOT_EXECUTE
            os.write(writer, (error.errno or 0).to_bytes(4, "little"))
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123 - a descriptor, not a path
        failure = pipe.read(4)
    return Child(pid, int.from_bytes(failure, "little"))


async def persist_in_starting(start: Callable[[], Child], stopped: asyncio.Event) -> Child:
    """``start_child``, as often as it takes for a machine that is short of something, or a program that is busy.

    Args:
        stopped: a stop is asked for; there is one try more, and no pause.

    Raises:
        OSError: no process could be made for two minutes.
    """
    for pause in _START_PAUSES:
        try:
            child = start()
        except OSError as error:
            _log.warning("no process can be made, which is tried again: %s", error.strerror)
        else:
            if not passes(child.failure):
                return child
            child.reap()
            _log.warning("the program cannot be executed yet, which is tried again: %s", os.strerror(child.failure))
        with contextlib.suppress(OSError):  # a wait that fails is a short one
            await wait_at_most(stopped, pause)
        if stopped.is_set():
            break
    return start()


async def wait_for_end(child: Child) -> None:
    """In a thread, or by looking now and then where there can be none, or it failed."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        with contextlib.suppress(OSError):
            child.wait()
        with contextlib.suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(ended.set)

    with contextlib.suppress(RuntimeError):
        start_thread(wait, "pypatcher-wait")
        await ended.wait()
    while not child.has_ended():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(_LOOK_AT_CHILD)


def end_like(returncode: int) -> NoReturn:
    """End this process as its program did: the same exit status, or by the same signal. Runs no atexit handlers."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if returncode >= 0:
        os._exit(returncode)
    number = -returncode
    with contextlib.suppress(OSError, ValueError):
        # The program's core is the one of interest.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError, ValueError):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
        os.kill(os.getpid(), number)
    # Process 1 of a container cannot end by a signal of its own.
    os._exit(_SIGNAL_STATUS + number)


def is_foreground() -> bool:
    """Is our process group the one that a terminal's keys send signals to?"""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
