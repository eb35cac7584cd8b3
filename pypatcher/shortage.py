"""Tries again what failed because the system lacked descriptors, memory or a thread for a moment.

Not here: what to do when it fails for longer.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["is_shortage", "persisting", "start_thread"]

_log = logging.getLogger("pypatcher")
_Result = TypeVar("_Result")
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR}
_PAUSES = (0.01, 0.1)


def is_shortage(error: OSError) -> bool:
    """Whether the system lacks descriptors, memory or time: that says nothing about a file, and passes."""
    return error.errno in _SHORTAGES


def persisting(work: Callable[[], _Result]) -> _Result:
    """Do it, once more if the operating system fails.

    Raises:
        OSError: it failed twice.
    """
    try:
        return work()
    except OSError as error:
        _log.debug("tried again: %s", error)
        return work()


def start_thread(target: Callable[[], object], name: str, *, daemon: bool = True) -> threading.Thread:
    """Start a thread; three tries within a ninth of a second.

    Raises:
        RuntimeError: there is no room for one, or the interpreter ends.
    """
    thread = threading.Thread(target=target, name=name, daemon=daemon)
    for pause in _PAUSES:
        try:
            thread.start()
        except RuntimeError:
            time.sleep(pause)
        else:
            return thread
    thread.start()
    return thread
