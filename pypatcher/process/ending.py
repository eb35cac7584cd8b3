"""Telling the application of this process to end, as a stop would (design.md "Restart").

Lives here: its main thread, its signals and its event loop. Not here: when it is told, and what follows (restart).

The rule: a restart is SIGTERM to oneself. Who has a handler for it, or waits for it (``sigwait``, ``signalfd``), is
sent it, and does what it does at a stop. Who has neither would just be killed, so it is interrupted instead: a
decorated async main by cancelling its task, a loop that only called ``spawn`` by ``RestartExit`` raised in the loop
(asyncio.run then cancels all tasks), anything else by a real-time signal to the main thread whose handler raises
``RestartExit`` there. That reaches ``time.sleep``, waits for locks, threads, sockets and children at once, and a long C
call when it returns. ``RestartExit`` is a ``SystemExit``: ``finally`` and ``with`` work, ``except Exception`` does not
catch it.

A stop may end in ways from which no program comes back: ``os._exit`` in the handler, or SIGTERM once more with its
default put back (as uvicorn does). From the moment the application is told, in this process and not in its forks, the
first goes on with the restart, and the second raises ``RestartExit``.

A stop that is asked for meanwhile (SIGTERM, SIGINT or SIGQUIT, whose handlers the application has) is noted, and wins.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, NoReturn, TypeAlias

from pypatcher.process.signals import OwnStops, signals_in, take_free_signal

__all__ = ["Ending", "RestartExit", "exit_now"]

_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_WATCH_LIMIT = 0.5
"""Seconds for the main thread to come to our handler; in a long C call or ``sigwait`` it does not."""
_AGAIN = 0.1
"""Seconds until it is signalled again: a signal that arrives just before a wait of Python's begins does not end it."""
_HEARD_LIMIT = 0.5
"""Seconds for somebody to take a SIGTERM that was blocked; who does not wait for it is interrupted."""
_JOIN_LIMIT = 2.0
"""Seconds for the main thread to end by itself once the loop of another thread has ended."""
_POLL = 0.02

_BIT = 1 << (signal.SIGTERM - 1)
_Handler: TypeAlias = Callable[[int, FrameType | None], object]

exit_now = os._exit
"""``os._exit`` itself."""
_set_handler: Callable[[int, Any], Any] = signal.signal
_kill, _pthread_kill = os.kill, signal.pthread_kill


class RestartExit(SystemExit):
    """Raised in the main thread to end the application before it is started again; do not catch it."""


