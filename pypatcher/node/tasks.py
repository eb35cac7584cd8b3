"""Keeps a part of the node at work: what fails is seen, logged and started again after a pause that grows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pypatcher.errors import PatcherError
from pypatcher.node.schedule import Backoff

__all__ = ["keep_running"]

_log = logging.getLogger("pypatcher")


async def keep_running(what: str, run: Callable[[], Awaitable[None]], pauses: tuple[float, float]) -> None:
    """Await ``run()`` until it returns; whenever it raises, log that, pause and call it again.

    Args:
        what: for the log.
        pauses: seconds after the first failure, and at most.
    """
    backoff = Backoff(*pauses)
    while True:
        try:
            return await run()
        except* PatcherError as errors:
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
        await asyncio.sleep(backoff.fail())


def _interpreter_ends(errors: BaseException) -> bool:
    """Whether the application has ended around us: the interpreter then makes no more threads, which is no failure."""
    return all(isinstance(leaf, RuntimeError) and "shutdown" in str(leaf) for leaf in _leaves(errors))


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]
