"""How this program can be restarted here: one pure decision over what is known about its surroundings.

design.md "Restart". A program of one process (zipapp) executes P in its own place. A onefile is two processes, and
plain exec would run new code with the old bundle's files, or leak a process and an unpacked folder with every update:

| surroundings of a onefile | how |
| --- | --- |
| ``PYPATCHER_RESTART_STATUS`` set, main process of a systemd unit, or no systemd at all | leave with that status |
| anywhere below a systemd service otherwise | at the next start: the service would end with the launcher |
| a container whose first process is the launcher or its parent | at the next start: the container would end with it |
| below another supervisor that starts it again by itself (runit, s6, supervisord ...) | at the next start |
| the launcher leads its terminal (``xterm -e``, ``ssh -t``, a login) | at the next start: the terminal would close |
| the launcher is gone (killed) | a helper at once: nobody waits for us |
| else (a shell, cron, rc.local) | a helper waits for the launcher to end, then executes P |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pypatcher.errors import SettingError
from pypatcher.process.packaging import Program

__all__ = ["RESTART_STATUS_VARIABLE", "RestartFacts", "RestartPlan", "Restarting", "decide_restart", "plan_restart"]

RESTART_STATUS_VARIABLE = "PYPATCHER_RESTART_STATUS"

_SUPERVISORS = frozenset(
    # As /proc/PID/comm has them: 15 characters.
    {"runsv", "s6-supervise", "supervise", "supervise-daemo", "supervisord", "circusd", "procd", "nosh", "monit"}
)
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO of linux/proc_ns.h


class Restarting(Enum):
    """The ways to start anew; the values are what the event ``restart`` says."""

    EXEC = "exec"
    STATUS = "exit status"
    HELPER = "helper"
    NEXT_START = "next start"


@dataclass(frozen=True, slots=True)
class RestartPlan:
    """What a restart will do. ``status`` is for STATUS; ``reason`` says in words why it must wait (NEXT_START)."""

    how: Restarting
    status: int = 0
    reason: str = ""

    @property
    def at_once(self) -> bool:
        """False: nothing can restart it from inside; a staged release waits for the next start."""
        return self.how is not Restarting.NEXT_START


@dataclass(frozen=True, slots=True)
class RestartFacts:
    """What the decision needs to know; ``launcher_parent`` and its name are those of the launcher's parent process."""

    is_onefile: bool
    launcher: int | None
    launcher_parent: int
    launcher_parent_name: str
    cgroup: str
    own_pid_namespace: bool
    leads_terminal: bool
    environment: Mapping[str, str]


def plan_restart(program: Program) -> RestartPlan:
    """How ``program``, which is this process, can be restarted here.

    Raises:
        SettingError: ``PYPATCHER_RESTART_STATUS`` is not a number from 1 to 255.
    """
    launcher = program.launcher
    parent = _parent_of(launcher) if launcher is not None else os.getppid()
    return decide_restart(
        RestartFacts(
            is_onefile=program.packaging.has_launcher,
            launcher=launcher,
            launcher_parent=parent,
            launcher_parent_name=_read(f"/proc/{parent}/comm"),
            cgroup=_read("/proc/self/cgroup").rpartition(":")[2],
            own_pid_namespace=_pid_namespace() not in (0, _INITIAL_PID_NAMESPACE),
            leads_terminal=launcher is not None and _leads_terminal(launcher),
            environment=program.origin.environment,
        )
    )


def decide_restart(around: RestartFacts) -> RestartPlan:
    """The table of this module, first match."""
    status = _restart_status(around.environment)
    if not around.is_onefile:
        return RestartPlan(Restarting.EXEC)
    below_systemd = "INVOCATION_ID" in around.environment
    if status is not None and (not below_systemd or _is_main_process(around)):
        return RestartPlan(Restarting.STATUS, status)
    obstacle = _why_not_now(around, below_systemd)
    return RestartPlan(Restarting.NEXT_START, reason=obstacle) if obstacle else RestartPlan(Restarting.HELPER)


def _why_not_now(around: RestartFacts, below_systemd: bool) -> str:
    """Why nothing that the launcher leaves behind could start the program; empty if a helper can."""
    if below_systemd and (_is_main_process(around) or _is_service(around.cgroup)):
        return (
            f"its systemd unit would not start it again: the unit needs {RESTART_STATUS_VARIABLE}=86 beside "
            "RestartForceExitStatus=86"
        )
    if around.own_pid_namespace and 1 in (around.launcher, around.launcher_parent):
        return "its container would end with it"
    if around.leads_terminal:
        return "its terminal would close with it"
    if around.launcher_parent_name in _SUPERVISORS:
        return f"{around.launcher_parent_name} starts it again by its own rules; set {RESTART_STATUS_VARIABLE}"
    return ""


def _is_main_process(around: RestartFacts) -> bool:
    """Is the launcher the unit's main process? INVOCATION_ID alone is inherited by every shell below a unit."""
    main = around.environment.get("SYSTEMD_EXEC_PID")
    if main is not None:
        return around.launcher is not None and main == str(around.launcher)
    # Before systemd 248; its user instance is no process 1, and has that name as well.
    return around.launcher is not None and around.launcher_parent_name == "systemd"


def _is_service(cgroup: str) -> bool:
    """Is the innermost unit of this control group a service? A shell's is a scope, inside ``user@1000.service``."""
    kinds = (part.rpartition(".")[2] for part in reversed(cgroup.split("/")))
    return next((kind for kind in kinds if kind in ("service", "scope", "slice")), "") == "service"


def _restart_status(environment: Mapping[str, str]) -> int | None:
    text = environment.get(RESTART_STATUS_VARIABLE, "")
    if not text:
        return None
    # Written as systemd writes it: the guard compares the texts.
    if text not in {str(status) for status in range(1, 256)}:
        raise SettingError(f"{RESTART_STATUS_VARIABLE}={text[:20]!r}: give an exit status from 1 to 255, such as 86")
    return int(text)


def _parent_of(pid: int) -> int:
    """Parent of ``pid``; 0 when it cannot be told."""
    return _numbers_of(pid)[0]


def _leads_terminal(pid: int) -> bool:
    """Is ``pid`` the leader of a session that has a controlling terminal?"""
    _parent, _group, session, terminal = _numbers_of(pid)
    return session == pid and terminal != 0


def _numbers_of(pid: int) -> tuple[int, ...]:
    """Parent, process group, session and terminal of ``pid`` (proc_pid_stat(5)); zeros when they cannot be told."""
    # The command's name stands in brackets and may hold anything, a bracket included.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return tuple(map(int, fields[1:5])) if len(fields) > 4 else (0, 0, 0, 0)


def _pid_namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
