"""Which signals the threads of ours block, and what is called in one of them for the application.

A stop is for the application, some of whose threads may wait for it: ours block every signal. Whoever is started from a
thread blocks what that thread does, and would hear no stop for as long as it lives. Not here: handlers (``ending``).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["as_main_blocks", "block_signals"]

_own = threading.local()


def block_signals() -> None:
    """Called in each thread of ours."""
    _own.blocks = True
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@contextmanager
def as_main_blocks() -> Iterator[None]:
    """For a callback of the application: what it starts in a thread of ours blocks what the main thread does now."""
    if not getattr(_own, "blocks", False):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_SETMASK, _main_mask())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _main_mask() -> set[int]:
    """Of the thread that gives the process its number (proc_pid_status(5)); nothing where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        blocked = int(status.split("SigBlk:")[1].split()[0], 16)
    except (OSError, LookupError, ValueError):
        return set()
    return {number for number in signal.valid_signals() if blocked >> (number - 1) & 1}
