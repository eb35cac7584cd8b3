"""Waiting for an event ends in time, and neither wait loses a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from pypatcher.waiting import wait_at_most, wait_to_the_end
from tests.support.node_fakes import run_alone


def test_a_wait_tells_whether_the_event_came_or_the_time_was_over() -> None:
    async def body() -> None:
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        assert not await wait_at_most(event, 5)
        assert loop.time() == 5
        loop.call_later(2, event.set)
        assert await wait_at_most(event, 5)
        assert loop.time() == 7

    run_alone(body())


async def test_a_cancellation_that_comes_together_with_the_event_is_raised() -> None:
    event = asyncio.Event()
    task = asyncio.create_task(wait_at_most(event, 60))
    await asyncio.sleep(0)
    event.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_runs_is_waited_for_through_every_cancellation() -> None:
    running: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(wait_to_the_end(running))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    running.set_result("written")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await wait_to_the_end(running) == "written"
