"""A replacement that something gets in the way of; the supervisor with whole programs is tried in tests/packagings."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
BEGIN = """
import asyncio, os, signal
from pypatcher.process import Supervisor, native
from pypatcher.process.children import end_children

async def main():
    supervisor = Supervisor(native("/bin/sh", ("-c", SHELL)), stop_timeout=0.3)
    run = asyncio.create_task(supervisor.run())
    while supervisor.pid is None:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    first = supervisor.pid
    async with asyncio.timeout(30):
        await check(supervisor)
    print(supervisor.pid not in (None, first))
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    end_children(0.5)
"""


def run(script: str, begin: str = BEGIN) -> str:
    """Whether another program runs after ``check``. In a process of its own, since it becomes the one that reaps."""
    done = subprocess.run(
        [sys.executable, "-c", begin + textwrap.dedent(script) + "\nasyncio.run(main())\n"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_replacement_goes_on_when_its_caller_is_cancelled() -> None:
    said = run("""
        SHELL = "trap '' TERM; exec sleep 60"

        async def check(supervisor):
            asking = asyncio.create_task(supervisor.replace())
            await asyncio.sleep(0.1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await supervisor.replace()
    """)
    assert said == "True"


def test_descendant_that_cannot_be_killed_does_not_stop_a_replacement() -> None:
    said = run("""
        SHELL = "sleep 60 & trap '' TERM; wait; sleep 60"
        kill = os.kill
        refused = []

        def refuse_once(pid, number):
            if number == signal.SIGKILL and not refused:
                refused.append(pid)
                raise PermissionError(1, "Operation not permitted")
            kill(pid, number)

        os.kill = refuse_once

        async def check(supervisor):
            await supervisor.replace()
            assert refused
    """)
    assert said == "True"


def test_replacement_that_could_not_end_the_program_is_tried_again() -> None:
    said = run("""
        from pypatcher.process import supervisor as module
        SHELL = "trap '' TERM; exec sleep 60"
        descendants = module.descendants

        def fail(pid):
            module.descendants = descendants
            raise OSError(24, "Too many open files")

        module.descendants = fail

        async def check(supervisor):
            try:
                await supervisor.replace()
            except OSError:
                await supervisor.replace()
    """)
    assert said == "True"


@pytest.mark.parametrize(("variable", "cleans_up"), [("_PYI_ARCHIVE_FILE", True), ("OWN", False)])
def test_a_launcher_has_time_to_delete_what_it_unpacked(variable: str, cleans_up: bool, tmp_path: Path) -> None:
    """Of a onefile that ignores the stop; its application is killed, and the launcher takes 4 s for the rest."""
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    said = run(f"""
        SHELL = "trap '' TERM; env {variable}=app sleep 60; sleep 4; rmdir {unpacked}; exit"

        async def check(supervisor):
            await supervisor.replace()
            print(os.path.exists("{unpacked}"))
    """)
    assert said.split() == [str(not cleans_up), "True"]


BUSY = """
import asyncio, os, shutil, signal, tempfile
from pypatcher.process import Supervisor, native

async def main():
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/app"
        shutil.copy("/bin/sleep", path)
        held = os.open(path, os.O_WRONLY)
        supervisor = Supervisor(native(path, ("60",)))
        run = asyncio.create_task(supervisor.run())
        await asyncio.sleep(0.5)
        async with asyncio.timeout(30):
            assert supervisor.pid is None
            await after(held, supervisor)
            os.kill(os.getpid(), signal.SIGTERM)
            print(await run)
"""


@pytest.mark.parametrize(("let_go", "ends"), [(True, "-15"), (False, "126 -15")])
def test_program_that_is_written_to_is_started_when_it_can_be(let_go: bool, ends: str) -> None:
    script = f"""
        async def after(held, supervisor):
            if {let_go}:
                os.close(held)
            while {let_go} and supervisor.pid is None:
                await asyncio.sleep(0.02)
    """
    assert run(script, BUSY) in ends.split()
