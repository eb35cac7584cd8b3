"""Keeps the parts of a node at work: what fails is started again, ever later; what began in a thread is waited for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pypatcher.errors import PatcherError
from pypatcher.pauses import Backoff
from pypatcher.waiting import wait_to_the_end

__all__ = ["in_thread", "keep_running"]

_log = logging.getLogger("pypatcher")
_Result = TypeVar("_Result")


async def keep_running(what: str, run: Callable[[], Awaitable[None]], pauses: tuple[float, float]) -> None:
    """Await ``run()`` until it returns; whenever it raises, log that, pause and call it again.

    The pauses grow from failure to failure, and start over when it ran for longer than the longest of them.

    Args:
        what: for the log.
        pauses: seconds after the first failure, and at most.
    """
    backoff = Backoff(*pauses)
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            return await run()
        except* (PatcherError, OSError) as errors:
            for error in _leaves(errors):
                _log.error("%s: %s", what, error)
        except* Exception as errors:
            if _interpreter_ends(errors):
                await asyncio.Event().wait()
            _log.exception("%s: failed, and is started again", what)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # It failed while it was being ended: a task group then raises that instead of the cancellation.
            raise asyncio.CancelledError
        if loop.time() - started > pauses[1]:
            backoff.succeed()
        await asyncio.sleep(backoff.fail())


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


def _interpreter_ends(errors: BaseException) -> bool:
    """Whether the application has ended around us: the interpreter then makes no more threads, which is no failure."""
    return all(isinstance(leaf, RuntimeError) and "shutdown" in str(leaf) for leaf in _leaves(errors))


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]
