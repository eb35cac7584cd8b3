"""Ending this process in good order and starting its program again (design.md "Restart").

Lives here: ``Restarter``, one per process, from the request to the last system call. Not here: how (plan), the exec
itself (image), the helper of onefile programs (handover), when (node).

The way of a restart:

1. **Request**, from any thread. ``on_restart`` callbacks run beside the application and may delay it by not returning
   yet, 10 minutes at most.
2. **Interrupt.** The main thread is told to end, as a stop would: a decorated async main by cancelling its task, a loop
   that only called ``spawn`` by ``RestartExit`` raised in the loop (asyncio.run then cancels all tasks), anything else
   by a real-time signal to the main thread whose handler raises ``RestartExit`` there. That reaches ``time.sleep``,
   waits for locks, threads, sockets and children at once, and a long C call when it returns. ``RestartExit`` is a
   ``SystemExit``: ``finally`` and ``with`` work, ``except Exception`` does not catch it.
3. **The interpreter ends by itself**: threads that are no daemons are joined, then atexit handlers run. Ours was
   registered last, so it comes first; it runs all others, flushes every open file, and goes on with 4 as the last one.
4. **Activate**, by the callback; after that P is another file, and nothing is imported any more. If it fails, that is
   logged, and the program at P, whichever it is, is started all the same.
5. **Leave** as planned: exec, exit status, or helper.

A stop that is asked for meanwhile (SIGTERM, SIGINT or SIGQUIT, whose handlers the application has) wins: the program
ends and is not started again.

Whoever has not arrived at 4 within the grace time (30 s, as ``run`` gives before SIGKILL) is not waited for: a thread
of ours then does 4 and 5, without atexit handlers. This is for programs that swallow ``SystemExit``, block all signals
(``sigwait``), or have a thread that never ends; they lose what SIGKILL would cost them.
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
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from pypatcher.process.handover import Helper
from pypatcher.process.image import Image
from pypatcher.process.packaging import Program
from pypatcher.process.plan import Restarting, RestartPlan, plan_restart
from pypatcher.shortage import start_thread

__all__ = ["RestartExit", "Restarter"]

_log = logging.getLogger("pypatcher")

DELAY_LIMIT = 600.0
GRACE = 30.0
_FLUSH_LIMIT = 1.0
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class RestartExit(SystemExit):
    """Raised in the main thread to end the application before it is started again; do not catch it."""


class Restarter:
    """Restarts this process's program once.

    Args:
        program: what ``detect`` found.
        plan: how; found out by ``plan_restart`` if not given.
        delay_limit: seconds that ``on_restart`` callbacks may take together.
        grace: seconds from the interrupt until the program is replaced by force.
    """

    def __init__(
        self,
        program: Program,
        *,
        plan: RestartPlan | None = None,
        delay_limit: float = DELAY_LIMIT,
        grace: float = GRACE,
    ) -> None:
        self.program = program
        self.plan = plan if plan is not None else plan_restart(program)
        self._delay_limit = delay_limit
        self._grace = grace
        self._pid = os.getpid()
        self._image = Image(program)
        self._callbacks: tuple[Callable[[], object], ...] = ()
        self._lock = threading.Lock()
        self._requested = False
        self._cancelled = threading.Event()
        self._armed = False
        self._activate: Callable[[], None] | None = None
        self._stopped = False
        self._leaving = threading.Lock()
        self._flush = threading.Event()
        self._flushed = threading.Event()
        self._helper: Helper | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None
        self._signal: int | None = None

    def attach(self) -> None:
        """Make the calling thread interruptible; called by ``spawn`` and ``start``, best from the main thread.

        From another thread this does nothing: the restart then waits for the main thread to end by itself, as long as
        the grace time.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        if self._signal is None:
            self._signal = _take_free_signal(self._on_interrupt)

    @contextlib.contextmanager
    def around_main(self) -> Iterator[None]:
        """Wrap the application's main, sync or async, in the task or thread that runs it.

        Raises:
            RestartExit: at its end, if it ended because of a restart.
        """
        self.attach()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._task = asyncio.current_task()
        try:
            yield
        except (asyncio.CancelledError, RestartExit):
            if not self._armed:
                raise
        finally:
            self._task = None
        if self._armed:
            raise RestartExit

    def on_restart(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call ``callback`` before a restart; it delays it by not returning yet. A coroutine function runs in the
        application's loop. Returns the function that takes it back.
        """
        with self._lock:
            self._callbacks += (callback,)

        def forget() -> None:
            with self._lock:
                self._callbacks = tuple(known for known in self._callbacks if known is not callback)

        return forget

    def restart(self, activate: Callable[[], None] | None = None) -> NoReturn:
        """Restart at once, from the main thread: at a start, when what is at P is no longer what runs.

        A onefile that cannot be restarted from outside (``NEXT_START``) executes P in its own process here; its old
        launcher stays until the new program ends.

        Raises:
            RestartExit: always; let it pass.
        """
        with self._lock:
            self._requested = True
        self._arm(activate)
        start_thread(self._force_later, "pypatcher-restart")
        self._raise()

    def request(self, activate: Callable[[], None] | None = None) -> bool:
        """Ask for a restart, from any thread; returns at once.

        ``activate`` is called as the last thing before the program is started, in the main thread after the atexit
        handlers (or in a thread of ours, by force). It must import nothing.

        Returns False, and does nothing, if one was requested before, the plan is ``NEXT_START``, or the program is
        ending by itself.
        """
        with self._lock:
            if self._requested or not self.plan.at_once:
                return False
            try:
                start_thread(functools.partial(self._carry_out, activate), "pypatcher-restart")
            except RuntimeError:  # no room for a thread, or the interpreter ends
                return False
            self._requested = True
            self._cancelled.clear()
            return True

    @property
    def is_requested(self) -> bool:
        """Whether a restart is under way."""
        return self._requested

    def cancel(self) -> bool:
        """Take a request back; False if the application was told to end already."""
        with self._lock:
            if self._armed:
                return False
            self._cancelled.set()
            self._requested = False
            return True

    def _carry_out(self, activate: Callable[[], None] | None) -> None:
        try:
            self._run_callbacks()
            with self._lock:
                # A program that ends by itself meanwhile is not brought back to life.
                if self._cancelled.is_set() or not threading.main_thread().is_alive():
                    return
                self._arm(activate)
        except RuntimeError:  # no room for a thread; or no threads and forks any more, since the interpreter ends
            with self._lock:
                self._requested = False
            return
        self._interrupt()
        self._force_later()

    def _run_callbacks(self) -> None:
        deadline = time.monotonic() + self._delay_limit
        waiting = []
        for callback in self._callbacks:
            waiting.append(start_thread(functools.partial(self._run_callback, callback), "pypatcher-callback"))
        for thread in waiting:
            while thread.is_alive() and time.monotonic() < deadline and not self._cancelled.is_set():
                thread.join(min(0.1, max(0.0, deadline - time.monotonic())))

    def _run_callback(self, callback: Callable[[], object]) -> None:
        try:
            result = callback()
            if asyncio.iscoroutine(result):
                if self._loop is None or not self._loop.is_running():
                    result.close()
                    raise RuntimeError("an async on_restart callback needs the application's running loop")
                asyncio.run_coroutine_threadsafe(result, self._loop).result()
        except Exception:
            _log.exception("an on_restart callback failed; the restart goes on")

    def _arm(self, activate: Callable[[], None] | None) -> None:
        self._activate = activate
        if self.plan.how is Restarting.HELPER:
            with contextlib.suppress(OSError):
                self._helper = Helper(self._image, self.program.launcher)
        # Once the interpreter ends it starts no threads any more.
        start_thread(self._flush_when_told, "pypatcher-flush")
        self._armed = True
        atexit.register(self._at_exit)

    def _interrupt(self) -> None:
        loop, task = self._loop, self._task
        if loop is not None and loop.is_running():
            with contextlib.suppress(RuntimeError):  # closed since
                loop.call_soon_threadsafe(self._interrupt_loop, task)
                return
        if self._signal is not None:
            with contextlib.suppress(OSError):
                signal.pthread_kill(threading.main_thread().ident or 0, self._signal)

    def _interrupt_loop(self, task: asyncio.Task[object] | None) -> None:
        if task is None or task.done():
            self._raise()
        self._watch_for_stops()
        task.cancel()

    def _on_interrupt(self, *_: object) -> None:
        if threading.main_thread().is_alive():  # else it has ended by itself and runs its atexit handlers
            self._raise()
        self._watch_for_stops()

    def _raise(self) -> NoReturn:
        self._watch_for_stops()
        raise RestartExit

    def _watch_for_stops(self) -> None:
        """Note stop signals before the application's handlers get them; exec would make them forgotten."""
        for number in _STOPS:
            handler = signal.getsignal(number)
            if callable(handler):
                signal.signal(number, functools.partial(self._note_stop, handler))

    def _note_stop(
        self, handler: Callable[[int, FrameType | None], object], number: int, frame: FrameType | None
    ) -> None:
        self._stopped = True
        handler(number, frame)

    def _at_exit(self) -> None:
        if os.getpid() != self._pid:  # a fork of the application ends
            return
        atexit.unregister(self._at_exit)
        atexit._run_exitfuncs()
        _flush_files()
        _reap_children()
        if not self._stopped:
            self._leave()

    def _force_later(self) -> None:
        time.sleep(self._grace)
        if self._leaving.locked() or self._stopped:
            return
        _log.warning("the program did not end within %g s; it is replaced by force", self._grace)
        # In another thread: whoever hangs may do so in the middle of a write, with the file's lock held.
        self._flush.set()
        self._flushed.wait(_FLUSH_LIMIT)
        self._leave()

    def _flush_when_told(self) -> None:
        self._flush.wait()
        _flush_files()
        self._flushed.set()

    def _leave(self) -> NoReturn:
        # One thread leaves, the other waits here until that has replaced or ended the process.
        self._leaving.acquire()
        if self._activate is not None:
            try:
                self._activate()
            except Exception:
                _log.exception("the staged release could not be activated")
        if self._stopped:
            os._exit(0)
        if self.plan.how is Restarting.STATUS:
            os._exit(self.plan.status)
        if self._helper is not None:
            self._helper.go()
            os._exit(0)
        # Also a onefile, if there was no room for a helper: at the price of a launcher that stays until it ends.
        self._image.execute()


def _flush_files() -> None:
    """Flush every open file, as the end of the interpreter would; exec does not get that far."""
    for found in gc.get_objects():
        if issubclass(type(found), io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom):
            with contextlib.suppress(OSError, ValueError):
                found.flush()


def _reap_children() -> None:
    """Wait for the children that have ended: after exec nobody would know that they are ours."""
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    if tracker is not None:
        with contextlib.suppress(Exception):  # a helper process of multiprocessing; its stop is no public API
            tracker._stop()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _take_free_signal(handler: Callable[..., object]) -> int | None:
    """Put ``handler`` on a real-time signal that the application does not use; None if there is none."""
    # Not from the very top: emulators of another processor have fewer than the processor they emulate.
    for number in range(signal.SIGRTMAX - 8, signal.SIGRTMIN, -1):
        if signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, handler)
                return number
    return None
