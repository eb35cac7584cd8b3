"""Who starts the program, and whether the start before still runs (install.md "Start on trial", "Processes").

`Caller` is who asks; `fate` tells, from the open start that ``trial.json`` remembers, whether that start is this one,
still runs, or ended. `fate` is pure; the functions that read ``/proc`` and the environment stand below it. Not here:
whether an ended start costs a version its trial (``decide``).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal, TypeAlias

from pypatcher.install.trial import Start

__all__ = ["CLAIM_TICKS", "Caller", "Fate", "Launcher", "current_caller", "fate", "process_lives", "process_starttime"]

Launcher: TypeAlias = Literal["guard", "run", "spawn"]
"""Who launches: ``pypatcher guard``, ``pypatcher run``, or the program itself when it calls ``spawn``."""

CLAIM_TICKS = 10 * 60 * 100
"""10 minutes in the clock ticks of ``pid_starttime``: a guard's start that is older and unclaimed binds nobody."""


_MAX_NAME = 100


class Fate(Enum):
    """What happened to the start that is open in ``trial.json``."""

    NONE = "no start is open"
    OWN = "it is the caller's own"
    CLAIMABLE = "the guard counted it for the caller"
    ALIVE = "it runs: the caller is a second process"
    ENDED = "it ended by itself, in this boot"
    REBOOTED = "the device went down under it"
    LAPSED = "nobody claimed the guard's start: how it ended is not known"


@dataclass(frozen=True, slots=True)
class Caller:
    """The process that asks, as `Start` describes it.

    Attributes:
        main: whether it is the main process of the systemd unit that ``start_id`` names.
        unit: the name of the systemd service that this process belongs to, empty for none.
    """

    launcher: Launcher
    boot_id: str
    start_id: str
    pid: int
    pid_starttime: int
    main: bool = False
    unit: str = ""

    def start(self) -> Start:
        """A new open start of this caller."""
        return Start(
            self.boot_id,
            self.start_id,
            self.pid,
            self.pid_starttime,
            self.launcher,
            self.launcher != "guard",
            self.unit,
        )

    def claim(self, start: Start) -> Start:
        """The guard's start as this caller's own."""
        return Start(self.boot_id, start.start_id, self.pid, self.pid_starttime, start.by, True, self.unit)


def fate(start: Start | None, caller: Caller, lives: Callable[[int, int], bool]) -> Fate:
    """What became of ``start``; ``lives(pid, pid_starttime)`` says whether that process still runs.

    A guard ends before its program starts, so until its start is claimed nothing tells whether the program runs. Only
    another launcher, or the main process of another invocation, shows that it ended; a process from a shell shows
    nothing and counts nothing. But a program that starts by ``spawn`` alone later on, from a shell's loop, must not
    crash unnoticed for ever: when 10 minutes have passed the guard's start lapses, uncounted, and spawn's count.
    Likewise for another service: app@2 shows nothing about app@1.
    """
    if start is None:
        return Fate.NONE
    if start.boot_id != caller.boot_id:
        return Fate.REBOOTED
    if (start.pid, start.pid_starttime) == (caller.pid, caller.pid_starttime):
        return Fate.OWN
    if start.claimed:
        return Fate.ALIVE if lives(start.pid, start.pid_starttime) else Fate.ENDED
    return _fate_of_unclaimed(start, caller)


def _fate_of_unclaimed(start: Start, caller: Caller) -> Fate:
    is_another_unit = bool(start.unit and caller.unit) and start.unit != caller.unit
    if is_another_unit or (caller.launcher == "spawn" and not caller.main):
        lapsed = 0 < start.pid_starttime < caller.pid_starttime - CLAIM_TICKS
        return Fate.LAPSED if lapsed else Fate.ALIVE
    if start.start_id != caller.start_id or caller.launcher == "run":
        return Fate.ENDED
    return Fate.OWN if caller.launcher == "guard" else Fate.CLAIMABLE


def current_caller(launcher: Launcher, environment: Mapping[str, str], *, main_pid: int | None = None) -> Caller:
    """This process as a caller.

    Args:
        launcher: what it is to the program.
        environment: where systemd's ``INVOCATION_ID`` and ``SYSTEMD_EXEC_PID`` are looked up.
        main_pid: the pid that systemd knows the program by where that is not this process: a onefile's launcher.
    """
    pid = os.getpid()
    main = environment.get("SYSTEMD_EXEC_PID") == str(pid if main_pid is None else main_pid)
    invocation = environment.get("INVOCATION_ID", "")[:100]
    named = invocation if main or launcher == "guard" else ""
    start_id, started = named or uuid.uuid4().hex, process_starttime(pid) or 0
    return Caller(launcher, _boot_id(), start_id, pid, started, main and bool(named), _service() if named else "")


def process_starttime(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (proc(5), stat, field 22); None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def process_lives(pid: int, pid_starttime: int) -> bool:
    """Whether that very process still runs; a zombie does not, nor does another one that got its pid."""
    return process_starttime(pid) == pid_starttime


def _service(cgroup: Path = Path("/proc/self/cgroup")) -> str:
    """The systemd service that this process is in."""
    try:
        lines = cgroup.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    paths = (line.split(":", 2)[-1] for line in lines if line.startswith("0::") or ":name=systemd:" in line)
    names = [name for path in paths for name in path.split("/") if name.endswith(".service")]
    return names[-1][:_MAX_NAME] if names else ""


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:100]
    except (OSError, ValueError):
        return "unknown"
