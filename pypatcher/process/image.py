"""Replacing this process by a fresh start of its program: the last few system calls of a restart.

design.md "Restart". Lives here: what the new program must find as at its first start (arguments, environment, working
directory, umask, signals, descriptors) and the exec itself. Not here: when, by whom, and what ran before.

Everything that is needed is prepared by the constructor. After activation the file at P is another one than this
process was loaded from, and importing a module from a zipapp or onefile then fails or reads wrong bytes; so the
functions here import nothing, and whoever calls them has nothing left to import either.

Descriptors: 0, 1 and 2 are kept, and those that systemd passed (``LISTEN_FDS`` meant for this process); the others are
the old process's own affair and are closed by exec, also those that it inherited. Signals: nothing is blocked, and
only what was ignored at the start stays ignored, such as SIGHUP below nohup.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import time
from collections.abc import Mapping
from typing import NoReturn

from pypatcher.process.detection import start_environment
from pypatcher.process.ending import exit_now
from pypatcher.process.packaging import Program

__all__ = ["EXIT_OWN_FAILURE", "Image", "listen_descriptors", "passes"]

EXIT_OWN_FAILURE = 125
"""Exit status when it is us who failed, not the program (as of env, timeout and nohup)."""

_SIG_DFL, _SIG_IGN = 0, 1
_FIRST_LISTEN_FD = 3
_PATIENCE = 600.0
"""Seconds of trying; nothing that could be gone back to runs any more, and most supervisors were not asked for more."""
_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
_PASSING = frozenset({errno.ETXTBSY, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EINTR})


def listen_descriptors(environment: Mapping[str, str], *pids: int | None) -> range:
    """The sockets that systemd passed to one of the processes ``pids``; empty if none, or if meant for another."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID", "") not in [str(pid) for pid in pids] or not (count.isascii() and count.isdigit()):
        return range(0)
    return range(_FIRST_LISTEN_FD, _FIRST_LISTEN_FD + min(int(count[:4]), 1000))


def passes(failure: int) -> bool:
    """Whether an exec that failed with this errno may succeed later: somebody has the program open for writing, or the
    machine is short of something.
    """
    return failure in _PASSING


class Image:
    """The program as it is to be executed, prepared while everything still works."""

    def __init__(self, program: Program) -> None:
        self._path = os.fspath(program.executable)
        self._argv = program.argv
        self._environment = start_environment(program)
        self._origin = program.origin
        self._listen = listen_descriptors(self._environment, os.getpid(), program.launcher)
        self._signals = tuple(int(number) for number in signal.valid_signals())
        # libc's signal() may be called from any thread, signal.signal() only from the main one.
        self._set_disposition = ctypes.CDLL(None).signal
        self._set_disposition.argtypes = (ctypes.c_int, ctypes.c_void_p)
        self._set_disposition.restype = ctypes.c_void_p

    def close_descriptors(self, keep: tuple[int, ...]) -> None:
        """Close all but 0, 1, 2, the sockets from systemd and ``keep``."""
        for number in _open_descriptors():
            if number > 2 and number not in keep and number not in self._listen:
                with contextlib.suppress(OSError):
                    os.close(number)

    def discard(self, number: int) -> None:
        """Forget a signal that is held back; what is ignored cannot be."""
        self._set_disposition(number, _SIG_IGN)

    def reset_signals(self) -> None:
        """Dispositions as at the start, nothing blocked. A stop signal that was held back takes effect here."""
        for number in self._signals:
            self._set_disposition(number, _SIG_IGN if number in self._origin.ignored else _SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def execute(self) -> NoReturn:
        """Become the program, in this process. A failure is said on descriptor 2; one that lasts exits with 125."""
        for number in _open_descriptors():
            if number > 2 and number not in self._listen:
                with contextlib.suppress(OSError):
                    os.set_inheritable(number, False)
        if self._listen:
            self._environment["LISTEN_PID"] = str(os.getpid())
        if self._origin.umask is not None:
            os.umask(self._origin.umask)
        if self._origin.directory is not None:
            with contextlib.suppress(OSError):
                os.chdir(self._origin.directory)
        self.reset_signals()
        deadline, pause, message = time.monotonic() + _PATIENCE, _PAUSE, ""
        while True:
            try:
                os.execve(self._path, self._argv, self._environment)  # noqa: S606 - no shell is the point
            except OSError as error:
                again = passes(error.errno or 0) and time.monotonic() < deadline
                before, message = message, f"pypatcher: cannot start {self._path} again: {error.strerror}\n"
                if message != before:
                    with contextlib.suppress(OSError):
                        os.write(2, message.encode(errors="replace"))
                if not again:
                    exit_now(EXIT_OWN_FAILURE)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _open_descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - no pathlib, as above
    except OSError:
        return list(range(3, 1024))
