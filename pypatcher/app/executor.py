"""Threads for the blocking work of a node that lives beside an application.

An executor of ``concurrent.futures`` accepts no work once the application's main has returned, although its other
threads may go on for years, and an application that ends waits for its threads. This one accepts work for as long as
the process lives, and nobody waits for it: what a node does to the disk may be cut off at any step. Its threads block
all signals. Not here: what the work is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from pypatcher.process.masks import block_signals
from pypatcher.shortage import start_thread

__all__ = ["DaemonExecutor"]

_THREADS = 8
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Work = tuple[Future[Any], Callable[[], Any]]


class DaemonExecutor(ThreadPoolExecutor):
    """An executor for ``loop.set_default_executor``, which takes no other class than this one's base."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._started: list[threading.Thread] = []

    def submit(
        self, fn: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> Future[_Result]:
        """See `ThreadPoolExecutor`.

        Raises:
            RuntimeError: there is no thread and none can be started; nothing was done, and is not done later.
        """
        future: Future[_Result] = Future()
        with self._lock:
            if not self._idle.acquire(blocking=False) and len(self._started) < _THREADS:
                try:
                    self._started.append(start_thread(self._work, "pypatcher-work"))
                except RuntimeError:
                    if not self._started:
                        raise
        self._waiting.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `ThreadPoolExecutor`; what waits is done first."""
        with self._lock:
            threads, self._started = self._started, []
        for _ in threads:
            self._waiting.put(None)
        if wait:
            for thread in threads:
                thread.join()

    def _work(self) -> None:
        block_signals()
        while (work := self._waiting.get()) is not None:
            future, function = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)
            del work, future, function  # nothing is kept alive while it waits
            self._idle.release()
