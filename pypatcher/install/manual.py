"""What a person or a script does by command: ``confirm``, ``rollback``, ``adopt`` and ``stage`` (install.md "By hand").

`adopt` puts a file to the program's path as a person's rename would, which is what install.md's table takes it for
after a crash between any two of its steps: before the rename only ``previous`` has changed, after it the next start
finds a program that a person put there. Only a confirmed program becomes ``previous``: one on trial is no way back.
Not here: which keys and files a command accepts (``cli``).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

from pypatcher.errors import CannotReplaceError, StateError
from pypatcher.install.examine import EntryKind, Verify
from pypatcher.install.files import Files
from pypatcher.install.layout import Layout
from pypatcher.install.locks import hold_lock
from pypatcher.install.staging import place
from pypatcher.install.starts import Caller, Fate
from pypatcher.install.transaction import Session
from pypatcher.install.trial import ProgramId, TrialState
from pypatcher.install.trial_end import confirm_trial
from pypatcher.version import Version

if TYPE_CHECKING:
    from pypatcher.artifact import VerifiedRelease

__all__ = ["adopt", "confirm_running", "roll_back", "stage_file"]


def confirm_running(session: Session, caller: Caller) -> Version:
    """End the trial of the version that runs; see `Installation.confirm_running`."""
    program, facts = session.layout.program, session.facts(caller)
    state = facts.state
    if state is None or state.trial is None:
        raise StateError(f"{program} is not on trial: there is nothing to confirm")
    trial = state.trial
    if trial.program.sha512 in state.refused:
        raise StateError(f"version {trial.program.version} failed on this device, and its next start goes back")
    if facts.fate not in (Fate.ALIVE, Fate.OWN):
        raise StateError(f"version {trial.program.version} does not run: it is confirmed while it shows that it works")
    version = confirm_trial(session, trial.program.sha512)
    if version is None:
        raise StateError(f"{program} is another file than the one on trial: its next start finds out")
    return version


def roll_back(session: Session) -> tuple[Version, bool]:
    """Refuse what is at `P`, and put ``previous`` there if nothing runs from it; see `Installation.roll_back`."""
    session.operations.begin()
    state = session.operations.read_state()
    program, previous = map(session.examine_known, (session.layout.target, session.layout.previous))
    if previous.id is None or (program.id is not None and previous.id.sha512 == program.id.sha512):
        lacks = "no previous version here"
        if previous.kind is EntryKind.INVALID:
            lacks = f"a previous version here that is no way back ({previous.reason})"
        itself = "" if program.id is not None else f", and is no program of this owner's itself: {program.reason}"
        raise StateError(f"{session.layout.program} has {lacks}{itself}")
    if program.id is None:
        return _restore(session, state, previous.id), True
    state = _intend_rollback(session, state, program.id, previous.id)
    if not session.alone():
        return previous.id.version, False
    try:
        session.operations.finish_rollback(state)
    except OSError as error:
        raise StateError(
            f"going back to version {previous.id.version} IS decided, but could not be finished ({error.strerror}): "
            "the next start does it"
        ) from None
    finally:
        session.release()
    return previous.id.version, True


def _restore(session: Session, state: TrialState | None, previous: ProgramId) -> Version:
    """`P` is damaged or missing, so nobody can run from it: ``previous`` takes its place, and is confirmed by that."""
    if state is not None and previous.sha512 in state.refused:
        raise StateError(f"the previous version {previous.version} failed on this device")
    session.operations.rename_to_program(session.layout.previous)
    session.operations.adopt(previous, state)
    return previous.version


def stage_file(
    files: Files,
    layout: Layout,
    transaction: Callable[[], AbstractContextManager[Session]],
    source: int,
    verify: Verify,
) -> Version:
    """Copy a person's release, and stage it as a download is staged; see `Installation.stage_file`."""
    with _copied(files, layout, transaction, source, verify) as release, transaction() as session:
        place(session, layout.by_hand, release, by_person=True)
    return release.info.version


