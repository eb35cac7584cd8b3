"""Runs a program by the rules of the unit that ``pypatcher unit --guard`` writes, where no systemd is.

``python unit_rules.py KEY PROGRAM WORD...``: the guard before and after each start, the program as the
unit's main process, ``Restart=always`` and ``KillMode=control-group``: what is left in the unit gets SIGTERM, then
SIGKILL. A control group is what carries the unit's own ``INVOCATION_ID`` here. A stop ends it. Not here: the guard's
pause after a start just before, since the tests update what has just been started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

__all__: list[str] = []

_STOP_TIMEOUT = 20.0
_RESTART_SEC = 1.0
_main: subprocess.Popen[bytes] | None = None
_stops = False


def _stop(*_: object) -> None:
    global _stops  # noqa: PLW0603 - what a signal says
    _stops = True
    if _main is not None:
        _main.terminate()


def _run(key: str, program: Path, words: list[str]) -> None:
    global _main  # noqa: PLW0603 - whom a stop is for
    guard = [sys.executable, "-m", "pypatcher", "guard", "--public-key", key, str(program)]
    while not _stops:
        invocation = uuid.uuid4().hex
        unit = {**os.environ, "INVOCATION_ID": invocation, "PYPATCHER_RESTART_STATUS": "86"}
        lock = program.parent / f".{program.name}.pypatcher" / "lock"
        if lock.exists():
            os.utime(lock, (0, 0))
        subprocess.run(guard, env=unit, check=True)
        # systemd names the main process in its environment; exec keeps the shell's process id.
        command = ["/bin/sh", "-c", 'exec env SYSTEMD_EXEC_PID=$$ "$@"', "sh", *words]
        _main = subprocess.Popen(command, env=unit)
        status = _main.wait()
        _end_what_is_left(invocation)
        ended = {"EXIT_CODE": "exited", "EXIT_STATUS": str(status)}
        if status < 0:
            ended = {"EXIT_CODE": "killed", "EXIT_STATUS": signal.Signals(-status).name[3:]}
        subprocess.run([*guard, "--ended"], env={**unit, **ended}, check=True)
        time.sleep(_RESTART_SEC)


def _end_what_is_left(invocation: str) -> None:
    deadline = time.monotonic() + _STOP_TIMEOUT
    told: set[int] = set()
    while left := _unit(invocation):
        for pid in left:
            if pid not in told or time.monotonic() > deadline:
                told.add(pid)
                try:
                    os.kill(pid, signal.SIGKILL if time.monotonic() > deadline else signal.SIGTERM)
                except ProcessLookupError:
                    continue
        time.sleep(0.02)


def _unit(invocation: str) -> list[int]:
    mark, found = f"INVOCATION_ID={invocation}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    _run(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
