"""The processes below this one, and ending those that a program leaves behind.

Lives here: who they are, who of them stays, and SIGTERM, time and SIGKILL for all of them, as a service manager does to
what is left of a unit. Not here: the program that is supervised (child), when they are to end (restart, supervisor).
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import time
from collections.abc import Collection, Mapping
from pathlib import Path

__all__ = ["adopt_orphans", "descendants", "end_children", "who_stays"]

_PR_SET_CHILD_SUBREAPER = 36
_POLL = 0.02
_NOBODY = 0.2
"""Seconds in which nobody was seen, for nobody to be there."""
_KILLED = 2.0
"""Seconds for the kernel to end who was killed; one that waits for a broken disk, say, may never end."""
_log = logging.getLogger("pypatcher")


def adopt_orphans() -> bool:
    """Become the parent of what our descendants leave behind, instead of process 1; whether the kernel allows it."""
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def end_children(
    grace: float, *, spare: Collection[int] = (), known: Mapping[int, bytes] | None = None, service: bool = False
) -> None:
    """End all processes below this one but ``spare``: SIGTERM, ``grace`` seconds, SIGKILL. Collects its children.

    Those ``known`` to have been below it once count too, and with ``service`` all of our systemd service: daemons that
    made themselves independent of us. Who cannot be killed is left behind, which is logged.
    """
    cgroup = _cgroup_of(os.getpid()) if service else ""
    _reap()
    ending: dict[int, bytes] = {}
    deadline = time.monotonic() + grace
    force = False
    while True:
        found = {pid: started for pid, started in (known or {}).items() if _start_of(pid) == started}
        found |= descendants(os.getpid()) | _in_service(cgroup)
        below = {pid: started for pid, started in found.items() if pid not in spare}
        # One whose parent has ended is no descendant any more.
        ending = {pid: started for pid, started in ending.items() if _start_of(pid) == started}
        for pid in below.keys() | ending.keys() if force else below.keys() - ending.keys():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL if force else signal.SIGTERM)
        ending |= below
        if not ending:
            return
        if force and time.monotonic() > deadline:
            _log.warning("what cannot be killed is left behind: %s", ", ".join(map(_described, ending)))
            return
        time.sleep(_POLL)
        _reap()
        if not force and time.monotonic() > deadline:
            force, deadline = True, time.monotonic() + _KILLED


def descendants(pid: int) -> dict[int, bytes]:
    """Children, then grandchildren and so on of ``pid`` that have not ended, and when each was started."""
    children: dict[int, dict[int, bytes]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent, started = _read_stat(entry)
            if state != b"Z":
                children.setdefault(parent, {})[int(entry.parent.name)] = started
    found: dict[int, bytes] = {}
    waiting = [pid]
    while waiting:
        below = children.pop(waiting.pop(), {})
        found |= below
        waiting += below
    return found


def who_stays(seconds: float) -> list[str]:
    """For people: the processes below this one that have not ended ``seconds`` from now; returns early for nobody."""
    deadline = time.monotonic() + seconds
    seen = time.monotonic()
    below: dict[int, bytes] = {}
    # One that forks and ends while we look, as daemons do, shows neither itself nor its child.
    while time.monotonic() < min(deadline, seen + _NOBODY):
        below = descendants(os.getpid())
        seen = time.monotonic() if below else seen
        time.sleep(_POLL)
    return [_described(pid) for pid in below]


def _in_service(cgroup: str) -> dict[int, bytes]:
    """The same of all processes in the control group of a service; of none, if it is another kind of group."""
    found: dict[int, bytes] = {}
    for entry in Path("/proc").glob("[0-9]*/stat") if cgroup.endswith(".service") else ():
        pid = int(entry.parent.name)
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _, started = _read_stat(entry)
            if state != b"Z" and pid != os.getpid() and f"{_cgroup_of(pid)}/".startswith(f"{cgroup}/"):
                found[pid] = started
    return found


def _cgroup_of(pid: int) -> str:
    """The control group in which systemd keeps a process (cgroups(7)), of either version; empty if that is not told."""
    with contextlib.suppress(OSError, ValueError):
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
        words = [line.split(":", 2) for line in lines]
        return max((path for _, controllers, path in words if controllers in ("", "name=systemd")), default="")
    return ""


def _start_of(pid: int) -> bytes | None:
    """When ``pid`` was started, which tells it from a later process of that number; None if it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        state, _, started = _read_stat(Path(f"/proc/{pid}/stat"))
        return None if state == b"Z" else started
    return None


def _described(pid: int) -> str:
    """For people: its number, name and state (D waits for a device)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return f"{pid} ({stat.partition('(')[2].rpartition(')')[0]}, state {stat.rpartition(')')[2].split()[0]})"
    return str(pid)


def _read_stat(path: Path) -> tuple[bytes, int, bytes]:
    """State, parent and start time (proc_pid_stat(5))."""
    fields = path.read_bytes().rpartition(b")")[2].split()
    return fields[0], int(fields[1]), fields[19]


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
