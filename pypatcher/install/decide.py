"""The table of install.md "What to do, from what is on disk", and every other decision, as pure functions.

Nothing here opens a file, reads a clock or remembers anything: facts in, decision out. Facts may be looked up when
they are first asked for, so that a start which needs to know the program's hash alone hashes nothing else. The first
row that matches wins; whoever carries it out looks again at what is on disk and asks again, until a row says run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from pypatcher.errors import NotNewerError, RefusedReleaseError
from pypatcher.install.examine import EntryKind, Examined
from pypatcher.install.second_trial import FailedTrial
from pypatcher.install.starts import Fate, Launcher
from pypatcher.install.trial import ProgramId, Trial, TrialState
from pypatcher.version import Version

__all__ = [
    "LIMITS",
    "Action",
    "Decision",
    "Facts",
    "Limits",
    "chance",
    "check_stageable",
    "check_wanted",
    "closed_trial",
    "decide",
    "let_in_again",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """Starts of a trial after which it is over: ended by themselves, and cut by a reboot."""

    failed: int = 3
    reboots: int = 10
    again: tuple[int, ...] = tuple(86400 << number for number in range(5))
    """Seconds of uptime after which a release that failed gets another trial: the first, the second, and so on."""

    def reached(self, trial: Trial) -> bool:
        """Whether the version has had its chances."""
        return trial.failed >= self.failed or trial.reboots >= self.reboots


LIMITS = Limits()


class Action(Enum):
    """What to do. Those that end the loop are listed in `Decision.runs`."""

    RUN = "run the program"
    RUN_ALONE = "run what is there if it can run; no updates"
    RUN_REFUSED = "run, do not serve: there is nothing to go back to"
    WAIT = "run; the program's path changes when its other processes have ended"
    COUNT = "count the start and run"
    RESTORE = "put previous back over an empty program"
    ADOPT_WITH_WAY_BACK = "write J: confirmed = previous, trial = P"
    ADOPT = "write J: confirmed = P"
    BY_HAND = "a person put P there: confirmed = P"
    DROP_STAGED = "unlink staged"
    ACTIVATE = "activate staged"
    PLACE_TRIAL = "rename staged to P"
    RESUME_ACTIVATION = "make sure previous is P, then rename staged to P"
    CLEAR_TRIAL = "write J: trial null"
    FINISH_ROLLBACK = "rename previous to P, then write J: trial null"
    REPLACE_TRIAL = "write J: refused + t and trial = staged; rename staged to P"
    ROLL_BACK = "write J: refused + t; rename previous to P; write J: trial null"
    DISOWN = "the key that P trusts did not sign it: as a rollback"
    SET_ASIDE = "rename staged to waiting"
    GIVE_WAY = "link P to waiting, then rename previous to P"
    REFUSE = "write J: refused + t; the next start goes back"


_RUNS = {Action.RUN, Action.RUN_ALONE, Action.RUN_REFUSED, Action.WAIT, Action.COUNT}
_CHANGES_PROGRAM = {
    Action.RESTORE,
    Action.ACTIVATE,
    Action.PLACE_TRIAL,
    Action.RESUME_ACTIVATION,
    Action.FINISH_ROLLBACK,
    Action.REPLACE_TRIAL,
    Action.ROLL_BACK,
    Action.DISOWN,
    Action.GIVE_WAY,
}


@dataclass(frozen=True, slots=True)
class Decision:
    """A row of the table and what it says."""

    row: int
    action: Action

    @property
    def runs(self) -> bool:
        """Whether the loop ends here."""
        return self.action in _RUNS


class Facts(Protocol):
    """What is on disk, and who asks."""

    @property
    def launcher(self) -> Launcher:
        """Who starts the program."""

    @property
    def state(self) -> TrialState | None:
        """`J`; None when absent or unreadable."""

    @property
    def program(self) -> Examined:
        """`P`."""

    @property
    def staged(self) -> Examined:
        """`staged`."""

    @property
    def previous(self) -> Examined:
        """`previous`."""

    @property
    def fate(self) -> Fate:
        """What became of the open start."""

    @property
    def alone(self) -> bool:
        """Whether no other process runs from `P`."""

    @property
    def staged_is_allowed(self) -> bool:
        """Whether the owner's word lets ``staged`` be activated."""

    @property
    def is_held(self) -> bool:
        """Whether the owner's word holds what is at `P`, or took it back."""

    @property
    def is_recalled(self) -> bool:
        """Whether it is to go back without a successor, too."""


