"""A process that supervises the C program as ``pypatcher run`` will, for the tests of the supervisor.

Run as ``python -m tests.support.supervised PROGRAM ARGUMENTS``. What the node would do is told by the environment:
``REPLACE`` is a file that, once it is there, replaces the program (which is moved to PROGRAM); ``AGAIN`` is how many
ends count as failed starts of a trial. Hooks are noted in ``$HOOKS``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from pypatcher.process.child import end_like
from pypatcher.process.packagings.native import native
from pypatcher.process.supervisor import Hooks, Supervisor


def _note(*words: object) -> None:
    with Path(os.environ["HOOKS"]).open("a", encoding="ascii") as file:
        file.write(" ".join(map(str, words)) + "\n")


async def _replace_when_told(supervisor: Supervisor, path: Path, target: Path) -> None:
    def activate() -> None:
        _note("activate")
        path.rename(target)

    while True:
        await asyncio.sleep(0.02)
        if path.exists():
            await supervisor.replace(activate)
            _note("replaced")


async def _main() -> int:
    program = native(sys.argv[1], tuple(sys.argv[2:]))
    again = int(os.environ.get("AGAIN", "0"))

    def ended(returncode: int) -> bool:
        nonlocal again
        again -= 1
        _note("ended", returncode)
        return again >= 0

    supervisor = Supervisor(
        program,
        hooks=Hooks(
            before_start=lambda: _note("before_start"),
            ready=lambda: _note("ready"),
            before_stop=lambda: _note("before_stop"),
            ended=ended,
        ),
        stop_timeout=float(os.environ.get("STOP_TIMEOUT", "20")),
        again_after=0.05,
    )
    replacing = asyncio.create_task(_replace_when_told(supervisor, Path(os.environ["REPLACE"]), program.path))
    try:
        return await supervisor.run()
    finally:
        replacing.cancel()


if __name__ == "__main__":
    end_like(asyncio.run(_main()))
