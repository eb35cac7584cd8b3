"""``pypatcher run`` through two updates in real time, failed once somewhere: it never ends, and neither do the updates.

A release waits when it starts, and a newer one comes while that is on trial. The program says READY=1, so both are
confirmed at once. Then a stop is asked for, as by systemd.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from pypatcher.app.run import RunPlan, run_program
from pypatcher.artifact import read_release, sign_file
from pypatcher.install import Installation, owner_verifies
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.node.config import NodeConfig
from pypatcher.process.packagings.native import native
from pypatcher.settings import Settings
from pypatcher.update.mode import Now
from tests.support.devices import compile_app, here
from tests.support.fail_once import FailingTasks, Failure, Injector, fail_calls, report, sweep
from tests.support.transport import loopback

KEY = KeyPair.from_seed(bytes(range(32)))
OWNER = OwnerKey(KEY.public)
VERSIONS = ("1.0.0", "2.0.0", "3.0.0")
PATIENCE = 60.0


def stage_release(program: Path, release: Path) -> None:
    """As a node does, in no thread and at no point that is watched."""
    installation = Installation(program, owner_verifies(OWNER, here()))
    with release.open("rb") as file:
        info = read_release(file.fileno()).info
        with installation.new_partial(info) as partial:
            partial.write(file.read())
            installation.stage(partial, info)


async def _watch(kit: Path, program: Path, log: Path) -> None:
    """Stage the newest release once the one before it runs, and ask for a stop once that is confirmed."""
    installation = Installation(program, owner_verifies(OWNER, here()))
    staged = False
    while True:
        await asyncio.sleep(0.05)
        said = log.read_text() if log.exists() else ""
        if "2.0.0" in said and not staged:
            staged = True
            stage_release(program, kit / "3.0.0")
        if "3.0.0" in said:
            status = installation.status()
            if status.trial is None and str(status.confirmed) == "3.0.0":
                os.kill(os.getpid(), signal.SIGTERM)
                return


async def _run(kit: Path, folder: Path, injector: Injector) -> str:
    program, log = folder / "app", folder / "log"
    shutil.copy(kit / "1.0.0", program)
    Installation(program, owner_verifies(OWNER, here())).settle("guard")
    stage_release(program, kit / "2.0.0")
    os.environ["APP_LOG"] = str(log)
    settings = Settings(bootstrap=(), bind=((loopback(), 0),), state=folder / "state", allow_volatile=True)
    plan = RunPlan(native(program, ("ready",)), NodeConfig({None: OWNER}, settings=settings, mode=Now()), 5.0)
    with Injector(time.monotonic).watching():  # which fails nothing
        beside = asyncio.create_task(_watch(kit, program, log))
    try:
        async with asyncio.timeout(PATIENCE):
            with injector.watching():
                injector.everywhere()
                status = await asyncio.create_task(run_program(plan, lambda event: print(event, file=sys.stderr)))
    except TimeoutError:
        return f"it did not come to the newest release: {log.read_text() if log.exists() else 'not started'}"
    finally:
        injector.nowhere()
        beside.cancel()
    return "" if status == -signal.SIGTERM else f"run ended with {status}: {log.read_text() if log.exists() else ''}"


def _one(kit: Path, failure: Failure | None, _seed: int) -> dict[str, Any]:
    injector = Injector(time.monotonic, failure)
    threading.excepthook = lambda args: print("a thread ended:", args.exc_value, file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder, fail_calls(), asyncio.Runner(loop_factory=FailingTasks) as runner:
        complaint = runner.run(_run(kit, Path(folder), injector))
    return {"complaint": complaint, "seen": injector.seen, "failed": injector.failed, "end": time.monotonic()}


def main() -> int:
    """``FOLDER SAMPLE SEED``; SAMPLE 0 is everything."""
    folder, sample, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for version in VERSIONS:
        sign_file(compile_app(folder / version, version), KEY, None, here())
    return report(sweep(lambda failure, number: _one(folder, failure, number), sample or None, seed, 0.0))


if __name__ == "__main__":
    sys.exit(main())
