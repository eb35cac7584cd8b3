"""Carries out a start: look, decide, do, until a row says run (install.md "What to do, from what is on disk").

`settle` runs inside one transaction. It maps every action of ``decide`` to its operations and keeps the account of what
happened. The only decision made here is install.md "Full disk": when the start of a trial cannot be written down
because the disk is full, the program goes back without a record, or a full disk would hide every crash.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pypatcher.errors import PatcherError, StateError
from pypatcher.install.decide import Action, Decision, Limits, closed_trial, decide
from pypatcher.install.examine import Examined, vouched
from pypatcher.install.facts import DiskFacts
from pypatcher.install.file_stat import FileStat
from pypatcher.install.layout import Entry, Layout
from pypatcher.install.starts import Caller, Fate
from pypatcher.install.state_folder import OpenFolders, StateFolder
from pypatcher.install.transaction import Session
from pypatcher.install.trial import ProgramId, TrialState
from pypatcher.version import Version

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo

__all__ = ["Settled", "is_another", "program_stat", "settle"]

_log = logging.getLogger("pypatcher")

_ROUNDS = 16
"""Rounds of the table at most; the longest way that a disk can need is under half of it."""


_CHANGING_ROWS = {6, 8, 10, 12, 13, 15, 17, 19}


@dataclass(frozen=True, slots=True)
class Settled:
    """The result of a start: what runs, what was changed, and why there are no updates if there are none.

    Attributes:
        row: the row of install.md's table that ended the loop; 0 when the state folder could not be used.
        program: what is at `P`; None when it is no program of the owner's.
        info: its `PatchInfo`.
        activated: the version that was put to `P` just now.
        rolled_back: the version that was taken from `P` just now because it failed.
        on_trial: whether `P` is still to be confirmed.
        failed: starts of the trial that ended by themselves.
        must_exec: `P` is not the caller's own file any more: it must exec, or leave, before its application runs.
        serve: whether `P` may be announced and served.
        reason: why this device takes no updates now, one line; empty when it does.
    """

    row: int
    program: ProgramId | None = None
    info: PatchInfo | None = None
    activated: Version | None = None
    rolled_back: Version | None = None
    on_trial: bool = False
    failed: int = 0
    must_exec: bool = False
    serve: bool = False
    reason: str = ""

    @property
    def put_off(self) -> bool:
        """Whether `P` should have changed and did not: the disk is full, or other processes run from it.

        Another restart would end here again; the next start that comes by itself tries again.
        """
        return self.row in _CHANGING_ROWS and not self.must_exec

    @property
    def waits(self) -> bool:
        """Whether it should have changed, and others run from it."""
        return self.put_off and not self.reason

    @property
    def version(self) -> Version | None:
        """The version at `P`."""
        return None if self.program is None else self.program.version


def settle(session: Session, caller: Caller, limits: Limits, before: FileStat | None) -> Settled:
    """Run the table until a row says run, or until `P` changed under a caller that runs from it.

    Args:
        before: `P` before anything was done for this start. An error may hide that it was renamed since, and a caller
            that runs from it would then take itself for the new program.
    """
    return _Settling(session, caller, limits, before).run()


class _Settling:
    def __init__(self, session: Session, caller: Caller, limits: Limits, before: FileStat | None) -> None:
        self._session = session
        self._caller = caller
        self._limits = limits
        self._before = before
        self._changed = False
        self._failed = False
        self._activated: Version | None = None
        self._rolled_back: Version | None = None

    def run(self) -> Settled:
        session = self._session
        session.operations.begin()
        with contextlib.suppress(OSError):
            session.operations.drop_by_hand()
        for _ in range(_ROUNDS):
            facts = session.facts(self._caller)
            if self._caller.launcher == "spawn" and not self._changed and is_another(self._before, facts.program.stat):
                self._note_change(activated=None if facts.program.id is None else facts.program.id.version)
                return self._told(Decision(0, Action.RUN), "")
            decision = decide(facts, self._limits)
            _log.debug("row %d: %s", decision.row, decision.action.value)
            try:
                self._carry_out(decision, facts)
            except StateError as error:
                _log.warning("%s; looking again", error)
                session.operations.begin()
                continue
            except OSError as error:
                if not self._failed:  # what fails once costs an attempt
                    self._failed = True
                    session.operations.begin()
                    continue
                if not self._goes_back_unrecorded(decision, facts):
                    return self._told(decision, f"{session.layout.state_folder}: {error.strerror}")
                _log.warning("the disk cannot be written (%s): back to the previous version", error.strerror)
                continue
            if decision.runs or (self._changed and self._caller.launcher == "spawn"):
                return self._told(decision, "")
        return self._told(Decision(0, Action.RUN), f"{session.layout.state_folder} never came to rest: report this")

    def _carry_out(self, decision: Decision, facts: DiskFacts) -> None:
        """Do what a row says; what only runs needs nothing done."""
        operations, layout = self._session.operations, self._session.layout
        state, program = facts.state, facts.program
        match decision.action:
            case Action.RESTORE:
                operations.rename_to_program(layout.previous)
                self._note_change()
            case Action.ADOPT_WITH_WAY_BACK:
                operations.adopt_with_way_back(_id(program), _id(facts.previous))
            case Action.ADOPT | Action.BY_HAND:
                staged = facts.staged
                if decision.action is Action.BY_HAND and (
                    staged.id is None or staged.id.version <= _id(program).version
                ):
                    operations.drop_staged()  # first: the fsync behind the new J holds it, too
                operations.adopt(_id(program), state)
            case Action.DROP_STAGED:
                operations.drop_staged()
            case Action.SET_ASIDE:
                operations.set_aside()
            case Action.COUNT:
                self._count(facts)
            case _:
                if state is not None and not decision.runs:
                    self._change(decision, facts, state)

    def _change(self, decision: Decision, facts: DiskFacts, state: TrialState) -> None:
        """The rows that change `P` according to `J`, and row 11, which says that it was done."""
        operations, layout = self._session.operations, self._session.layout
        program = facts.program
        match decision.action:
            case Action.CLEAR_TRIAL:
                operations.clear_trial(state)
            case Action.ACTIVATE if program.stat is not None:
                operations.activate(_id(facts.staged), state, program.stat)
                self._note_change(activated=_id(facts.staged).version)
            case Action.RESUME_ACTIVATION if program.stat is not None:
                operations.keep_previous(program.stat)
                operations.place_staged(program.stat)
                self._note_change(activated=_id(facts.staged).version)
            case Action.PLACE_TRIAL:
                operations.rename_to_program(layout.staged)
                self._note_change(activated=_id(facts.staged).version)
            case Action.GIVE_WAY:
                operations.give_way()
                self._note_change(rolled_back=_id(program).version)
            case Action.REPLACE_TRIAL:
                operations.replace_trial(_id(facts.staged), state, self._note(facts))
                self._note_change(activated=_id(facts.staged).version, rolled_back=_id(program).version)
            case Action.ROLL_BACK:
                intent = operations.intend_rollback_by_trial(state, self._note(facts))
                self._finish_rollback(facts, intent)
            case Action.FINISH_ROLLBACK:
                self._finish_rollback(facts, state)
            case Action.DISOWN:
                self._finish_rollback(facts, operations.intend_rollback(state, _disowned(state)))
            case Action.REFUSE:
                operations.intend_rollback(state, _disowned(state))

    def _finish_rollback(self, facts: DiskFacts, state: TrialState) -> None:
        # The program is back from the rename on, whether or not the record of it can be written then.
        self._session.operations.rename_to_program(self._session.layout.previous)
        self._note_change(rolled_back=_trial_version(state))
        self._session.operations.write_state(replace(state, trial=None))

    def _count(self, facts: DiskFacts) -> None:
        """Row 16: close the start that was open, open this one; a second process counts nothing."""
        state = facts.state
        if state is None or state.trial is None or facts.fate in {Fate.OWN, Fate.ALIVE}:
            return
        trial = closed_trial(state.trial, facts.fate, facts.is_held)
        if facts.fate is Fate.CLAIMABLE and trial.open is not None:
            start = self._caller.claim(trial.open)
        else:
            start = self._caller.start()
        self._session.operations.count_start(state, replace(trial, open=start))

    def _goes_back_unrecorded(self, decision: Decision, facts: DiskFacts) -> bool:
        """Below install.md's table: `J` could not be written for a start on trial."""
        state, previous = facts.state, facts.previous.id
        if decision.action not in {Action.COUNT, Action.ROLL_BACK, Action.DISOWN} or self._changed or not facts.alone:
            return False
        if state is None or previous is None or previous.sha512 != state.confirmed.sha512:
            return False
        if previous.sha512 in state.refused:
            return False
        try:
            self._session.operations.rename_to_program(self._session.layout.previous)
        except OSError:
            return False
        self._note_change(rolled_back=_trial_version(state))
        return True

    def _note_change(self, activated: Version | None = None, rolled_back: Version | None = None) -> None:
        self._changed = True
        self._activated = activated
        self._rolled_back = rolled_back or self._rolled_back
        for entry in (self._session.layout.target, self._session.layout.previous):
            self._session.remember(entry)

    def _note(self, facts: DiskFacts) -> str:
        trial = None if facts.state is None else facts.state.trial
        if trial is None:
            return ""
        closed = closed_trial(trial, facts.fate, facts.is_held)
        last = f"; the last ended with {closed.ended}" if closed.ended else ""
        return f"{trial.program.version}: {closed.failed} failed starts, {closed.reboots} reboots on trial{last}"

    def _told(self, decision: Decision, reason: str) -> Settled:
        session = self._session
        state, found = session.operations.read_state(), session.examine(session.layout.target)
        if self._changed or self._caller.launcher != "spawn":
            found = vouched(found, state)
        if found.id is None:
            reason = reason or f"{session.layout.program} gets no updates: {found.reason}"
        refused = found.id is not None and state is not None and found.id.sha512 in state.refused
        trial = None if state is None else state.trial
        on_trial = trial is not None and found.id is not None and trial.program.sha512 == found.id.sha512
        return Settled(
            row=decision.row,
            program=found.id,
            info=found.info,
            activated=self._activated,
            rolled_back=self._rolled_back,
            on_trial=on_trial and not refused,
            failed=trial.failed if trial is not None and on_trial else 0,
            must_exec=self._changed and self._caller.launcher == "spawn",
            serve=found.id is not None and not refused,
            reason=reason,
        )


def program_stat(folders: OpenFolders, layout: Layout, beside: Entry | None = None) -> FileStat | None:
    """What `P`, or a file ``beside`` it, is now, unread; None where that cannot be told."""
    try:
        with folders(layout, StateFolder.IGNORED if beside is None else StateFolder.IF_THERE) as files:
            return files.stat(beside or layout.target)
    except (OSError, PatcherError):
        return None


def is_another(before: FileStat | None, now: FileStat | None) -> bool:
    """Whether `P` is another file than it was."""
    return before is not None and now is not None and (before.device, before.inode) != (now.device, now.inode)


def _trial_version(state: TrialState) -> Version | None:
    return None if state.trial is None else state.trial.program.version


def _disowned(state: TrialState) -> str:
    return f"{_trial_version(state)}: the public key in it is not the one that signed it"


def _id(found: Examined) -> ProgramId:
    if found.id is None:
        raise StateError(f"a program was expected: {found.reason}")
    return found.id
