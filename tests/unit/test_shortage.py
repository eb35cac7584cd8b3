"""What fails once costs an attempt: threads, calls, processes."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from pypatcher.artifact import hashing
from pypatcher.dht.resolve import Resolver
from pypatcher.process import child
from pypatcher.shortage import persisting, start_thread
from pypatcher.tasks import Threads, in_own_thread


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """So many threads cannot be started; how many were tried."""

    def fail(times: int) -> list[int]:
        tried: list[int] = []
        real = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            tried.append(1)
            if len(tried) <= times:
                raise RuntimeError("can't start new thread")
            real(thread)

        monkeypatch.setattr(threading.Thread, "start", start)
        return tried

    return fail


def test_a_thread_that_cannot_start_is_tried_again(no_threads: Callable[[int], list[int]]) -> None:
    tried, done = no_threads(2), threading.Event()
    start_thread(done.set, "a-thread").join()
    assert done.is_set()
    assert len(tried) == 3


def test_what_the_system_refuses_once_is_done_and_twice_is_an_error() -> None:
    errors = [OSError(errno.ENOLCK, "no locks")]

    def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert persisting(work) == "done"
    errors = [OSError(errno.EIO, "one"), OSError(errno.EIO, "two")]
    with pytest.raises(OSError, match="one"):
        persisting(work)


async def test_what_no_thread_could_be_started_for_is_not_done_later(no_threads: Callable[[int], list[int]]) -> None:
    asyncio.get_running_loop().set_default_executor(Threads())
    done: list[str] = []
    no_threads(1)
    with pytest.raises(RuntimeError, match="thread"):
        await asyncio.to_thread(done.append, "given up")
    await asyncio.to_thread(done.append, "later")
    assert done == ["later"]


async def test_a_step_that_no_thread_can_be_started_for_is_done_here(no_threads: Callable[[int], list[int]]) -> None:
    no_threads(3)
    assert await in_own_thread(threading.get_ident) == threading.get_ident()
    assert await in_own_thread(threading.get_ident) != threading.get_ident()


async def test_a_name_whose_thread_cannot_start_is_asked_for_again(no_threads: Callable[[int], list[int]]) -> None:
    resolver = Resolver(4)
    no_threads(3)
    assert await resolver.resolve(("localhost", 5)) == []
    await asyncio.sleep(0)  # whoever asks next comes later
    assert set(await resolver.resolve(("localhost", 5))) == {("127.0.0.1", 5)}


async def test_the_end_of_a_program_is_seen_without_a_thread(no_threads: Callable[[int], list[int]]) -> None:
    process = await asyncio.create_subprocess_exec("true")
    no_threads(3)
    ended = child.Child(process.pid, 0)
    async with asyncio.timeout(20):
        await child.wait_for_end(ended)


@pytest.mark.parametrize("fails", range(3))
async def test_the_end_of_a_program_is_seen_though_a_wait_fails(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    wait, calls = os.waitid, iter(range(100))

    def failing(*arguments: int) -> object:
        if next(calls) == fails:
            raise OSError(errno.EIO, "this once")
        return wait(*arguments)

    monkeypatch.setattr("os.waitid", failing)
    waiting = asyncio.create_task(child.wait_for_end(child.Child(process.pid, 0)))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(20):
        await waiting
    assert process.wait(20)


async def test_a_process_that_cannot_be_made_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_START_PAUSES", (0.0, 0.0))
    errors = [OSError(errno.EAGAIN, "no process"), OSError(errno.EAGAIN, "no process")]

    def start() -> child.Child:
        if errors:
            raise errors.pop()
        return child.Child(1, 0)

    assert (await child.persist_in_starting(start, asyncio.Event())).pid == 1


def test_a_large_file_is_hashed_without_a_second_thread(
    tmp_path_factory: pytest.TempPathFactory, no_threads: Callable[[int], list[int]]
) -> None:
    path = tmp_path_factory.mktemp("large") / "file"
    path.write_bytes(bytes(5 << 20))
    with path.open("rb") as file:
        expected = hashing.hash_both(file.fileno(), 5 << 20, 1000)
        no_threads(3)
        assert hashing.hash_both(file.fileno(), 5 << 20, 1000) == expected
