"""Restarts the parts of a node that fail, after growing pauses; waits for work in threads, even when cancelled.

Knows nothing of what the parts do: a part is a coroutine function with a name for the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from pypatcher.backoff import Backoff
from pypatcher.errors import PatcherError
from pypatcher.shortage import persisting, start_thread
from pypatcher.waiting import wait_to_the_end

__all__ = [
    "Threads",
    "at_work",
    "in_own_thread",
    "in_thread",
    "interpreter_ends",
    "keep_running",
    "run_in_loop",
    "run_once_more",
    "together",
]

_log = logging.getLogger("pypatcher")
_Result = TypeVar("_Result")


async def keep_running(
    what: str,
    run: Callable[[], Coroutine[Any, Any, None]],
    pauses: tuple[float, float],
    failed: Callable[[str], None] = lambda _: None,
) -> None:
    """Await ``run()`` until it returns; whenever it raises, log that, pause and call it again.

    Each call is a task of its own. Before Python 3.13 a task group that fails leaves its task counted as cancelled
    (``Task.cancelling``), and from then on every ``asyncio.timeout`` in that task ends as a cancellation. So a later
    call in the same task could not be told from a cancelled one, and its own timeouts would end it.

    The pauses grow from failure to failure, and start over when it ran for longer than the longest of them.

    Args:
        what: for the log.
        pauses: seconds after the first failure, and at most.
        failed: told in one line why it failed.
    """
    backoff = Backoff(*pauses)
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        running = asyncio.create_task(run())
        try:
            await _run_to_its_end(running)
        finally:
            _log_failure(what, running)
        if not running.cancelled() and running.exception() is None:
            return
        if not running.cancelled() and interpreter_ends(running.exception()):
            await asyncio.Event().wait()
        failed(_why(running))
        if loop.time() - started > pauses[1]:
            backoff.succeed()
        await asyncio.sleep(backoff.fail())


async def run_once_more(run: Callable[[], Coroutine[Any, Any, _Result]], pause: float) -> _Result:
    """Await ``run()``; if it fails, await it once more after a pause.

    Also here the first call is a task of its own: one that is cancelled, and fails while it ends, has ended.
    """
    running = asyncio.create_task(run())
    try:
        await _run_to_its_end(running)
    except asyncio.CancelledError:
        if not running.cancelled() and running.exception() is not None:
            _log.warning("failed while it ended: %s", _why(running))
        raise
    if running.cancelled() or (error := running.exception()) is None or not isinstance(error, Exception):
        return running.result()
    _log.warning("tried again: %s", _why(running))
    await asyncio.sleep(pause)
    return await run()


@contextlib.asynccontextmanager
async def at_work(
    parts: Mapping[str, Callable[[], Coroutine[Any, Any, None]]], pauses: tuple[float, float]
) -> AsyncIterator[None]:
    """Keep these parts of a node running during the block; see ``keep_running``.

    What the block raises comes out as it is: a task group would wrap it, and who called waits for a ``PatcherError``.
    """
    failed: list[Exception] = []
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(keep_running(name, run, pauses), name=f"pypatcher {name}") for name, run in parts.items()
        ]
        try:
            yield
        except Exception as error:
            failed.append(error)
        finally:
            for task in running:
                task.cancel()
    for own in failed:
        raise own


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Await them all; the first failure ends the others, and comes out as it is.

    In a task of its own, as in ``keep_running``: what the caller does next may have timeouts.
    """

    async def await_all() -> None:
        async with asyncio.TaskGroup() as tasks:
            for part in parts:
                tasks.create_task(part)

    try:
        await asyncio.create_task(await_all())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed


async def in_thread(function: Callable[[], _Result], undo: Callable[[_Result], None] = lambda _result: None) -> _Result:
    """Call ``function`` in a thread and wait for its end even when cancelled meanwhile; ``undo`` then gets its result.

    For what works on files: nobody may close or remove them under a thread that still uses them.
    """
    running = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await wait_to_the_end(running)
    except asyncio.CancelledError:
        if not running.cancelled() and running.exception() is None:
            undo(running.result())
        raise


def run_in_loop(main: Coroutine[Any, Any, _Result]) -> _Result:
    """``asyncio.run``, in a loop that is made once more if the system lacks what one takes.

    Raises:
        OSError: it failed twice.
    """
    with asyncio.Runner(loop_factory=lambda: persisting(asyncio.new_event_loop)) as runner:
        return runner.run(main)


class Threads(ThreadPoolExecutor):
    """The threads of an event loop: what could not be started is never done later, behind the back of who asked.

    The standard library's keep what they could start no thread for, say that it failed, and do it later even so.
    """

    def submit(self, function: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        """See ``ThreadPoolExecutor``.

        Raises:
            RuntimeError: no thread is free and none can be started; nothing was done.
        """
        future: Future[Any] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **keywords)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        try:
            super().submit(call)
        except RuntimeError:
            if future.cancel():
                raise
        return future


async def in_own_thread(function: Callable[[], _Result]) -> _Result:
    """Call ``function`` in a thread of its own; in this one, which waits meanwhile, where none can be started."""
    loop = asyncio.get_running_loop()
    future: Future[_Result] = Future()
    ended = asyncio.Event()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)
        with contextlib.suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(ended.set)

    try:
        start_thread(call, "pypatcher-step")
    except RuntimeError:
        return function()
    await ended.wait()
    return future.result()


async def _run_to_its_end(task: asyncio.Task[Any]) -> None:
    """Wait for it; whoever is cancelled meanwhile cancels it, and waits even so."""
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
        await _wait_for_end(task)


async def _wait_for_end(task: asyncio.Task[Any]) -> None:
    """Wait until it has ended, whatever happens meanwhile."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])


def _log_failure(what: str, ended: asyncio.Task[None]) -> None:
    """Say why it failed: our own errors in one line each, all else with its traceback."""
    if ended.cancelled() or (error := ended.exception()) is None or interpreter_ends(error):
        return
    try:
        raise error
    except* (PatcherError, OSError) as errors:
        for leaf in _leaves(errors):
            _log.error("%s: %s", what, leaf)
    except* Exception:
        _log.exception("%s: failed, and is started again", what)


def _why(ended: asyncio.Task[Any]) -> str:
    """One line for people."""
    error = None if ended.cancelled() else ended.exception()
    return "it was cancelled" if error is None else "; ".join(dict.fromkeys(map(_line, _leaves(error))))


def _line(error: BaseException) -> str:
    return str(error) if isinstance(error, PatcherError | OSError) else f"{type(error).__name__}: {error}"


def interpreter_ends(error: BaseException | None) -> bool:
    """Whether the application has ended around us: the interpreter then makes no more threads, which is no failure."""
    return error is not None and all(
        isinstance(leaf, RuntimeError) and "shutdown" in str(leaf) for leaf in _leaves(error)
    )


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]