def decide(facts: Facts, limits: Limits = LIMITS) -> Decision:
    """The first row that matches, with every change of `P` put off while other processes run from it."""
    decision = _first_row(facts, limits)
    if decision.action is Action.DISOWN and not facts.alone and not _trial_is_refused(facts.state):
        return Decision(decision.row, Action.REFUSE)
    if decision.action in _CHANGES_PROGRAM and not facts.alone:
        return Decision(decision.row, Action.WAIT)
    return decision


def _first_row(facts: Facts, limits: Limits) -> Decision:
    state, program = facts.state, facts.program.id
    if program is None:
        if _is_disowned(facts):
            return Decision(17, Action.DISOWN)
        return Decision(1, Action.RESTORE if _restorable(facts) else Action.RUN_ALONE)
    if state is None:
        previous = facts.previous.id
        if previous is not None and previous.sha512 != program.sha512:
            return Decision(2, Action.ADOPT_WITH_WAY_BACK)
        return Decision(3, Action.ADOPT)
    if state.trial is None:
        return _without_trial(facts, state, program)
    return _on_trial(facts, state, program, closed_trial(state.trial, facts.fate, facts.is_held), limits)


def _without_trial(facts: Facts, state: TrialState, program: ProgramId) -> Decision:
    if program.sha512 != state.confirmed.sha512:
        return Decision(4, Action.BY_HAND)
    if facts.staged.kind is EntryKind.ABSENT or (facts.staged.kind is EntryKind.FOREIGN and facts.launcher == "guard"):
        return Decision(7, Action.RUN)
    if _acceptable(facts.staged.id, state, state.newest):
        return Decision(6, Action.ACTIVATE) if facts.staged_is_allowed else Decision(18, Action.SET_ASIDE)
    return Decision(5, Action.DROP_STAGED)


def _on_trial(facts: Facts, state: TrialState, program: ProgramId, trial: Trial, limits: Limits) -> Decision:
    refused = trial.program.sha512 in state.refused
    if program.sha512 == trial.program.sha512:
        return _trial_in_place(facts, state, refused, trial, limits)
    if program.sha512 == state.confirmed.sha512:
        if not refused and trial.idle and _is(facts.staged, trial.program):
            return Decision(10, Action.RESUME_ACTIVATION)
        return Decision(11, Action.CLEAR_TRIAL)
    if program.sha512 in state.refused and trial.idle and _is(facts.staged, trial.program):
        return Decision(8, Action.PLACE_TRIAL)
    return Decision(9, Action.BY_HAND)


def _trial_in_place(facts: Facts, state: TrialState, refused: bool, trial: Trial, limits: Limits) -> Decision:
    if not refused and not limits.reached(trial):
        return Decision(19, Action.GIVE_WAY) if _gives_way(facts, state, trial) else Decision(16, Action.COUNT)
    way_back = _has_way_back(facts, state)
    if refused and way_back:
        return Decision(12, Action.FINISH_ROLLBACK)
    if not way_back and _has_successor(facts, state, trial):
        return Decision(13, Action.REPLACE_TRIAL)
    if refused:
        return Decision(14, Action.RUN_REFUSED)
    return Decision(15, Action.ROLL_BACK) if way_back else Decision(16, Action.COUNT)


def _gives_way(facts: Facts, state: TrialState, trial: Trial) -> bool:
    if not facts.is_held or not _has_way_back(facts, state):
        return False
    return facts.is_recalled or _has_successor(facts, state, trial)


def _has_way_back(facts: Facts, state: TrialState) -> bool:
    return _is(facts.previous, state.confirmed) and state.confirmed.sha512 not in state.refused


def _has_successor(facts: Facts, state: TrialState, trial: Trial) -> bool:
    newest = max(state.newest, trial.program.version)
    return _acceptable(facts.staged.id, state, newest) and facts.staged_is_allowed


