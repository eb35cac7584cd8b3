"""The processes that run from one program, and how several instances of it end together (install.md "Instances").

Every process that runs from `P` shares the flock ``instances``, the children of the program too; whoever changes `P`
holds it alone. An instance, a process with a node of its own, also *marks* a byte of that file by a record lock, which
no fork inherits and which ends with the process: by that the instances know each other. A second mark says that it is
ready to restart. Not here: what happens to `P` when all have ended (``reconcile``).
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from pypatcher.errors import PatcherError
from pypatcher.install.files import Files
from pypatcher.install.layout import Layout
from pypatcher.install.state_folder import OpenFolders, StateFolder
from pypatcher.process.children import descendants
from pypatcher.process.lock_holders import seen_marks

__all__ = ["Instance", "Instances", "Together", "seen_instances"]

_READY = 1 << 40
"""Marks below it are instances; so much higher, each has its mark of being ready."""

_PATIENCE = 60.0
_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Instance:
    """Another instance of the program: its process id, 0 where it cannot be seen, and whether it is ready to end."""

    pid: int
    ready: bool


class Instances:
    """This process's part of ``instances``: nothing, shared, or alone for as long as `P` changes."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._descriptor: int | None = None
        self._mark = 0
        self._marked_by = 0

    def alone(self, files: Files) -> bool:
        """Whether no other process holds it; from now on none can before `share` or `release`."""
        descriptor = files.lock(self._layout.instances, held=self._descriptor)
        if descriptor is None:
            return False
        self._descriptor = descriptor
        return True

    def share(self, files: Files) -> None:
        """Run from `P` from now on."""
        self._descriptor = files.lock(self._layout.instances, shared=True, held=self._descriptor)

    def release(self, files: Files) -> None:
        """Run from `P` no more; the marks go with it."""
        descriptor, self._descriptor = self._descriptor, None
        self._marked_by = 0
        if descriptor is not None:
            files.close(descriptor)

    def mark(self, files: Files) -> None:
        """Be an instance, from now on; a process that went on in a fork of itself is another one."""
        if self._descriptor is None or self._marked_by == os.getpid():
            return
        self._mark = random.SystemRandom().randrange(_READY)
        with contextlib.suppress(OSError):  # a filesystem without record locks: nobody knows of us, as before
            files.mark(self._descriptor, self._mark)
            self._marked_by = os.getpid()

    def set_ready(self, files: Files, *, ready: bool) -> None:
        """Say whether this instance would restart now."""
        self.mark(files)
        if self._descriptor is not None and self._marked_by:
            with contextlib.suppress(OSError):
                files.mark(self._descriptor, _READY + self._mark, on=ready)

    def others(self, files: Files) -> tuple[Instance, ...]:
        """The other instances; what this process started ends with it, and is none."""
        descriptor = self._descriptor
        try:
            if descriptor is None:
                descriptor = files.open(self._layout.instances)
            marks, ready = files.marks(descriptor, 0, _READY), files.marks(descriptor, _READY, 2 * _READY)
        except OSError:
            return ()
        finally:
            # Closed only where we have no mark: any close of the file ends all that this process has.
            if descriptor is not None and descriptor != self._descriptor:
                files.close(descriptor)
        below = set(descendants(os.getpid())) if marks else set()
        return tuple(Instance(pid, _READY + mark in ready) for mark, pid in marks.items() if pid not in below)


class Together:
    """`P` changes only while nobody runs from it, so all instances of a program restart together.

    Its methods may be called from any thread, and raise nothing.

    Args:
        clock: monotonic seconds.
    """

    def __init__(
        self,
        layout: Layout,
        folders: OpenFolders,
        instances: Instances,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._layout = layout
        self._folders = folders
        self._instances = instances
        self._clock = clock
        self._sleep = sleep

    def say_ready(self) -> tuple[int, ...]:
        """This instance would restart now. The process ids of the others that are not ready; none: all restart now."""
        return tuple(one.pid for one in self._look(ready=True) if not one.ready)

    def withdraw(self) -> None:
        """It would not restart any more."""
        self._look(ready=False)

    def wait_for_end(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """With the application ended or not begun: let the others, if all are ready, end too, 60 s at most.

        From here on this process does not run from `P`, until it settles.
        """
        deadline = self._clock() + _PATIENCE
        others = self._look()
        if not others or not all(one.ready for one in others):
            return
        with contextlib.suppress(OSError, PatcherError), self._folders(self._layout, StateFolder.IF_THERE) as files:
            self._instances.release(files)
        while others and all(one.ready for one in others) and self._clock() < deadline and not stopped():
            self._sleep(_PAUSE)
            others = self._look()

    def _look(self, *, ready: bool | None = None) -> tuple[Instance, ...]:
        try:
            with self._folders(self._layout, StateFolder.IF_THERE) as files:
                if ready is not None:
                    self._instances.set_ready(files, ready=ready)
                return self._instances.others(files)
        except (OSError, PatcherError):
            return ()


def seen_instances(layout: Layout) -> tuple[Instance, ...]:
    """The instances of a program, for people who look."""
    marks = seen_marks(layout.path(layout.instances))
    ready = {pid for pid, offset in marks if offset >= _READY}
    return tuple(Instance(pid, pid in ready) for pid, offset in marks if offset < _READY)
