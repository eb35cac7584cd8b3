"""The owners' words in the state folder, and what follows for ``staged`` and ``waiting`` when one changes.

install.md "The owner's word". To forbid, a release is set aside first and the word stored then; to permit, the word is
stored first: a cut in between leaves the stricter state both times. An activation that began (`J` names what is staged)
is finished. Not here: what a word says.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pypatcher.install.examine import Examined
from pypatcher.install.files import Files
from pypatcher.install.layout import Layout
from pypatcher.install.operations import Operations
from pypatcher.install.orders import Rule
from pypatcher.install.state_folder import OpenFolders, StateFolder
from pypatcher.install.transaction import Session
from pypatcher.version import Version

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo

__all__ = ["NewWord", "Standing", "Words"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a device has, as far as a rule asks for it.

    Attributes:
        program: what is at `P`, if it is a release of the owner's.
        newest: the newest version that runs, or was ever confirmed here.
        trial: what is on trial at `P`.
        refused: hashes of files that failed here.
    """

    program: PatchInfo | None
    newest: Version
    trial: PatchInfo | None
    refused: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class NewWord:
    """A word to be stored, with its flag, and what follows from it."""

    data: bytes
    flag: bytes
    rule: Rule


class Words:
    """Those of one installation; every method blocks.

    Args:
        session: a transaction on it.
        view: the same for who only looks, and holds no lock.
    """

    def __init__(
        self,
        layout: Layout,
        folders: OpenFolders,
        session: Callable[[], AbstractContextManager[Session]],
        view: Callable[[Files], Session],
    ) -> None:
        self._layout = layout
        self._folders = folders
        self._session = session
        self._view = view

    def read(self, name: str) -> tuple[bytes | None, bytes | None]:
        """An owner's word and its flag; None for what is absent or cannot be read.

        Raises:
            CannotReplaceError, OSError: the folders cannot be used.
        """
        with self._folders(self._layout, StateFolder.IF_THERE) as files:
            return Operations(files, self._layout).read_word(name)

    def keep(self, name: str, choose: Callable[[bytes | None], NewWord]) -> None:
        """Store a word; what it forbids is set aside before, what it permits is staged after.

        Args:
            choose: names it, given what is stored now: another process may have stored a newer one.

        Raises:
            CannotReplaceError, OSError: it cannot be stored; no release is permitted that was not before.
        """
        with self._session() as session:
            session.operations.begin()
            word = choose(session.operations.read_word(name)[0])
            _forbid(session, word.rule)
            session.operations.write_word(name, word.data, word.flag)
            _permit(session, word.rule)

    def arrange(self, name: str, choose: Callable[[bytes | None], Rule]) -> None:
        """The same for the word that is stored, where something else changed: the node starts, a release was staged.

        Args:
            choose: names the rule, given what is stored now: a newer word may have been stored since this was called.

        Raises:
            CannotReplaceError, OSError: it cannot be done here.
        """
        with self._session() as session:
            session.operations.begin()
            rule = choose(session.operations.read_word(name)[0])
            _forbid(session, rule)
            _permit(session, rule)

    def read_device(self) -> bytes:
        """What is remembered of which device this is; empty for nothing.

        Raises:
            CannotReplaceError, OSError: the folders cannot be used.
        """
        with self._folders(self._layout, StateFolder.IF_THERE) as files:
            return Operations(files, self._layout).read_device()

    def write_device(self, data: bytes) -> None:
        """Remember it.

        Raises:
            CannotReplaceError, OSError: it cannot be written here.
        """
        with self._session() as session:
            session.operations.write_device(data)

    def standing(self) -> Standing:
        """What this device has.

        Raises:
            CannotReplaceError, OSError: the folders cannot be read.
        """
        with self._folders(self._layout, StateFolder.IF_THERE) as files:
            return _standing(self._view(files))


def _standing(session: Session) -> Standing:
    program, state = session.examine(session.layout.target), session.operations.read_state()
    known = [] if program.id is None else [program.id.version]
    on_trial = state is not None and state.trial is not None and _has(program, state.trial.program.sha512)
    return Standing(
        program.info,
        max(known if state is None else [*known, state.newest], default=Version(0, 0, 0)),
        program.info if on_trial else None,
        frozenset(() if state is None else state.refused),
    )


def _forbid(session: Session, rule: Rule) -> None:
    staged, state = session.examine(session.layout.staged), session.operations.read_state()
    if staged.info is None or staged.id is None or staged.id.sha512 == session.operations.read_spared():
        return
    begun = state is not None and state.trial is not None and _has(staged, state.trial.program.sha512)
    if not begun and not rule.stays_staged(staged.info, _standing(session).program):
        session.operations.set_aside()


def _permit(session: Session, rule: Rule) -> None:
    waiting = session.examine(session.layout.waiting)
    if waiting.info is None or waiting.id is None:
        return
    standing, staged = _standing(session), session.examine(session.layout.staged)
    if waiting.id.version <= standing.newest:
        session.operations.drop_waiting()
        return
    failed = waiting.info if waiting.id.sha512 in standing.refused else None
    wanted = rule.wanted(standing.program, standing.newest, lambda info: info == failed)
    if wanted == waiting.info and (staged.id is None or _may_replace(session, staged, waiting)):
        session.operations.take_back()


def _may_replace(session: Session, staged: Examined, waiting: Examined) -> bool:
    """Whether what is staged is older, and neither a person's nor being activated."""
    state = session.operations.read_state()
    begun = state is not None and state.trial is not None and _has(staged, state.trial.program.sha512)
    if staged.id is None or waiting.id is None or begun:
        return False
    return staged.id.version < waiting.id.version and staged.id.sha512 != session.operations.read_spared()


def _has(found: Examined, sha512: bytes) -> bool:
    return found.id is not None and found.id.sha512 == sha512
