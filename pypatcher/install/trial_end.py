"""What ends a trial or one start of it: a confirmation, or the end of the program (install.md "Confirm", "End").

Runs inside a transaction. Not here: how many failed starts are too many (``decide``), and the way back (``reconcile``).
"""

from __future__ import annotations

from dataclasses import replace

from pypatcher.install.decide import Limits, closed_trial, let_in_again
from pypatcher.install.examine import Examined
from pypatcher.install.starts import Caller, Fate
from pypatcher.install.transaction import Session
from pypatcher.version import Version

__all__ = ["confirm_trial", "count_uptime", "end_start"]


def confirm_trial(session: Session, own: bytes) -> Version | None:
    """End the trial of the program whose SHA-512 is ``own``; see `Installation.confirm`."""
    session.operations.begin()
    state = session.operations.read_state()
    if state is None or state.trial is None or state.trial.program.sha512 != own or own in state.refused:
        return None
    found = session.examine_known(session.layout.target)
    if found.id is None or found.id.sha512 != own:
        return None
    session.operations.confirm(state)
    return found.id.version


def end_start(session: Session, requested: bool, caller: Caller, how: str = "") -> bool:
    """Close the open start if it is the caller's, or its systemd unit's; see `Installation.end_start`."""
    session.operations.begin()
    facts = session.facts(caller)
    state = facts.state
    trial = None if state is None else state.trial
    if state is None or trial is None or trial.open is None:
        return False
    unit = trial.open.boot_id == caller.boot_id and trial.open.start_id == caller.start_id
    if not unit and facts.fate is not Fate.OWN:
        return False
    ended = replace(trial, open=None) if requested else replace(closed_trial(trial, Fate.ENDED), ended=how)
    session.operations.count_start(state, ended)
    return True


def count_uptime(session: Session, seconds: int, limits: Limits) -> Version | None:
    """Let what failed its trial in again once it waited long enough; see `Installation.count_uptime`."""
    operations = session.operations
    operations.begin()
    state = operations.read_state()
    if state is None:
        return None
    failed = tuple(
        replace(one, waited=one.waited + seconds) if one.program.sha512 in state.refused else one
        for one in operations.read_failed()
        if one.program.version > state.newest
    )
    program, staged = session.examine(session.layout.target), session.examine(session.layout.staged)
    again = let_in_again(failed, state, _version(program), _version(staged), limits)
    if again is None:
        if failed != operations.read_failed():
            operations.write_failed(failed)
        return None
    operations.let_in_again(failed, again, state)
    return again.program.version


def _version(found: Examined) -> Version | None:
    return None if found.id is None else found.id.version
