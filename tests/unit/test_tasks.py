"""What fails is logged and started again, later every time, and what returns or is cancelled is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading

import pytest

from pypatcher.errors import PatcherError, SettingError
from pypatcher.tasks import at_work, in_thread, keep_running, run_once_more, together
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


@pytest.mark.parametrize("awaited", ["keep_running", "run_once_more"])
def test_a_failure_while_it_is_being_ended_does_not_start_it_again(
    awaited: str, caplog: pytest.LogCaptureFixture
) -> None:
    starts = []

    async def fails_at_its_end() -> None:
        starts.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            raise PatcherError("while it was ended")

    async def body() -> None:
        if awaited == "keep_running":
            task = asyncio.create_task(keep_running("this", fails_at_its_end, (1.0, 4.0)))
        else:
            task = asyncio.create_task(run_once_more(fails_at_its_end, 1.0))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_alone(body())
    gc.collect()
    assert starts == [1]
    [said] = caplog.records
    assert said.name == "pypatcher"  # asyncio would say that nobody took the exception
    assert "while it was ended" in said.getMessage()


def test_what_fails_once_is_done_once_more_and_no_oftener() -> None:
    once, twice = Failing(OSError("first")), Failing(OSError("first"), ExceptionGroup("", [OSError("last")]))
    run_alone(run_once_more(once.run, 2.0))
    assert once.times[1] == once.times[0] + 2.0
    with pytest.raises(ExceptionGroup):
        run_alone(run_once_more(twice.run, 2.0))
    assert len(twice.times) == 2


@pytest.mark.parametrize("error", [PatcherError("no room"), OSError("no room"), TimeoutError("no room"), KeyError(1)])
def test_what_a_block_beside_parts_raises_comes_out_as_it_is(error: Exception) -> None:
    running = []

    async def part() -> None:
        running.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            running.append("ended")

    async def body() -> None:
        with pytest.raises(type(error)) as raised:
            async with at_work({"this": part}, (1.0, 4.0)):
                await asyncio.sleep(1)
                raise error
        assert raised.value is error
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), at_work({"that": part}, (1.0, 4.0)):
                await asyncio.Event().wait()

    run_alone(body())
    assert running == ["began", "ended"] * 2


def test_a_cancelled_block_beside_parts_is_cancelled() -> None:
    async def body() -> None:
        async def run() -> None:
            async with at_work({"this": asyncio.Event().wait}, (1.0, 4.0)):  # type: ignore[dict-item]
                await asyncio.Event().wait()

        task = asyncio.create_task(run())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run_alone(body())


def test_the_first_of_several_to_fail_ends_them_as_itself() -> None:
    ended = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("the other")

    async def body() -> None:
        with pytest.raises(SettingError, match="cannot bind"):
            await together(waits(), Failing(SettingError("cannot bind"), lasts=(1,)).run())
        with pytest.raises(TimeoutError):  # what follows in the same task has its timeouts
            async with asyncio.timeout(1):
                await asyncio.Event().wait()

    run_alone(body())
    assert ended == ["the other"]


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
