"""Starting a onefile program again after its launcher has ended (design.md "Restart", outside systemd).

A onefile is a launcher, which waits for the application and then deletes the unpacked folder, and the application.
The helper is a fork of the application: everything it needs is in its memory already, and it does nothing but system
calls, so it does not care that the folder disappears under it. It waits on a pidfd of the launcher, then executes P,
which is a new launcher in the helper's process: same session, process group, terminal and standard streams, another
process id. A shell that waited for the old launcher has its prompt back.

The helper is made when the application is told to end, since Python 3.12 does not fork any more once it ends, and it
starts the program only if it was told to: should the application be killed meanwhile, the helper just ends. It is no
child of the application, which may be waiting for all of its children.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from typing import NoReturn

from pypatcher.process.ending import exit_now
from pypatcher.process.image import Image

__all__ = ["Helper"]

_PATIENCE = 120.0
"""Seconds to wait for the launcher; one that hangs while it cleans up must not keep the program from running."""

_POLL = 0.05
_GO = b"go"


class Helper:
    """A process that executes ``image`` once ``launcher``, or this process if there is none, has ended.

    Raises:
        OSError: no process can be made.
    """

    def __init__(self, image: Image, launcher: int | None) -> None:
        # A launcher that was killed meanwhile waits for nobody, and its number may be another process's by now.
        awaited = launcher if launcher is not None and launcher == os.getppid() else os.getpid()
        try:
            watch = os.pidfd_open(awaited)
        except OSError:
            watch = -1  # kernels before 5.3, some sandboxes
        reader, self._writer = os.pipe()
        try:
            self.pid = _fork_away(image, awaited, watch, reader)
            if not self.pid:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        except OSError:
            os.close(self._writer)
            raise
        finally:
            os.close(reader)
            if watch >= 0:
                os.close(watch)

    def go(self) -> None:
        """Let it start the program; the caller ends this process next, with ``os._exit``: the launcher waits for it."""
        os.write(self._writer, _GO)


def _fork_away(image: Image, awaited: int, watch: int, reader: int) -> int:
    intermediate = 0
    answer, says = os.pipe()
    with open(answer, "rb") as pipe:  # noqa: PTH123 - a descriptor, not a path
        try:
            # Python 3.12 and newer warn about forks of processes with threads; the copy makes system calls only.
            with contextlib.suppress(DeprecationWarning):
                intermediate = os.fork()
                if intermediate == 0:
                    _become_helper(image, awaited, watch, reader, says)
        finally:
            os.close(says)
        pid = int.from_bytes(pipe.read(4), "little")
    if intermediate:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(intermediate, 0)
    return pid


def _become_helper(image: Image, awaited: int, watch: int, reader: int, says: int) -> NoReturn:
    try:
        image.reset_signals()
        helper = os.fork()
        if helper:
            os.write(says, helper.to_bytes(4, "little"))
        else:
            # Locks and ports of the application must be free when it has ended, not when the helper ends.
            image.close_descriptors(keep=(watch, reader))
            _wait(awaited, watch, reader)
            if os.read(reader, len(_GO)) == _GO:
                image.execute()
    finally:
        exit_now(0)


def _wait(awaited: int, watch: int, reader: int) -> None:
    """Until the application has said go or ended, then until the launcher has ended."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    poll.poll()
    if watch >= 0:
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        poll.poll(_PATIENCE * 1000)
        return
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and _is_running(awaited):
        time.sleep(_POLL)


def _is_running(pid: int) -> bool:
    """Has ``pid`` not ended yet? One that ended and was not waited for (a zombie) has."""
    with contextlib.suppress(OSError):
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            return os.read(descriptor, 512).rpartition(b")")[2].split()[0] != b"Z"
        finally:
            os.close(descriptor)
    return False
