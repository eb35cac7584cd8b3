"""Waiting in asyncio where the obvious call is wrong: with a limit, for news that several read, for what cannot end.

``asyncio.wait_for`` of Python 3.11 swallows a cancellation that comes together with the event; nothing here does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["News", "end_of_first", "wait_at_most", "wait_to_the_end"]

_Result = TypeVar("_Result")


class News:
    """Something that any number of tasks read, and may wait for a change of.

    Take ``next`` BEFORE looking, then wait for it: what changes between the two is not missed.
    """

    def __init__(self) -> None:
        self._next = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """Set when it changes again."""
        return self._next

    def tell(self) -> None:
        """It changed."""
        told, self._next = self._next, asyncio.Event()
        told.set()


async def end_of_first(*parts: Coroutine[Any, Any, None]) -> None:
    """Run these side by side until one of them ends, then end the others; what the first one raised is raised."""
    running = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [task for task in running if task.done()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    for task in ended:
        task.result()


async def wait_at_most(event: asyncio.Event, seconds: float) -> bool:
    """Wait for ``event``, so many seconds at most; returns whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def wait_to_the_end(running: asyncio.Future[_Result]) -> _Result:
    """The result of ``running``, whose end is waited for even when we are cancelled meanwhile; that is raised then.

    For what works in a thread, which nothing can end.
    """
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return running.result()