class Ending:
    """How this process's application is told to end; one a process."""

    def __init__(self) -> None:
        self.stopped = False
        """A stop was asked for since ``watch``."""
        self.on_stop: Callable[[], None] = lambda: None
        self.is_watching = False  # whether a stop would be noted
        self.interrupted = False
        """It was told by an exception; where main swallows that, its end is the program's all the same."""
        self.was_sent = False
        """It was told by SIGTERM."""
        self.main_mask: Iterable[int] | None = None
        """What the main thread blocked when it last came to our handler."""
        self.over: list[object] = []
        """Not empty once the interpreter ends, when our SIGTERM must not stop the restart. A list, since atexit can
        append to it before Python has a chance to run a signal's handler.
        """
        self._pid = os.getpid()
        self._leave: Callable[[], NoReturn] | None = None
        self._finish: Callable[[], None] = lambda: None
        self._signal: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._task: asyncio.Task[object] | None = None
        self._came = threading.Event()
        self._sent = False
        self._own_stops = OwnStops()
        self._hushed = False
        self._raises = False
        self._sending = threading.Lock()

    def attach(self) -> None:
        """Make the calling thread interruptible, and its running loop; best from the main thread. From another one only
        the loop is: the main thread then has to end by itself, unless it attached before.
        """
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
            self._loop_thread = threading.get_ident()
        if threading.current_thread() is threading.main_thread() and self._signal is None:
            self._signal = take_free_signal(self._on_signal)

    @contextlib.contextmanager
    def around_main(self) -> Iterator[None]:
        """Wrap the application's main, sync or async, in the task or thread that runs it.

        Raises:
            RestartExit: at its end, if it ended because it was interrupted.
        """
        self.attach()
        with contextlib.suppress(RuntimeError):
            self._task = asyncio.current_task()
        try:
            yield
        except (asyncio.CancelledError, RestartExit):
            if not self.interrupted:
                raise
        finally:
            self._task = None
        if self.interrupted:
            _raise()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The application's loop."""
        return self._loop

    def is_running(self) -> bool:
        """Whether the application runs: its main thread, or work that goes on in threads after main returned."""
        main = threading.main_thread()
        return main.is_alive() or any(
            thread.is_alive() and not thread.daemon for thread in threading.enumerate() if thread is not main
        )

    def watch(self) -> None:
        """Note stops from now on, before the application's handlers get them; exec would make them forgotten."""
        self._reach_main()

    def tell(self, leave: Callable[[], NoReturn], finish: Callable[[], None]) -> None:
        """Tell the application to end; called in a thread of ours.

        Args:
            leave: goes on with the restart at once, where the application ends the process by ``os._exit``.
            finish: ends the interpreter in good order, in the main thread: where main has returned already.
        """
        self._leave, self._finish = leave, finish
        os._exit = self._leave_instead
        signal.signal = self._keep_default_away  # type: ignore[assignment]
        self._own_stops.watch()
        if not self._send_stop():
            self.interrupt()

    def close(self) -> None:
        """Send the application nothing any more."""
        self.over.append(True)
        with self._sending:
            pass

    def interrupt(self) -> None:
        """Tell the application by an exception or a cancelled task."""
        self.interrupted = True
        loop, task = self._loop, self._task
        if loop is not None and loop.is_running():
            with contextlib.suppress(RuntimeError):  # closed since
                loop.call_soon_threadsafe(self._interrupt_loop, task)
                if self._loop_thread == threading.main_thread().ident:
                    return
                # The main thread may be joining that one, and end by itself.
                _wait_until(lambda: not loop.is_running(), None)
                _wait_until(lambda: not threading.main_thread().is_alive(), _JOIN_LIMIT)
        self._raises = True
        self._reach_main()

    def raise_now(self) -> NoReturn:
        """End the application from its main thread, or its loop.

        Raises:
            RestartExit: always.
        """
        self.interrupted = True
        self._wrap_handlers()
        _raise()

    @property
    def handles_in_c(self) -> bool:
        """Whether C code, such as gevent's, handles SIGTERM, of which Python knows nothing: it may end the process."""
        known = signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, None)
        return not known and signals_in(os.getpid(), "SigCgt") & _BIT != 0

    @property
    def is_unheard(self) -> bool:
        """Whether our SIGTERM still waits for somebody to take it: at exec it would end the new program."""
        return self._sent and signals_in(os.getpid(), "SigPnd", "ShdPnd") & _BIT != 0

    def _send_stop(self) -> bool:
        """Send SIGTERM, if the application hears it; whether it did."""
        handler = signal.getsignal(signal.SIGTERM)
        blocked = signals_in(os.getpid(), "SigBlk") & _BIT != 0
        if handler is signal.SIG_IGN:
            return False
        if handler is signal.SIG_DFL and not self.handles_in_c:
            # Who waits in sigwait shows no blocked signal, and does not come to our handler.
            return (blocked or not self._came.is_set()) and self._send_harmlessly(blocked)
        return self._send(blocked) and (not blocked or _wait_until(lambda: not self.is_unheard, _HEARD_LIMIT))

    def _send(self, blocked: bool) -> bool:
        """Send SIGTERM, unless the application has ended; whether it was sent."""
        with self._sending:
            if self.over or not self.is_running():
                return False
            self._sent = self.was_sent = True
            if blocked:
                _kill(os.getpid(), signal.SIGTERM)
            else:
                # To the main thread, whose wait it ends; another one might take it.
                _pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            return True

    def _send_harmlessly(self, blocked: bool) -> bool:
        """Send SIGTERM to who may wait for it, such that it ends nobody who does not."""
        libc = ctypes.CDLL(None)
        libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
        nothing = ctypes.cast(libc.abs, ctypes.c_void_p).value
        libc.signal(int(signal.SIGTERM), nothing)
        try:
            if not self._send(blocked):
                return False
            return _wait_until(lambda: not self.is_unheard, _HEARD_LIMIT) if blocked else self._came.wait(_HEARD_LIMIT)
        finally:
            self._hushed = self.is_unheard
            if not self._hushed:  # else it would end the program once it is held back no more
                found = libc.signal(int(signal.SIGTERM), 0)
                if found not in (None, nothing):  # the application's, since
                    libc.signal(int(signal.SIGTERM), found)

    def _reach_main(self) -> None:
        self._came.clear()
        deadline = time.monotonic() + _WATCH_LIMIT
        while self._signal_main() and not self._came.wait(_AGAIN) and time.monotonic() < deadline:
            pass

    def _signal_main(self) -> bool:
        with self._sending, contextlib.suppress(OSError):
            if self._signal is None or self.over:
                return False
            _pthread_kill(threading.main_thread().ident or 0, self._signal)
            return True
        return False

    def _on_signal(self, *_: object) -> None:
        """Our own signal, in the main thread."""
        self._wrap_handlers()
        self.main_mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.is_watching = True
        self._came.set()
        if not self._raises:
            return
        self._raises = False
        if threading.main_thread().is_alive():
            raise RestartExit
        if self.is_running():  # main has returned, and the interpreter waits for other threads
            self._finish()

    def _interrupt_loop(self, task: asyncio.Task[object] | None) -> None:
        if task is None or task.done():
            self.raise_now()
        self._wrap_handlers()
        task.cancel()

    def _wrap_handlers(self) -> None:
        if threading.get_ident() != threading.main_thread().ident:
            return  # Python sets handlers in the main thread only
        for number in _STOPS:
            handler = signal.getsignal(number)
            if callable(handler):
                _set_handler(number, self._noting(handler))
        if self._hushed and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            _set_handler(signal.SIGTERM, self._stop_by_default)

    def _noting(self, handler: _Handler) -> _Handler:
        known = getattr(handler, "func", handler) in (self._note_stop, self._stop_by_default)
        return handler if known else functools.partial(self._note_stop, handler)

    def _note_stop(self, handler: _Handler, number: int, frame: FrameType | None) -> None:
        self._own_stops.forget()
        if number == signal.SIGTERM and self._sent:
            self._sent = False
            if self.over:
                return
        else:
            self._stop()
        handler(number, frame)

    def _stop(self) -> None:
        self.stopped = True
        self.on_stop()

    def _stop_by_default(self, _number: int, frame: FrameType | None) -> None:
        """SIGTERM after the application put its default back: most send it to themselves, to end as a stop would."""
        if os.getpid() != self._pid:  # a fork, whose default it is, too: nothing of the program's is to run there
            _set_handler(signal.SIGTERM, signal.SIG_DFL)
            _kill(os.getpid(), signal.SIGTERM)
            return
        if self._sent:  # ours, which was held back
            self._sent = False
            if self.interrupted or self.over:
                return
        elif not self._own_stops.is_sender(frame):
            self._stop()
        self.raise_now()

    def _keep_default_away(self, number: int, handler: Any) -> Any:
        """Instead of ``signal.signal``."""
        if os.getpid() == self._pid and number in _STOPS:
            if handler is signal.SIG_DFL and number == signal.SIGTERM:
                handler = self._stop_by_default
            elif callable(handler):
                handler = self._noting(handler)
        return _set_handler(number, handler)

    def _leave_instead(self, status: int) -> NoReturn:
        """Instead of ``os._exit``."""
        if os.getpid() == self._pid and self._leave is not None and not self.stopped:
            self._leave()
        exit_now(status)


def _raise() -> NoReturn:
    # In another thread than the main one Python keeps silent about SystemExit alone, not about its kin.
    raise (RestartExit if threading.get_ident() == threading.main_thread().ident else SystemExit)


def _wait_until(condition: Callable[[], bool], seconds: float | None) -> bool:
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)
    return True
