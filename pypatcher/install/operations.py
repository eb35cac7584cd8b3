"""Every operation of install.md on files, in its exact order; nothing here decides whether it is the right one.

Each fsync and each order below is there because its removal loses a program or a version's trial at some power cut
(``tests/faults/test_install_model.py`` takes them away one by one). All of it goes through `Files`, so that the same
code runs on a simulated disk. Callers hold the flock ``lock``.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection
from dataclasses import replace

from pypatcher.errors import StateError
from pypatcher.install.file_stat import FileStat
from pypatcher.install.files import Files
from pypatcher.install.layout import PARTIAL_PREFIX, Entry, Folder, Layout
from pypatcher.install.locks import hold_lock
from pypatcher.install.second_trial import (
    SECOND_TRIALS_LIMIT,
    FailedTrial,
    decode_failed,
    encode_failed,
    with_failure,
    without,
)
from pypatcher.install.trial import HASH_SIZE, STATE_LIMIT, ProgramId, Trial, TrialState, decode_state, encode_state
from pypatcher.shortage import is_shortage

__all__ = ["WORD_LIMIT", "Operations"]

WORD_LIMIT = 1 << 13
"""Bytes that are read of an owner's word at most; a longer one is damaged."""

_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EXDEV}
_NOTHING_TO_SYNC = {errno.ENOENT, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO}
"""What is absent, a link or not ours to read holds nothing that a decision relies on; its examination says so."""


