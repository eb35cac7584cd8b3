"""Makes sure that nobody has a finished program file open for writing: else it cannot be executed (ETXTBSY).

A child that Python forks closes what we write (``files``). A child that C code forks without exec does not, and has
our descriptors for as long as it lives. So after the last write a lease (fcntl(2)) tells whether somebody has the file
open for writing. If so, or if no lease can be had, a copy takes its place, written by a short-lived process of ours
from which nothing forks. Not here: when a file is finished (``staging``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
import warnings
from collections.abc import Callable

__all__ = ["copy_apart", "is_written"]

_PATIENCE = 1.0
"""Seconds for processes between their fork and their exec, which closes what they hold."""
_PAUSE = 0.02
_CHUNK = 1 << 20
_ERRNO_SIZE = 4


def is_written(fd: int) -> bool:
    """Whether somebody has the file, which ``fd`` has open for reading, open for writing; True if nobody can tell."""
    deadline = time.monotonic() + _PATIENCE
    with contextlib.suppress(OSError):
        # Should somebody open it meanwhile, the kernel says so by a signal; SIGIO would end us.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        while True:
            try:
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return True
                time.sleep(_PAUSE)
            else:
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                return False
    return True


def copy_apart(source: int, create: Callable[[], int]) -> None:
    """Copy an open file, in a process of its own, to what ``create`` opens there.

    Raises:
        OSError: it could not be copied.
    """
    reader, writer = os.pipe()
    try:
        # A signal to the copy of this process must not run its handlers.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # system calls only, see below
                pid = os.fork()
            if pid == 0:
                _copy_and_exit(source, create, writer)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with contextlib.suppress(ChildProcessError):  # the application waits for all children
            os.waitpid(pid, 0)
        # Not until its end: whoever was forked meanwhile holds this pipe too.
        os.set_blocking(reader, False)
        try:
            failure = int.from_bytes(os.read(reader, _ERRNO_SIZE), "little")
        except BlockingIOError:
            failure = errno.EIO  # it was killed
    finally:
        os.close(reader)
        os.close(writer)
    if failure:
        raise OSError(failure, os.strerror(failure))


def _copy_and_exit(source: int, create: Callable[[], int], writer: int) -> None:
    """In the child; system calls only: other threads may have held any lock when this process was copied."""
    failure = errno.EIO
    try:
        target, offset = create(), 0
        while chunk := os.pread(source, _CHUNK, offset):
            offset += os.write(target, chunk)
        failure = 0
    except OSError as error:
        failure = error.errno or errno.EIO
    finally:
        os.write(writer, failure.to_bytes(_ERRNO_SIZE, "little"))
        os._exit(0)