@contextmanager
def _copied(
    files: Files,
    layout: Layout,
    transaction: Callable[[], AbstractContextManager[Session]],
    source: int,
    verify: Verify,
) -> Iterator[VerifiedRelease]:
    """A person's file as ``by-hand``, verified and synced; gone at the end unless it has another name by then.

    No ``lock`` is held while a slow medium is read: a start of the program does not wait for that. Meanwhile a flock on
    the copy itself says that it is not what a killed process left.
    """
    entry = layout.by_hand
    with ExitStack() as held:
        with transaction() as session:
            if not session.operations.drop_by_hand():
                raise StateError(f"another command copies a file to {layout.path(entry)}: wait until it has ended")
            fd = files.create(entry)
            held.enter_context(hold_lock(files, entry))
        mine = files.fstat(fd).inode
        try:
            try:
                files.copy(source, fd)
                _take_attributes(files, layout, fd)
                release = verify(fd)
                files.sync(fd)
            finally:
                files.close(fd)
            yield release
        finally:
            found = files.stat(entry)
            if found is not None and found.inode == mine:
                files.unlink(entry)


def _intend_rollback(session: Session, state: TrialState | None, program: ProgramId, previous: ProgramId) -> TrialState:
    if state is not None and previous.sha512 in state.refused:
        raise StateError(f"the previous version {previous.version} failed on this device")
    state = state or TrialState(program, program.version)
    note = f"{program.version} was rolled back by hand"
    if state.trial is not None and state.trial.program.sha512 == program.sha512:
        if state.confirmed.sha512 != previous.sha512:
            raise StateError(f"the previous version {previous.version} is not the confirmed one")
        refused = program.sha512 in state.refused
        return state if refused else session.operations.intend_rollback(state, note)
    return session.operations.intend_rollback_of_confirmed(state, program, previous, note)


def adopt(
    files: Files,
    layout: Layout,
    transaction: Callable[[], AbstractContextManager[Session]],
    source: int,
    verify: Verify,
) -> Version:
    """Copy, verify, keep the way back, rename, write it down; see `Installation.adopt`."""
    with _alone(transaction) as session:
        _check_replaceable(session)
    with _copied(files, layout, transaction, source, verify) as release, _alone(transaction) as session:
        return _put(session, release)


@contextmanager
def _alone(transaction: Callable[[], AbstractContextManager[Session]]) -> Iterator[Session]:
    with transaction() as session:
        if not session.alone():
            raise CannotReplaceError(f"{session.layout.program} runs: stop it first")
        try:
            yield session
        finally:
            session.release()


def _put(session: Session, release: VerifiedRelease) -> Version:
    layout, operations = session.layout, session.operations
    _check_replaceable(session)
    operations.begin()
    operations.remove_stale_partials()
    adopted = ProgramId(release.sha512, release.info.version)
    state, program = operations.read_state(), session.examine_known(layout.target)
    if program.id is not None and program.stat is not None and program.id.sha512 != adopted.sha512:
        confirmed = state is None or (state.trial is None and state.confirmed.sha512 == program.id.sha512)
        if confirmed:
            operations.keep_previous(program.stat)
    operations.rename_to_program(layout.by_hand)
    try:
        operations.adopt(adopted, state)
        staged = session.examine(layout.staged).id
        if staged is None or staged.version <= adopted.version:
            operations.drop_staged()
    except OSError as error:
        raise StateError(
            f"{layout.program} IS version {adopted.version} now, but that could not be written down "
            f"({error.strerror}): its next start does it"
        ) from None
    return adopted.version


def _check_replaceable(session: Session) -> None:
    """What is no program, good or damaged, is somebody's file that was named by mistake."""
    from pypatcher.artifact.sections import ELF_MAGIC

    found = session.files.stat(session.layout.target)
    if found is None or session.examine(session.layout.target).kind is not EntryKind.INVALID:
        return
    fd = session.files.open(session.layout.target) if found.regular else None
    head = b""
    if fd is not None:
        head = session.files.read(fd, len(ELF_MAGIC))
        session.files.close(fd)
    if not found.regular or (head.strip(b"\0") and head != ELF_MAGIC and not head.startswith((b"#!", b"PK"))):
        raise CannotReplaceError(f"{session.layout.program} is no program: if it may go, move it away first")


def _take_attributes(files: Files, layout: Layout, fd: int) -> None:
    """Owner, attributes and mode are those of the program that was there.

    Where there was none, the file that is adopted says nothing either: it was copied here by whoever, in any mode. It
    belongs to the folder's owner already, and is made a program that can be started.
    """
    try:
        old = files.open(layout.target)
    except FileNotFoundError:
        files.make_executable(fd)
        return
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CannotReplaceError(f"{layout.program} is a symbolic link: remove it") from None
        raise
    try:
        files.copy_attributes(old, fd)
    finally:
        files.close(old)
