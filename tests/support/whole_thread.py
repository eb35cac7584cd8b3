"""The node's thread of an application, in real time, failed once somewhere: it still brings about every restart.

A release waits when it starts, and a newer one comes later. The restarts are only asked for: what they do is tested
elsewhere. Then the thread is stopped.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pypatcher.app.thread
from pypatcher.app.thread import NodeThread
from pypatcher.artifact import sign_file
from pypatcher.install import Installation, Settled, owner_verifies
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.settings import Settings
from pypatcher.update import activation
from pypatcher.update.mode import Now
from tests.support.devices import compile_app, here
from tests.support.fail_once import FailingTasks, Failure, Injector, fail_calls, report, sweep
from tests.support.transport import loopback
from tests.support.whole_run import KEY, OWNER, PATIENCE, VERSIONS, stage_release

_STOPS = 5.0


class _Runner:
    """Instead of ``asyncio.run``: its loop's tasks and callbacks can be failed."""

    @staticmethod
    def run(main: Any) -> Any:
        with pypatcher.app.thread.asyncio.Runner(loop_factory=FailingTasks) as runner:
            return runner.run(main)


def _live(kit: Path, folder: Path, injector: Injector) -> str:
    program = Path(shutil.copy(kit / "1.0.0", folder / "app"))
    installation = Installation(program, owner_verifies(OWNER, here()))
    asked: list[str] = []

    def restart(version: str) -> bool:
        asked.append(version)
        return True

    installation.settle("spawn")
    stage_release(program, kit / "2.0.0")
    settings = Settings(bootstrap=(), bind=((loopback(), 0),), state=folder / "state", allow_volatile=True)
    config = NodeConfig({None: OWNER}, settings=settings, mode=Now())
    found = NodeProgram(here(), OWNER, installation)
    # It settles once: nothing of this process is executed anew.
    settled = Settled(row=7, program=installation.running_info().id)
    thread = NodeThread(
        config, found, lambda event: print(event, file=sys.stderr), settle=lambda: settled, restart=restart,
        by_itself=True,
    )  # fmt: skip
    activation._LOOK_AGAIN = 0.2
    injector.everywhere()
    try:
        thread.start()
    finally:
        injector.nowhere()
    for version in VERSIONS[1:]:
        injector.everywhere()
        deadline = time.monotonic() + PATIENCE
        while version not in asked and time.monotonic() < deadline:
            time.sleep(0.05)
        injector.nowhere()
        if version not in asked:
            return f"no restart into {version} was asked for within {PATIENCE:g} s, but {asked}"
        if version != VERSIONS[-1]:
            stage_release(program, kit / VERSIONS[-1])
    before = time.monotonic()
    thread.stop()
    return "" if time.monotonic() - before < _STOPS else "it did not stop"


def _one(kit: Path, failure: Failure | None, _seed: int) -> dict[str, Any]:
    injector = Injector(time.monotonic, failure)
    threading.excepthook = lambda args: print("a thread ended:", args.exc_value, file=sys.stderr)
    pypatcher.app.thread.asyncio.run = _Runner.run
    with tempfile.TemporaryDirectory() as folder, fail_calls():
        complaint = _live(kit, Path(folder), injector)
    return {"complaint": complaint, "seen": injector.seen, "failed": injector.failed, "end": time.monotonic()}


def main() -> int:
    """``FOLDER SAMPLE SEED``; SAMPLE 0 is everything."""
    folder, sample, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for version in VERSIONS:
        sign_file(compile_app(folder / version, version), KEY, None, here())
    return report(sweep(lambda failure, number: _one(folder, failure, number), sample or None, seed, 0.0))


if __name__ == "__main__":
    sys.exit(main())
