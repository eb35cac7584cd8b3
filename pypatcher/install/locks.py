"""The flocks ``lock`` and ``updater`` of an installation (install.md "Processes"); the third one is in ``instances``.

``lock`` is held for one transaction, ``updater`` for life by the one process that fetches and activates. Neither blocks
a program's start for ever: a transaction that cannot get its lock is given up. A forked child holds on to none of them.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from pypatcher.errors import CannotReplaceError
from pypatcher.install.files import Files
from pypatcher.install.layout import Entry, Layout

__all__ = ["SharedHold", "hold_lock", "transaction"]

_PATIENCE = 60.0
_PAUSE = 0.05
_not_for_children: weakref.WeakSet[_Held] = weakref.WeakSet()


class _Held:
    """A descriptor with a flock that this process holds and its forks do not."""

    def __init__(self, descriptor: int, close: Callable[[int], None]) -> None:
        self._descriptor: int | None = descriptor
        self._close = close
        _not_for_children.add(self)

    def release(self) -> None:
        """Give the lock up, once."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._close(descriptor)


def _release_in_child() -> None:
    for held in list(_not_for_children):
        held.release()


os.register_at_fork(after_in_child=_release_in_child)


@contextmanager
def hold_lock(files: Files, entry: Entry) -> Iterator[bool]:
    """Hold a flock; yields False where somebody else has it."""
    descriptor = files.lock(entry)
    if descriptor is None:
        yield False
        return
    held = _Held(descriptor, files.close)
    try:
        yield True
    finally:
        held.release()


class SharedHold:
    """A lock that several parts of one process hold together: from the first that asks until the last has left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._held = ExitStack()

    @contextmanager
    def joined(self, hold: Callable[[], AbstractContextManager[bool]]) -> Iterator[bool]:
        """Hold it during the block; yields False where ``hold`` does."""
        with self._lock:
            mine = self._users > 0 or self._held.enter_context(hold())
            if not mine:
                self._held.close()
            self._users += mine
        try:
            yield mine
        finally:
            with self._lock:
                self._users -= mine
                if not self._users:
                    self._held.close()


@contextmanager
def transaction(
    files: Files, layout: Layout, *, patience: float = _PATIENCE, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Hold ``lock``, waiting for it ``patience`` seconds at most.

    Raises:
        CannotReplaceError: another process did not let go of it.
    """
    deadline = clock() + patience
    while True:
        with hold_lock(files, layout.lock) as mine:
            if mine:
                yield
                return
        if clock() >= deadline:
            raise CannotReplaceError(f"{layout.path(layout.lock)} was held by another process for {patience:.0f} s")
        time.sleep(_PAUSE)
