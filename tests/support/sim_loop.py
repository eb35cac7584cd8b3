"""An event loop for thousands of nodes on virtual time: no system calls, no threads, timers compared in C.

The clock of the whole process (``still_clock``) jumps from timer to timer. What the loop of asyncio does for each (a
poll, a heap of handles compared in Python) costs as much as a message of the DHT does; this one does without. The parts
of asyncio that it replaces are those of 3.11 to 3.13.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from tests.support import still_clock

__all__ = ["SimLoop", "run_simulated"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class SimLoop(asyncio.SelectorEventLoop):
    """Of timers that are due at once the one that was set first comes first, so that runs can be repeated."""

    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._timers: list[tuple[float, int, asyncio.TimerHandle | tuple[Callable[..., object], Any]]] = []
        self._count = 0

    def time(self) -> float:
        """Seconds of the clock that stands still."""
        return still_clock.seconds()

    def post(self, delay: float, function: Callable[..., object], *arguments: Any) -> None:
        """Call it then; nobody can take that back, so it costs less than ``call_later``."""
        self._count += 1
        heapq.heappush(self._timers, (still_clock.seconds() + delay, self._count, (function, arguments)))

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See ``asyncio``."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See ``asyncio``."""
        return self.call_at(still_clock.seconds() + delay, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """There are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, function: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """What would go to a thread is done at once: virtual time stands still meanwhile."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Found out when it is due."""

    def _run_once(self) -> None:
        ready = self._ready
        if ready:
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
            return
        while self._timers:
            when, _, what = heapq.heappop(self._timers)
            if isinstance(what, tuple):
                still_clock.advance_to(when)
                what[0](*what[1])
                return
            if not what.cancelled():
                still_clock.advance_to(when)
                what._run()
                return
        if not self._stopping:
            raise RuntimeError("every task waits for something that no timer will bring")


def run_simulated(body: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end; ``still_clock.stand_still`` was called before anything of ours was imported.

    Keys of one moment are the same in each run: whose record stays in a slot depends on its bytes.
    """
    os.urandom = random.Random(0).randbytes
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(body)
