"""What fails is logged and started again, later every time, and what returns or is cancelled is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading

import pytest

from pypatcher.errors import PatcherError, SettingError
from pypatcher.tasks import in_thread, keep_running
from tests.support.node_fakes import run_alone


class Failing:
    """Raises its errors in turn, each after some seconds, then returns."""

    def __init__(self, *errors: Exception, lasts: tuple[float, ...] = ()) -> None:
        self.errors = list(errors)
        self.lasts = list(lasts)
        self.times: list[float] = []

    async def run(self) -> None:
        self.times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.lasts.pop(0) if self.lasts else 0)
        if self.errors:
            raise self.errors.pop(0)


def test_pauses_grow_until_it_returns() -> None:
    failing = Failing(*(PatcherError("no") for _ in range(5)))
    run_alone(keep_running("this", failing.run, (1.0, 4.0)))
    assert failing.times == [0, 1, 3, 7, 11, 15]


def test_pauses_start_over_after_a_run_longer_than_the_longest() -> None:
    failing = Failing(*(PatcherError("no") for _ in range(6)), lasts=(0, 0, 4, 100, 0))
    run_alone(keep_running("this", failing.run, (1.0, 4.0)))
    assert failing.times == [0, 1, 3, 11, 112, 114, 118]


def test_our_own_errors_are_one_line_and_others_have_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    group = ExceptionGroup("tasks", [ExceptionGroup("inner", [SettingError("cannot bind")])])
    failing = Failing(group, ValueError("a bug"), ExceptionGroup("both", [PatcherError("known"), KeyError("unknown")]))
    with caplog.at_level(logging.ERROR, logger="pypatcher"):
        run_alone(keep_running("no updates for now", failing.run, (1.0, 4.0)))
    assert caplog.records[0].getMessage() == "no updates for now: cannot bind"
    assert caplog.records[0].exc_info is None
    assert "a bug" in caplog.text
    assert "no updates for now: known" in caplog.text
    assert "unknown" in caplog.text


def test_a_task_group_that_fails_is_a_failure_and_no_cancellation() -> None:
    times = []

    async def fails_in_a_group() -> None:
        times.append(asyncio.get_running_loop().time())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.Event().wait())
            tasks.create_task(Failing(SettingError("cannot bind")).run())

    async def body() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(6):
                await keep_running("no updates for now", fails_in_a_group, (1.0, 4.0))

    run_alone(body())
    assert times == [0, 1, 3]


def test_a_timeout_after_a_failed_task_group_is_a_timeout() -> None:
    said: list[str] = []

    async def body() -> None:
        async def run() -> None:
            if not said:
                said.append("fails")
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(Failing(SettingError("cannot bind")).run())
            try:
                async with asyncio.timeout(1):
                    await asyncio.Event().wait()
            except TimeoutError:
                said.append("timed out")

        await keep_running("this", run, (1.0, 4.0))

    run_alone(body())
    assert said == ["fails", "timed out"]


def test_a_cancellation_from_inside_starts_it_again() -> None:
    calls = []

    async def cancels_itself() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise asyncio.CancelledError

    run_alone(keep_running("this", cancels_itself, (1.0, 4.0)))
    assert calls == [1, 1]


def test_a_cancellation_ends_it() -> None:
    async def body() -> None:
        task = asyncio.create_task(keep_running("this", asyncio.Event().wait, (1.0, 4.0)))  # type: ignore[arg-type]
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_alone(body())


def test_a_failure_while_it_is_being_ended_does_not_start_it_again() -> None:
    starts = []

    async def fails_at_its_end() -> None:
        starts.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            raise PatcherError("while it was ended")

    async def body() -> None:
        task = asyncio.create_task(keep_running("this", fails_at_its_end, (1.0, 4.0)))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_alone(body())
    assert starts == [1]


async def test_what_works_in_a_thread_is_waited_for_even_when_cancelled() -> None:
    began, go_on, undone = threading.Event(), threading.Event(), []

    def work() -> str:
        began.set()
        go_on.wait()
        return "a file"

    task = asyncio.create_task(in_thread(work, undo=undone.append))
    await asyncio.to_thread(began.wait)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == ["a file"]
    assert await in_thread(work, undo=undone.append) == "a file"
    assert undone == ["a file"]