class Operations:
    """The operations on one installation's files."""

    def __init__(self, files: Files, layout: Layout) -> None:
        self._files = files
        self._layout = layout

    def begin(self) -> None:
        """**Begin**: what a killed process left becomes durable before anything is decided from it."""
        self._sync(self._layout.state)
        self._sync(self._layout.target)
        self._files.sync_folder(Folder.STATE)
        self._files.sync_folder(Folder.PROGRAM)

    def read_state(self) -> TrialState | None:
        """`J` as it is; None when it is absent or, at two reads, damaged.

        Raises:
            OSError: the system lacks what a read takes, which says nothing about the file: without `J` a version on
                trial would pass for a confirmed one.
        """
        for last in (False, True):
            try:
                fd = self._files.open(self._layout.state)
                try:
                    return decode_state(self._files.read(fd, STATE_LIMIT + 1))
                finally:
                    self._files.close(fd)
            except FileNotFoundError:
                return None
            except OSError as error:
                if last and is_shortage(error):
                    raise
        return None

    def write_state(self, state: TrialState) -> None:
        """**Write J**: it is the old one or the new one, whatever happens."""
        self._replace(self._layout.state, self._layout.state_new, encode_state(state))

    def read_failed(self) -> tuple[FailedTrial, ...]:
        """The releases that failed their trial, as far as can be read."""
        return decode_failed(self._content(self._layout.second_trials, SECOND_TRIALS_LIMIT + 1) or b"")

    def write_failed(self, failed: tuple[FailedTrial, ...]) -> None:
        """**Second trials**: durable before any step that relies on it."""
        self._replace(self._layout.second_trials, self._layout.second_trials_new, encode_failed(failed))

    def note_failed_trial(self, state: TrialState) -> None:
        """Before a refusal by trial: the release may be tried again. What cannot be noted is refused for good."""
        with contextlib.suppress(OSError):
            self.write_failed(with_failure(self.read_failed(), _trial_of(state).program))

    def refuse_for_good(self, sha512: bytes) -> None:
        """Before a refusal that is not by trial, of what may have failed one before."""
        failed = self.read_failed()
        if (left := without(failed, sha512)) != failed:
            self.write_failed(left)

    def let_in_again(self, failed: tuple[FailedTrial, ...], again: FailedTrial, state: TrialState) -> None:
        """**Second trials**: counted first, so that no power cut makes more of them."""
        counted = replace(again, again=again.again + 1, waited=0)
        self.write_failed(tuple(counted if one is again else one for one in failed))
        self.write_state(state.accepting(again.program.sha512))

    def read_word(self, name: str) -> tuple[bytes | None, bytes | None]:
        """An owner's word and its flag, a few KiB each at most: None where absent, empty where it cannot be read.

        Raises:
            OSError: the system lacks what a read takes, which says nothing about the files.
        """
        word, flag = self._layout.word(name), self._layout.word_flag(name)
        return self._content_if_there(word, WORD_LIMIT + 1), self._content_if_there(flag, WORD_LIMIT + 1)

    def write_word(self, name: str, data: bytes, flag: bytes) -> None:
        """**The owner's word**: content and seq in one file; the flag never says more than was kept."""
        for entry, content in ((self._layout.word(name), data), (self._layout.word_flag(name), flag)):
            self._replace(entry, Entry(Folder.STATE, f"{entry.name}.new"), content)

    def read_spared(self) -> bytes:
        """The hash of the release that a person staged; empty for none."""
        return self._content(self._layout.spared, HASH_SIZE + 1) or b""

    def write_spared(self, sha512: bytes) -> None:
        """Before a person's release is ``staged``."""
        self._replace(self._layout.spared, self._layout.spared_new, sha512)

    def drop_by_hand(self) -> bool:
        """Remove what a killed ``stage`` left; False where one copies just now, which holds a flock on it."""
        if self._files.stat(self._layout.by_hand) is not None:
            with hold_lock(self._files, self._layout.by_hand) as left:
                if not left:
                    return False
                self._files.unlink(self._layout.by_hand)
        return True

    def read_device(self) -> bytes:
        """What is remembered of which device this is; empty for nothing."""
        return self._content(self._layout.device, WORD_LIMIT + 1) or b""

    def write_device(self, data: bytes) -> None:
        """One file by another."""
        self._replace(self._layout.device, self._layout.device_new, data)

    def set_aside(self) -> None:
        """Row 18: the owner's word forbids what is staged."""
        self._files.rename(self._layout.staged, self._layout.waiting)
        self._files.sync_folder(Folder.STATE)

    def take_back(self) -> None:
        """The owner's word allows what waits."""
        self._files.rename(self._layout.waiting, self._layout.staged)
        self._files.sync_folder(Folder.STATE)

    def drop_waiting(self) -> None:
        """What waits is not newer than what is here."""
        self._files.unlink(self._layout.waiting)

    def give_way(self) -> None:
        """Row 19: the version on trial, which did not fail, waits; ``previous`` was verified to be the confirmed one.

        Never `J` first: after a cut `P` would look like a file that a person put there.
        """
        self._files.unlink(self._layout.waiting)
        # A full disk, or one without hard links, keeps nobody from going back: what would wait is fetched again.
        with contextlib.suppress(OSError):
            self._files.link(self._layout.target, self._layout.waiting)
        self.rename_to_program(self._layout.previous)

    def adopt(self, program: ProgramId, state: TrialState | None) -> None:
        """Rows 3, 4, 9, **By hand**: what is at `P` is the confirmed program from now on, refused or not."""
        self.sync_program()
        refused = TrialState(program, program.version) if state is None else state.accepting(program.sha512)
        self.write_state(replace(refused, confirmed=program, newest=program.version, trial=None))

    def adopt_with_way_back(self, program: ProgramId, previous: ProgramId) -> None:
        """Row 2: `J` was lost while there is something to go back to, so `P` may have been on trial."""
        self.sync_program()
        self._sync(self._layout.previous)
        self.write_state(TrialState(previous, previous.version, trial=Trial(program)))

    def drop_staged(self) -> None:
        """Row 5, and after **By hand**: a release that is not newer than what is there."""
        self._files.unlink(self._layout.staged)

    def activate(self, staged: ProgramId, state: TrialState, program: FileStat) -> None:
        """**Activate** steps 2 to 6; step 1, verifying ``staged``, is the examination it was decided from.

        Args:
            staged: what ``staged`` is.
            state: `J` as read in this transaction.
            program: `P` when it was hashed.
        """
        self.keep_previous(program)
        self.write_state(replace(state, trial=Trial(staged)))
        self.place_staged(program)

    def keep_previous(self, program: FileStat) -> None:
        """**Activate** steps 2 to 4: ``previous`` is the inode at `P`, durably."""
        files, layout = self._files, self._layout
        self._sync(layout.target)
        files.unlink(layout.previous_new)
        previous = files.stat(layout.previous)
        if previous is None or (previous.device, previous.inode) != (program.device, program.inode):
            try:
                files.link(layout.target, layout.previous_new)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._copy(layout.target, layout.previous_new)
            files.rename(layout.previous_new, layout.previous)
        files.sync_folder(Folder.STATE)

    def place_staged(self, program: FileStat) -> None:
        """**Activate** step 6.

        Raises:
            StateError: `P` is not the file any more that was hashed; nothing was changed by this step.
        """
        if not program.same_content(self._files.stat(self._layout.target)):
            raise StateError(f"{self._layout.program} changed while an update was being activated")
        self.rename_to_program(self._layout.staged)

    def rename_to_program(self, source: Entry) -> None:
        """The one way in which `P` changes: one rename, then fsync D, fsync S."""
        self._files.rename(source, self._layout.target)
        self._files.sync_folder(Folder.PROGRAM)
        self._files.sync_folder(Folder.STATE)

    def replace_trial(self, staged: ProgramId, state: TrialState, note: str) -> None:
        """Row 13: the version on trial failed without a way back, a newer one is here; one write says both."""
        trial = _trial_of(state)
        self.note_failed_trial(state)
        self.write_state(replace(state.refusing(trial.program.sha512, note), trial=Trial(staged)))
        self.rename_to_program(self._layout.staged)

    def clear_trial(self, state: TrialState) -> None:
        """Row 11: the confirmed program is at `P`."""
        self.sync_program()
        self.write_state(replace(state, trial=None))

    def count_start(self, state: TrialState, trial: Trial) -> None:
        """**Start on trial**: the trial as it is with this start."""
        self.write_state(replace(state, trial=trial))

    def confirm(self, state: TrialState) -> None:
        """**Confirm**: the program on trial, which is at `P`, is the confirmed one."""
        program = _trial_of(state).program
        self.sync_program()
        self.write_state(replace(state, confirmed=program, newest=program.version, trial=None))

    def intend_rollback(self, state: TrialState, note: str) -> TrialState:
        """**Roll back**, first write: the hash is refused and the trial still there; this is the intent."""
        self.refuse_for_good(_trial_of(state).program.sha512)
        return self._intend_rollback(state, note)

    def intend_rollback_by_trial(self, state: TrialState, note: str) -> TrialState:
        """The same for a version that failed its trial, which may get another."""
        self.note_failed_trial(state)
        return self._intend_rollback(state, note)

    def _intend_rollback(self, state: TrialState, note: str) -> TrialState:
        intent = state.refusing(_trial_of(state).program.sha512, note)
        self.write_state(intent)
        return intent

    def finish_rollback(self, state: TrialState) -> None:
        """**Roll back**, the rest: ``previous`` was verified to be the confirmed program."""
        self.rename_to_program(self._layout.previous)
        self.write_state(replace(state, trial=None))

    def intend_rollback_of_confirmed(
        self, state: TrialState, program: ProgramId, previous: ProgramId, note: str
    ) -> TrialState:
        """``pypatcher rollback`` of a confirmed `P`: confirmed = previous and trial = P, refused."""
        self._sync(self._layout.previous)
        return self.intend_rollback(replace(state, confirmed=previous, trial=Trial(program)), note)

    def remove_stale_partials(self, keep: Collection[str] = ()) -> None:
        """**Stage**, first: downloads that nobody finishes any more; not those named ``keep``."""
        for name in self._files.names():
            if name.startswith(PARTIAL_PREFIX) and name not in keep:
                self._files.unlink(Entry(Folder.STATE, name))

    def place_partial(self, partial: Entry) -> None:
        """**Stage**, last: the file is verified and fsynced."""
        self._files.rename(partial, self._layout.staged)
        self._files.sync_folder(Folder.STATE)

    def keep_waiting(self, partial: Entry) -> None:
        """**Stage**, last, where the owner's word changed since the download began: it waits."""
        self._files.rename(partial, self._layout.waiting)

    def sync_program(self) -> None:
        """fsync P, D: what is there is what stays there."""
        self._sync(self._layout.target)
        self._files.sync_folder(Folder.PROGRAM)

    def _replace(self, entry: Entry, new: Entry, data: bytes) -> None:
        """One file by another: it is the old one or the new one, whatever happens."""
        self._files.unlink(new)
        fd = self._files.create(new)
        try:
            self._files.write(fd, data)
            self._files.sync(fd)
        finally:
            self._files.close(fd)
        self._files.rename(new, entry)
        self._files.sync_folder(Folder.STATE)

    def _content(self, entry: Entry, limit: int) -> bytes | None:
        """A small file, or None where it is absent or cannot be read."""
        with contextlib.suppress(OSError):
            fd = self._files.open(entry)
            try:
                return self._files.read(fd, limit)
            finally:
                self._files.close(fd)
        return None

    def _content_if_there(self, entry: Entry, limit: int) -> bytes | None:
        try:
            self._files.close(self._files.open(entry))
        except FileNotFoundError:
            return None
        except OSError as error:
            if is_shortage(error):
                raise
        return self._content(entry, limit) or b""

    def _sync(self, entry: Entry) -> None:
        try:
            fd = self._files.open(entry)
        except OSError as error:
            if error.errno in _NOTHING_TO_SYNC:
                return
            raise
        try:
            self._files.sync(fd)
        finally:
            self._files.close(fd)

    def _copy(self, source: Entry, target: Entry) -> None:
        source_fd = self._files.open(source)
        try:
            target_fd = self._files.create(target)
            try:
                self._files.copy(source_fd, target_fd)
                self._files.seal(target_fd, target)
                self._files.copy_attributes(source_fd, target_fd)
                self._files.sync(target_fd)
            finally:
                self._files.close(target_fd)
        finally:
            self._files.close(source_fd)


def _trial_of(state: TrialState) -> Trial:
    if state.trial is None:
        raise StateError("no trial is on")
    return state.trial
