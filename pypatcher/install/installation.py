"""`Installation`: one program on this device, from its start to the next version's confirmation.

The shell around ``decide`` and ``operations``: it opens the folders, holds the locks, looks at what is on disk, asks
the table and has its answer carried out. It starts no process and knows no network. A program's start must never fail
because of an update, so `settle` returns in every case, and says why there are no updates where there are none.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pypatcher.errors import CannotReplaceError, PatcherError, StateError
from pypatcher.install.decide import LIMITS, Limits, chance, check_wanted
from pypatcher.install.examine import CANNOT_BE_UPDATED, EntryKind, Examined, Examiner, Verify, vouched
from pypatcher.install.file_stat import FileStat
from pypatcher.install.files import Files
from pypatcher.install.instances import Instance, Instances, Together
from pypatcher.install.layout import Layout
from pypatcher.install.local_release import LocalRelease, held
from pypatcher.install.locks import SharedHold, hold_lock
from pypatcher.install.manual import adopt, confirm_running, roll_back, stage_file
from pypatcher.install.next_release import next_release
from pypatcher.install.operations import Operations
from pypatcher.install.orders import ReadOrders, no_orders
from pypatcher.install.partials import Partial, Partials
from pypatcher.install.preflight import FilesystemType, Preflight, filesystem_type
from pypatcher.install.put_off import PutOff
from pypatcher.install.reconcile import Settled, is_another, program_stat, settle
from pypatcher.install.report import read_report, write_report
from pypatcher.install.staging import make_ready, stage
from pypatcher.install.starts import Caller, Launcher, current_caller, process_lives
from pypatcher.install.state_folder import OpenFolders, StateFolder, open_folders
from pypatcher.install.status import Presence, Status, describe_installation, look_at_locks
from pypatcher.install.transaction import Session, transaction_files
from pypatcher.install.trial import ProgramId
from pypatcher.install.trial_end import confirm_trial, count_uptime, end_start
from pypatcher.install.words import Words
from pypatcher.shortage import persisting
from pypatcher.trusted_path import resolve
from pypatcher.version import Version

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo

__all__ = ["Installation"]

_log = logging.getLogger("pypatcher")
_Seen = TypeVar("_Seen")


class Installation:
    """One program and the folder beside it, as this process uses them. One object per process and program.

    Its methods may be called from any thread, and block: they hash and fsync.

    Args:
        program: the program's path; symbolic links are resolved once (for root, none that others can change).
        verify: what makes a file a release: `owner_verifies`, or `check_intact` for people who only look.
        kind: tells the type of a folder's filesystem.
        folders: how files are reached; the real disk unless a test says otherwise.
        lives: whether a process (pid, start time in ticks) still runs.
        limits: how many starts of a trial may fail.
        orders: what the owner's word says that is stored here.
    """

    def __init__(
        self,
        program: Path,
        verify: Verify,
        *,
        kind: FilesystemType = filesystem_type,
        folders: OpenFolders = open_folders,
        lives: Callable[[int, int], bool] = process_lives,
        limits: Limits = LIMITS,
        orders: ReadOrders = no_orders,
    ) -> None:
        self.layout = Layout(resolve(program))
        self._folders = folders
        self._verify, self._lives, self._limits, self._orders = verify, lives, limits, orders
        self._examiner = Examiner(verify)
        self._instances = Instances(self.layout)
        self._others: tuple[Instance, ...] = ()
        self.together = Together(self.layout, folders, self._instances)
        self._preflight = Preflight(self.layout, folders, kind)
        self._partials = Partials(self.layout, folders)
        self.words = Words(self.layout, folders, self._session, self._open)
        self._updating = SharedHold()
        self._caller: Caller | None = None
        self._own: ProgramId | None = None
        self._own_stat: FileStat | None = None
        self._put_off = PutOff()
        self._being_staged = threading.Lock()

    @property
    def program(self) -> Path:
        """The program's path, `P`."""
        return self.layout.program

    @property
    def staged_path(self) -> Path:
        """Where a staged release lies."""
        return self.layout.path(self.layout.staged)

    def runs_from_here(self, was_replaced: Callable[[Path], bool] = lambda _other: False) -> None:
        """This process runs from what is at `P` now, or at ``previous``, whatever another instance puts there next."""
        entry = self.layout.previous if was_replaced(self.layout.path(self.layout.previous)) else None
        self._own_stat = program_stat(self._folders, self.layout, entry)

    def settle(
        self, launcher: Launcher, *, main_pid: int | None = None, caller: Caller | None = None, ends: bool = False
    ) -> Settled:
        """At a start, or at a restart after the old process ended: bring `P` to what it should be.

        Never raises for what is on disk. With ``guard`` and ``run`` the program is to be started next. With ``spawn``
        the caller runs from `P` itself: ``must_exec`` says that `P` is another program now, which counts its own start.

        Args:
            launcher: who launches the program.
            main_pid: see `current_caller`.
            caller: this process, where a test says so.
            ends: this process leaves when this has returned.
        """
        caller = caller or current_caller(launcher, os.environ, main_pid=main_pid)
        settled = self._settle(caller, ends)
        self._caller = caller
        self._own = None if settled.must_exec else settled.program
        self._put_off.note(settled, self._others, self.staged_release)
        return settled

    def recognise(self) -> None:
        """At the start of a program that ``run`` keeps: remember which one it is, to `confirm` it. Changes nothing."""

        def look(files: Files) -> ProgramId | None:
            state = Operations(files, self.layout).read_state()
            return vouched(self._examiner.examine(files, self.layout.target), state).id

        self._own = self._look(look)

    def _settle(self, caller: Caller, ends: bool) -> Settled:
        before = program_stat(self._folders, self.layout)
        if caller.launcher == "spawn":
            before = self._own_stat or before
        try:
            return persisting(lambda: self._try_to_settle(caller, before, ends))
        except (OSError, PatcherError) as error:
            reason = str(error) if isinstance(error, PatcherError) else f"{self.layout.state_folder}: {error.strerror}"
            must_exec = caller.launcher == "spawn" and is_another(before, program_stat(self._folders, self.layout))
            return replace(self._unmanaged(f"{self.program} gets no updates: {reason}"), must_exec=must_exec)

    def _try_to_settle(self, caller: Caller, before: FileStat | None, ends: bool) -> Settled:
        with self._folders(self.layout, StateFolder.IF_THERE) as files:
            if files.stat(self.layout.lock) is None:
                found = self._examiner.examine(files, self.layout.target)
                if found.kind is not EntryKind.GOOD and files.stat(self.layout.previous) is None:
                    return Settled(row=1, reason=f"{self.program} gets no updates: {found.reason}")
        with self._session() as session:
            try:
                return settle(session, caller, self._limits, before)
            finally:
                self._others = session.others()
                if caller.launcher == "guard":
                    session.release()
                else:
                    session.share(stays=not ends)

    def _unmanaged(self, reason: str) -> Settled:
        """What a start is told when the state folder cannot be used: the program runs, without updates."""
        found = self.running_info()
        serve = found.kind is EntryKind.GOOD and not self.layout.state_folder.exists()
        return Settled(row=0, program=found.id, info=found.info, serve=serve, reason=reason)

    def running_info(self) -> Examined:
        """What `P` is now: a good program and its `PatchInfo`, or the reason why it is none."""
        try:
            with self._folders(self.layout, StateFolder.IGNORED) as files:
                return self._examiner.examine(files, self.layout.target)
        except CannotReplaceError as error:
            return Examined(EntryKind.ABSENT, reason=str(error))
        except OSError as error:
            return Examined(EntryKind.ABSENT, reason=f"{self.layout.folder}: {error.strerror}")

    def preflight(self, size: int, *, allow_volatile: bool = False, change_nothing: bool = False) -> None:
        """Could a release whose file has ``size`` bytes be installed here?

        Args:
            allow_volatile: on an overlay, tmpfs or ramfs too, where updates are lost at the next boot.
            change_nothing: make no state folder to try things in.

        Raises:
            CannotReplaceError: no; one line says why and what would help.
        """
        self._preflight.check(size, allow_volatile, change_nothing=change_nothing, left=self._partials.left_bytes)

    def new_partial(self, info: PatchInfo | None = None) -> Partial:
        """A file for a download, or what is left of one of that release; for the holder of `updater_lock`, any thread.

        Raises:
            CannotReplaceError, OSError: the state folder cannot be used, the disk is full or broken.
        """
        return self._partials.new(info)

    def has_pending(self) -> bool:
        """Whether `settle` must come before the application's main: a release is staged, or a trial is on; cheap."""
        return bool(self._look(lambda files: files.stat(self.layout.staged) is not None or self._trial_is_on(files)))

    def on_trial(self) -> bool:
        """Whether a trial is on, as far as can be read; cheap."""
        return bool(self._look(self._trial_is_on))

    def check_wanted(self, version: Version, sha512: bytes = b"") -> None:
        """Would this device take a release of that version, as far as its announcement tells?

        Args:
            sha512: of the whole file, where it is known from an earlier download.

        Raises:
            NotNewerError, RefusedReleaseError: no; there is no use in fetching it.
            CannotReplaceError, OSError: the folders cannot be read, or `P` is no program of the owner's.
        """
        with self._folders(self.layout, StateFolder.IF_THERE) as files:
            # In this order: what is activated meanwhile is seen in one of the two places, what went back is refused.
            staged = self._examiner.examine(files, self.layout.staged).id
            program = self._examiner.examine(files, self.layout.target)
            if program.id is None:
                raise CannotReplaceError(f"{self.program} {CANNOT_BE_UPDATED}: {program.reason}")
            state = Operations(files, self.layout).read_state()
        check_wanted(ProgramId(sha512, version), program.id.version, state, staged)

    def stage(self, partial: Partial, expect: PatchInfo, said: Callable[[], object] = lambda: None) -> PatchInfo:
        """Verify a complete download and make it the release that is activated next; always ends with ``partial``.

        ``said`` is called once it is, before `release_for_restart` knows of it: no restart comes before that was said.

        Raises:
            ArtifactError: it is not what was announced, or not a release of the owner for this target.
            NotNewerError, RefusedReleaseError: this device does not want it.
            CannotReplaceError, OSError: it cannot be kept here; nothing was changed.
        """
        with partial:
            with self._folders(self.layout, StateFolder.MADE) as files:
                release = make_ready(files, self.layout, partial, expect, self._verify)
            with self._being_staged, self._session() as session:
                stage(session, partial, release)
                said()
        self._partials.tidy(release.info.version)
        return release.info

    def held(self) -> tuple[LocalRelease, ...]:
        """What may be announced and served, newest first: all that is here and not refused."""
        return self._look(lambda files: held(files, self.layout, self._examiner)) or ()

    def staged_release(self) -> LocalRelease | None:
        """The release that waits for the next start, if it is good and not refused."""
        staged = self.layout.path(self.layout.staged)
        return next((one for one in self.held() if one.path == staged), None)

    def release_for_restart(self) -> LocalRelease | None:
        """The release that a restart would bring to `P`; None during a trial that goes on, or if it was put off."""
        with self._being_staged:
            found = self._look(lambda files: next_release(self._open(files), self._limits))
        return None if found is None or self._put_off.covers(found) else found

    def confirm(self, own: bytes | None = None) -> Version | None:
        """The program that this process runs works: end its trial. None when there is nothing to confirm.

        Args:
            own: the program's SHA-512 over its whole file; by default the one that `settle` found.

        Raises:
            CannotReplaceError, OSError: it cannot be written down; try again.
        """
        own = own or (None if self._own is None else self._own.sha512)
        if own is None:
            return None

        def work(known: bytes = own) -> Version | None:
            with self._session() as session:
                return confirm_trial(session, known)

        return persisting(work)

    def confirm_running(self) -> Version:
        """From outside: the version on trial that runs now works, so its trial ends.

        Raises:
            StateError: nothing is on trial, or it does not run.
            CannotReplaceError, OSError: it cannot be written down; try again.
        """
        with self._folders(self.layout, StateFolder.IF_THERE) as files:
            if Operations(files, self.layout).read_state() is None:  # and no folder is made
                raise StateError(f"{self.program} is not on trial: there is nothing to confirm")
        with self._session() as session:
            return confirm_running(session, current_caller("spawn", {}))

    def end_start(self, requested: bool, how: str = "", *, caller: Caller | None = None) -> bool:
        """The start that this process counted (or its systemd unit's guard did) ends; False when there is none.

        Args:
            requested: somebody asked for it: call this BEFORE the signal is forwarded. Otherwise it failed.
            how: for people, 100 characters at most: exit status or signal, after how long, when.
            caller: this process, where it is not the one that called `settle` or where a test says so.

        Raises:
            OSError: the disk is full or broken; the next start counts it.
        """
        caller = caller or self._caller or current_caller("guard", os.environ)

        def work(known: Caller = caller) -> bool:
            with self._session() as session:
                return end_start(session, requested, known, how)

        return persisting(work)

    def roll_back(self) -> tuple[Version, bool]:
        """By hand, back to ``previous``; the version at `P` is refused from now on.

        Returns:
            The version to go back to, and whether it is at `P` already. It is not while the program runs: then the
            next start finishes the rollback.

        Raises:
            StateError: there is nothing to go back to.
            CannotReplaceError, OSError: it cannot be done here; nothing was changed.
        """
        with self._session() as session:
            return roll_back(session)

    def may_be_let_in(self) -> bool:
        """Whether a release waits for another trial; cheap, and no folder is made."""
        return bool(self._look(lambda files: Operations(files, self.layout).read_failed()))

    def count_uptime(self, seconds: int) -> Version | None:
        """So long the node was up since it was asked last: what failed its trial may get another by now.

        Only the holder of `updater_lock` may.

        Returns:
            The version that is refused no longer.

        Raises:
            CannotReplaceError, OSError: it cannot be written down; it stays refused.
        """
        with self._session() as session:
            return count_uptime(session, seconds, self._limits)

    def adopt(self, source: int) -> Version:
        """By hand: put the release in the open file ``source`` to `P`, whole, whatever its version.

        What scp over the program cannot do: nothing is changed unless the file is a release of the owner for this
        device, what was confirmed at `P` stays as the way back, and `P` changes by one rename.

        Raises:
            ArtifactError: it is no release for this device.
            CannotReplaceError, OSError: it cannot be done here, or the program runs; `P` was not changed.
        """
        if self.program.exists():
            # A person who puts a file on a volatile disk knows it.
            self._preflight.check(os.fstat(source).st_size, True, for_owner=True)
        with self._folders(self.layout, StateFolder.MADE) as files:
            return adopt(files, self.layout, self._session, source, self._verify)

    def stage_file(self, source: int) -> Version:
        """By hand: stage the release in the open file ``source``, as a download is staged; the program may run.

        Raises:
            ArtifactError: it is no release for this device.
            NotNewerError, RefusedReleaseError: this device does not want it.
            StateError, CannotReplaceError, OSError: it cannot be kept here; nothing was changed.
        """
        self._preflight.check(os.fstat(source).st_size, True, for_owner=True)
        with self._folders(self.layout, StateFolder.MADE) as files:
            return stage_file(files, self.layout, self._session, source, self._verify)

    def read_report(self, limit: int) -> bytes:
        """What `write_report` wrote, ``limit`` bytes at most; empty when there is nothing that can be read."""
        return self._look(lambda files: read_report(files, self.layout, limit)) or b""

    def write_report(self, data: bytes) -> None:
        """Keep what the node says about itself beside the program, for people; cards wear out, so it is not synced.

        Only the holder of `updater_lock` may.

        Raises:
            CannotReplaceError, OSError: it cannot be written here.
        """
        with self._folders(self.layout, StateFolder.MADE) as files:
            write_report(files, self.layout, data)

    def status(self) -> Status:
        """What is here, for people and scripts. Changes nothing, takes no lock.

        Raises:
            CannotReplaceError, OSError: the folders cannot be read.
        """
        with self._folders(self.layout, StateFolder.IF_THERE) as files:
            operations = Operations(files, self.layout)
            state, failed = operations.read_state(), operations.read_failed()
            chances = {one.program.sha512: chance(one, state, self._limits) for one in failed}
            return describe_installation(
                self.layout, state, lambda entry: vouched(self._examiner.examine(files, entry), state), chances
            )

    def presence(self) -> Presence:
        """Whether the program runs and updates itself, as its locks tell."""
        return look_at_locks(self.layout)

    @contextmanager
    def updater_lock(self) -> Iterator[bool]:
        """Be the one process that fetches and activates; yields False where another one is. Its nodes share it.

        Raises:
            CannotReplaceError, OSError: the state folder cannot be used.
        """
        with self._updating.joined(self._hold_updater_lock) as mine:
            yield mine

    @contextmanager
    def _hold_updater_lock(self) -> Iterator[bool]:
        with self._folders(self.layout, StateFolder.MADE) as files, hold_lock(files, self.layout.updater) as mine:
            if mine:
                self._partials.tidy()
            yield mine

    def _look(self, see: Callable[[Files], _Seen]) -> _Seen | None:
        """What can be seen without a lock; None where the folders cannot be used or read."""
        try:
            with self._folders(self.layout, StateFolder.IF_THERE) as files:
                return see(files)
        except (OSError, PatcherError):
            return None

    def _trial_is_on(self, files: Files) -> bool:
        state = Operations(files, self.layout).read_state()
        return state is not None and state.trial is not None

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with transaction_files(self._folders, self.layout) as files:
            yield self._open(files)

    def _open(self, files: Files) -> Session:
        return Session(files, self.layout, self._examiner, self._instances, self._lives, read_orders=self._orders)
