"""Ending this process in good order and starting its program again (design.md "Restart").

Lives here: ``Restarter``, one per process, from the request to the last system call. Not here: how (plan), how the
application is told to end (ending), the exec itself (image), the helper of onefile programs (handover), when (node).

The way of a restart:

1. **Request**, from any thread. ``on_restart`` callbacks run beside the application and may delay it by not returning
   yet, 10 minutes at most. One that lets main return has ended the application: go on with 3.
2. **Tell** the application to end, as a stop would.
3. **The interpreter ends by itself**: threads that are no daemons are joined, then atexit handlers run. Ours was
   registered last, so it comes first; it runs all others, flushes every open file, and goes on with 4 as the last one.
4. **Helper processes** that are left get SIGTERM, as from systemd, and after 5 s SIGKILL: they hold ports, and run from
   P as we do. Of a service's main process all others in its control group are meant, daemons as well.
5. **Activate**, by the callback; after that P is another file, and nothing is imported any more. If it fails, that is
   logged, and the program at P, whichever it is, is started all the same.
6. **Leave** as planned: exec, exit status, or helper.

A stop that is asked for meanwhile wins: the program ends and is not started again.

Whoever was sent SIGTERM and has not arrived at 4 within the grace time (30 s, as ``run`` gives before SIGKILL) is
interrupted by ``RestartExit`` and has 5 s more; whoever was interrupted at first has the grace time. Then a thread of
ours does 4 to 6, without atexit handlers. This is for programs that swallow ``SystemExit``, block all signals, or have
a thread that never ends; they lose what SIGKILL would cost them.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import gc
import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from pypatcher.process.children import descendants, end_children
from pypatcher.process.ending import Ending, RestartExit, exit_now
from pypatcher.process.handover import Helper
from pypatcher.process.image import Image
from pypatcher.process.masks import block_signals
from pypatcher.process.packaging import Program
from pypatcher.process.plan import Restarting, RestartPlan, plan_restart
from pypatcher.shortage import start_thread

__all__ = ["RestartExit", "Restarter"]

_log = logging.getLogger("pypatcher")

DELAY_LIMIT = 600.0
GRACE = 30.0
_LAST_GRACE = 5.0
"""Seconds from the interruption of who was sent SIGTERM in vain."""
_CHILDREN_GRACE = 5.0
_FLUSH_LIMIT = 1.0


class Restarter:
    """Restarts this process's program once.

    Args:
        program: what ``detect`` found.
        plan: how; found out by ``plan_restart`` if not given.
        ending: how the application is told to end.
        delay_limit: seconds that ``on_restart`` callbacks may take together.
        grace: seconds from when it is told until the program is interrupted, or replaced by force.
    """

    def __init__(
        self,
        program: Program,
        *,
        plan: RestartPlan | None = None,
        ending: Ending | None = None,
        delay_limit: float = DELAY_LIMIT,
        grace: float = GRACE,
    ) -> None:
        self.program = program
        self.plan = plan if plan is not None else plan_restart(program)
        self._ending = ending if ending is not None else Ending()
        self.attach = self._ending.attach
        self.around_main = self._ending.around_main
        self._delay_limit = delay_limit
        self._grace = grace
        self._pid = os.getpid()
        self._image = Image(program)
        self._callbacks: tuple[Callable[[], object], ...] = ()
        self._lock = threading.Lock()
        self._requested = False
        self._told = False
        self._activate: Callable[[], None] | None = None
        self._leaving = threading.RLock()
        self._left = False
        self._flush = threading.Event()
        self._flushed = threading.Event()
        self._helper: Helper | None = None
        self._helpers: Mapping[int, bytes] = {}

    def on_restart(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` before a restart; it delays it by not returning yet. A coroutine function runs in the
        application's loop.
        """
        with self._lock:
            self._callbacks += (callback,)

    def restart(self, activate: Callable[[], None] | None = None) -> NoReturn:
        """Restart at once, from the main thread: at a start, when what is at P is no longer what runs.

        A onefile that cannot be restarted from outside (``NEXT_START``) executes P in its own process here; its old
        launcher stays until the new program ends.

        Raises:
            RestartExit: always; let it pass.
        """
        with self._lock:
            self._requested = self._told = True
        with contextlib.suppress(RuntimeError):  # no room for a thread: then nothing forces the program to end
            start_thread(self._flush_when_told, "pypatcher-flush")
            start_thread(self._force_later, "pypatcher-restart")
        self._prepare(activate)
        self._ending.raise_now()

    def request(self, activate: Callable[[], None] | None = None, told: Callable[[], None] = lambda: None) -> bool:
        """Ask for a restart, from any thread; returns at once.

        ``activate`` is called as the last thing before the program is started, in the main thread after the atexit
        handlers (or in a thread of ours, by force). It must import nothing. ``told`` is called when the application is
        told to end.

        Returns False, and does nothing, if one was requested before, the plan is ``NEXT_START``, or the program is
        ending by itself.
        """
        with self._lock:
            if self._requested or not self.plan.at_once:
                return False
            try:
                start_thread(functools.partial(self._carry_out, activate, told), "pypatcher-restart")
            except RuntimeError:  # no room for a thread, or the interpreter ends
                return False
            self._requested = True
            return True

    @property
    def is_requested(self) -> bool:
        """Whether a restart is under way."""
        return self._requested

    def _carry_out(self, activate: Callable[[], None] | None, told: Callable[[], None]) -> None:
        block_signals()
        try:
            start_thread(self._flush_when_told, "pypatcher-flush")
            self._prepare(activate)  # first: the signal of `watch` may end a wait in C, and main with it
            if self._callbacks:
                self._ending.watch()
            self._run_callbacks()
            with self._lock:
                # A program that ends by itself meanwhile is left to `_at_exit`.
                if not self._ending.is_running():
                    return
                self._told = True
            # Who ends a helper that has helpers leaves those to process 1.
            self._helpers = descendants(os.getpid())
            self._ending.watch()
            if self._ending.handles_in_c:
                self._start_although_it_vanishes()
            start_thread(self._force_later, "pypatcher-grace")
        except RuntimeError:  # no room for a thread; or no threads and forks any more, since the interpreter ends
            self._dismiss_helper()
            with self._lock:
                self._requested = self._told = False
            atexit.unregister(self._ending.over.append)
            atexit.unregister(self._at_exit)
            return
        told()
        self._ending.tell(self._leave, self._at_exit)

    def _run_callbacks(self) -> None:
        deadline = time.monotonic() + self._delay_limit
        waiting = []
        for callback in self._callbacks:
            waiting.append(start_thread(functools.partial(self._run_callback, callback), "pypatcher-callback"))
        for thread in waiting:
            while thread.is_alive() and time.monotonic() < deadline and self._ending.is_running():
                thread.join(min(0.1, max(0.0, deadline - time.monotonic())))

    def _run_callback(self, callback: Callable[[], object]) -> None:
        if self._ending.main_mask is not None:  # what it starts is blocked as little as what the application starts
            signal.pthread_sigmask(signal.SIG_SETMASK, self._ending.main_mask)
        try:
            result = callback()
            if asyncio.iscoroutine(result):
                loop = self._ending.loop
                if loop is None or not loop.is_running():
                    result.close()
                    raise RuntimeError("an async on_restart callback needs the application's running loop")
                asyncio.run_coroutine_threadsafe(result, loop).result()
        except Exception:
            _log.exception("an on_restart callback failed; the restart goes on")

    def _prepare(self, activate: Callable[[], None] | None) -> None:
        """Make ready for the end: once the interpreter ends it starts no threads and forks no more."""
        self._activate = activate
        if self.plan.how is Restarting.HELPER:
            with contextlib.suppress(OSError):
                self._helper = Helper(self._image, self.program.launcher)
        atexit.register(self._at_exit)
        atexit.register(self._ending.over.append, True)  # the last one registered is the first one called

    def _start_although_it_vanishes(self) -> None:
        """A handler in C may end the process such that nothing of ours runs any more: then a helper starts P."""
        if self.plan.how is Restarting.STATUS:
            return  # its supervisor does
        with contextlib.suppress(OSError):
            self._helper = self._helper or Helper(self._image, None)
            self._ending.on_stop = self._dismiss_helper
            self._helper.go()

    def _dismiss_helper(self) -> None:
        if self._helper is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._helper.pid, signal.SIGKILL)

    def _at_exit(self) -> None:
        if os.getpid() != self._pid:  # a fork of the application ends
            return
        # Before it was told, only a callback can have let it end, if we would have seen a stop.
        if not self._told and not self._ending.is_watching:
            return
        self._ending.close()
        atexit.unregister(self._at_exit)
        atexit._run_exitfuncs()
        _flush_files()
        _stop_resource_tracker()
        if not self._ending.stopped:
            self._leave()

    def _force_later(self) -> None:
        block_signals()
        time.sleep(self._grace)
        if self._ending.was_sent and not self._is_over():
            with contextlib.suppress(RuntimeError):
                start_thread(self._ending.interrupt, "pypatcher-interrupt")
            time.sleep(min(self._grace, _LAST_GRACE))
        if self._is_over():
            return
        _log.warning("the program did not end within %g s; it is replaced by force", self._grace)
        # In another thread: whoever hangs may do so in the middle of a write, with the file's lock held.
        self._flush.set()
        self._flushed.wait(_FLUSH_LIMIT)
        self._leave()

    def _is_over(self) -> bool:
        return self._left or self._ending.stopped

    def _flush_when_told(self) -> None:
        block_signals()
        self._flush.wait()
        _flush_files()
        self._flushed.set()

    def _leave(self) -> NoReturn:
        # One thread leaves, the other waits here until that has replaced or ended the process. The one that leaves
        # comes here again if something that it calls, a signal's handler perhaps, ends the process.
        self._leaving.acquire()
        self._left = True
        self._ending.close()
        own = [os.getpid(), self.program.launcher, None if self._helper is None else self._helper.pid]
        is_main = self.program.origin.environment.get("SYSTEMD_EXEC_PID") in [str(pid) for pid in own[:2]]
        spared = [pid for pid in own if pid is not None]
        end_children(_CHILDREN_GRACE, spare=spared, known=self._helpers, service=is_main)
        activate, self._activate = self._activate, None
        if activate is not None:
            try:
                activate()
            except Exception:
                _log.exception("the staged release could not be activated")
        if self.plan.how is not Restarting.HELPER:
            self._dismiss_helper()
        if self._ending.stopped:
            exit_now(0)
        if self.plan.how is Restarting.STATUS:
            exit_now(self.plan.status)
        if self._helper is not None and self.plan.how is Restarting.HELPER:
            self._image.discard(signal.SIGPIPE)
            with contextlib.suppress(OSError):  # it was killed
                self._helper.go()
                exit_now(0)
        if self._ending.is_unheard:
            self._image.discard(signal.SIGTERM)
        # Also a onefile, if there is no helper: at the price of a launcher that stays until it ends.
        self._image.execute()


def _flush_files() -> None:
    """Flush every open file, as the end of the interpreter would; exec does not get that far."""
    for found in gc.get_objects():
        if issubclass(type(found), io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom):
            with contextlib.suppress(OSError, ValueError):
                found.flush()


def _stop_resource_tracker() -> None:
    """End a helper process of multiprocessing that ignores SIGTERM; its stop is no public API."""
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    if tracker is not None:
        with contextlib.suppress(Exception):
            tracker._stop()