def closed_trial(trial: Trial, fate: Fate, is_held: bool = False) -> Trial:
    """The trial with its open start closed as it ended, if it did.

    While the owner's word holds the release no time confirms it, so that its reboots (``is_held``) say nothing.
    """
    if fate is Fate.ENDED:
        return replace(trial, failed=trial.failed + 1, open=None, ended="")
    if fate is Fate.REBOOTED:
        return replace(trial, reboots=trial.reboots + (not is_held), open=None)
    return trial


def let_in_again(
    failed: tuple[FailedTrial, ...],
    state: TrialState | None,
    program: Version | None,
    staged: Version | None,
    limits: Limits,
) -> FailedTrial | None:
    """The release that gets another trial now (install.md "Second trials"), if one does.

    Never while another is on trial, nor one that is not newer than all that is here: what runs, what was ever
    confirmed, what is staged.
    """
    if state is None or state.trial is not None or program is None:
        return None
    newest = max(version for version in (state.newest, program, staged) if version is not None)
    due = [
        one
        for one in failed
        if one.program.sha512 in state.refused
        and one.program.version > newest
        and one.again < len(limits.again)
        and one.waited >= limits.again[one.again]
    ]
    return max(due, key=lambda one: one.program.version, default=None)


def chance(one: FailedTrial, state: TrialState | None, limits: Limits) -> str:
    """When a release that failed its trial gets another, in words; empty for never."""
    if state is None or one.again >= len(limits.again) or one.program.version <= state.newest:
        return ""
    hours = -(-max(0, limits.again[one.again] - one.waited) // 3600)
    return f"tried again after {hours} hours of uptime ({one.again + 1} of {len(limits.again)})"


def check_stageable(release: ProgramId, program: Version, state: TrialState | None, staged: ProgramId | None) -> None:
    """Whether a release is one for this device, now (install.md "Stage"); ``staged`` is what lies there, if good.

    Raises:
        RefusedReleaseError: this very file failed here before.
        NotNewerError: it is not newer than what runs, or was ever confirmed, or a newer one is staged already.
    """
    if state is not None and release.sha512 in state.refused:
        raise RefusedReleaseError(f"version {release.version} failed on this device before and is not taken again")
    newest = program if state is None else max(state.newest, program)
    if release.version <= newest:
        raise NotNewerError(f"version {release.version} is not newer than {newest}, which this device has")
    newest_staged = _version_staged(staged, state)
    if newest_staged is not None and newest_staged > release.version:
        raise NotNewerError(f"version {release.version} is not newer than {newest_staged}, which is staged")


def check_wanted(release: ProgramId, program: Version, state: TrialState | None, staged: ProgramId | None) -> None:
    """Whether a release is worth fetching: one that could be staged, and of a version that is not staged already.

    Another build of the staged version that was fetched all the same may take its place.

    Args:
        release: what was announced; its hash may be empty, since it is known from an earlier download alone.

    Raises:
        RefusedReleaseError, NotNewerError: as `check_stageable`.
    """
    check_stageable(release, program, state, staged)
    if _version_staged(staged, state) == release.version:
        raise NotNewerError(f"version {release.version} is staged already")


def _version_staged(staged: ProgramId | None, state: TrialState | None) -> Version | None:
    """The version that waits for its activation; one that was refused never will."""
    if staged is None or (state is not None and staged.sha512 in state.refused):
        return None
    return staged.version


def _acceptable(release: ProgramId | None, state: TrialState, newest: Version) -> bool:
    return release is not None and release.sha512 not in state.refused and release.version > newest


def _is(found: Examined, program: ProgramId) -> bool:
    return found.id is not None and found.id.sha512 == program.sha512


def _trial_is_refused(state: TrialState | None) -> bool:
    return state is not None and state.trial is not None and state.trial.program.sha512 in state.refused


def _is_disowned(facts: Facts) -> bool:
    """Whether `P` is on trial, trusts another key than signed it, and there is a way back."""
    state, program = facts.state, facts.program.foreign
    if state is None or state.trial is None or program is None or program.sha512 != state.trial.program.sha512:
        return False
    return _has_way_back(facts, state)


def _restorable(facts: Facts) -> bool:
    if facts.program.kind is not EntryKind.EMPTY or facts.launcher == "spawn" or facts.previous.id is None:
        return False
    return facts.state is None or facts.previous.id.sha512 not in facts.state.refused
