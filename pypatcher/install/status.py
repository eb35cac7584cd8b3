"""What is installed here, in words: the answer to ``pypatcher status``. Reads what it is given, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pypatcher.install.decide import LIMITS
from pypatcher.install.examine import EntryKind, Examined
from pypatcher.install.instances import Instance, seen_instances
from pypatcher.install.layout import Entry, Layout
from pypatcher.install.trial import TrialState
from pypatcher.process.lock_holders import is_locked
from pypatcher.version import Version

__all__ = ["Presence", "RefusedRelease", "Status", "TrialStatus", "describe_installation", "look_at_locks"]


@dataclass(frozen=True, slots=True)
class TrialStatus:
    """The trial that is under way."""

    version: Version
    failed: int
    reboots: int
    rolling_back: bool


@dataclass(frozen=True, slots=True)
class RefusedRelease:
    """A file that this device does not install or serve; ``again``: when it gets another trial, empty for never."""

    sha512: bytes
    reason: str
    again: str = ""


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a process of the program, and one that looks for its updates, is there now; None if that is not known.

    Attributes:
        instances: those that can be seen.
    """

    runs: bool | None
    updates: bool | None
    instances: tuple[Instance, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """All that ``status`` tells of one installation.

    Attributes:
        program: the path.
        running: the version at the path; None when it is no program of the owner's.
        confirmed: the version that this device goes back to; None before the first start.
        newest: the newest version ever confirmed here.
        needs: what a person should do, one line; empty for nothing.
    """

    program: str
    running: Version | None
    confirmed: Version | None
    newest: Version | None
    staged: Version | None
    previous: Version | None
    trial: TrialStatus | None
    refused: tuple[RefusedRelease, ...]
    needs: str


def describe_installation(
    layout: Layout, state: TrialState | None, examine: Callable[[Entry], Examined], chances: Mapping[bytes, str]
) -> Status:
    """Put what is on disk into words; ``chances``: by its hash, when a refused file gets another trial."""
    program, staged, previous = examine(layout.target), examine(layout.staged), examine(layout.previous)
    trial = None
    if state is not None and state.trial is not None:
        on = state.trial
        trial = TrialStatus(on.program.version, on.failed, on.reboots, on.program.sha512 in state.refused)
    return Status(
        program=str(layout.program),
        running=_version(program),
        confirmed=None if state is None else state.confirmed.version,
        newest=None if state is None else state.newest,
        staged=_version(staged),
        previous=_version(previous),
        trial=trial,
        refused=()
        if state is None
        else tuple(
            RefusedRelease(known, state.notes.get(known, ""), chances.get(known, "")) for known in state.refused
        ),
        needs=_needs(layout, state, program, previous),
    )


def look_at_locks(layout: Layout) -> Presence:
    """Whether the program runs and updates itself, as its locks tell."""
    runs, updates = (is_locked(layout.path(entry)) for entry in (layout.instances, layout.updater))
    return Presence(runs, updates, seen_instances(layout))


def _version(found: Examined) -> Version | None:
    return None if found.id is None else found.id.version


def _needs(layout: Layout, state: TrialState | None, program: Examined, previous: Examined) -> str:
    if program.id is None:
        what = (
            "there is no program"
            if program.kind is EntryKind.ABSENT
            else f"the program gets no updates ({program.reason})"
        )
        if previous.id is not None and not (state is not None and previous.id.sha512 in state.refused):
            return f"{what}: pypatcher rollback puts version {previous.id.version} back, or put a signed release there"
        return f"{what}: put a signed release at {layout.program}"
    if state is not None and program.id.sha512 in state.refused and previous.id is None:
        return f"version {program.id.version} failed and there is nothing to go back to: put another release there"
    trial = None if state is None else state.trial
    is_tried = trial is not None and trial.program.sha512 == program.id.sha512
    if trial is not None and is_tried and previous.id is None and LIMITS.reached(trial):
        ends = f"{trial.failed} failed starts, {trial.reboots} reboots"
        return f"version {program.id.version} is on trial ({ends}) with nothing to go back to: confirm it, or adopt one"
    return ""
