"""Starting a onefile program again after its launcher has ended (DESIGN "Restart", outside systemd).

A onefile is a launcher, which waits for the application and then deletes the unpacked folder, and the application.
The helper is a fork of the application made at its very end: everything it needs is in its memory already, and it
does nothing but system calls, so it does not care that the folder disappears under it. It waits on a pidfd of the
launcher, then executes P, which is a new launcher in the helper's process: same session, process group, terminal and
standard streams, another process id. A shell that waited for the old launcher has its prompt back.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import NoReturn

from pypatcher.process.image import EXIT_OWN_FAILURE, Image

__all__ = ["hand_over"]

_PATIENCE = 120.0
"""Seconds to wait for the launcher; one that hangs while it cleans up must not keep the program from running."""

_POLL = 0.05


def hand_over(image: Image, launcher: int | None) -> None:
    """Leave a helper behind that executes ``image`` once ``launcher``, or this process if there is none, has ended.

    The caller then ends this process at once with ``os._exit``: the launcher waits for that.

    Raises:
        OSError: no process can be made; nothing was changed.
    """
    # A launcher that was killed meanwhile waits for nobody, and its number may be another process's by now.
    awaited = launcher if launcher is not None and launcher == os.getppid() else os.getpid()
    try:
        watch = os.pidfd_open(awaited)
    except OSError:
        watch = -1  # kernels before 5.3, some sandboxes; or it is gone already, which the wait finds out
    if os.fork() == 0:
        _helper(image, awaited, watch)
    if watch >= 0:
        os.close(watch)


def _helper(image: Image, awaited: int, watch: int) -> NoReturn:
    try:
        # Locks and ports of the old process must be free when it has ended, not when the helper ends.
        image.close_descriptors(keep=watch)
        image.reset_signals()
        _wait(awaited, watch)
        image.execute()
    finally:
        os._exit(EXIT_OWN_FAILURE)


def _wait(awaited: int, watch: int) -> None:
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
