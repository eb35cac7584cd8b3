"""What is on disk, looked up when the table of ``decide`` first asks for it, within one transaction.

One `DiskFacts` serves one round of ``decide``; after anything was changed a new one is made. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from pypatcher.install.examine import EntryKind, Examined, Examiner, vouched
from pypatcher.install.files import Files
from pypatcher.install.layout import Layout
from pypatcher.install.operations import Operations
from pypatcher.install.orders import Orders, ReadOrders
from pypatcher.install.starts import Caller, Fate, Launcher, fate
from pypatcher.install.trial import TrialState

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo

__all__ = ["DiskFacts", "may_stay_staged"]

_EXECUTABLE = 0o100
"""The owner's permission to execute."""


def may_stay_staged(operations: Operations, orders: Orders, info: PatchInfo, sha512: bytes) -> bool:
    """Whether a release may be activated, as far as everybody can tell: a person's is spared."""
    return sha512 == operations.read_spared() or orders.may_stay_staged(info)


class DiskFacts:
    """`decide.Facts` from a disk and the process that asks."""

    def __init__(
        self,
        files: Files,
        layout: Layout,
        examiner: Examiner,
        caller: Caller,
        *,
        lives: Callable[[int, int], bool],
        alone: Callable[[], bool],
        read_orders: ReadOrders,
    ) -> None:
        self._files = files
        self._layout = layout
        self._examiner = examiner
        self._caller = caller
        self._lives = lives
        self._alone = alone
        self._read_orders = read_orders
        self._operations = Operations(files, layout)
        self.state: TrialState | None = self._operations.read_state()

    @property
    def launcher(self) -> Launcher:
        """Who starts the program."""
        return self._caller.launcher

    @cached_property
    def program(self) -> Examined:
        """`P`; a program that looks at itself is none of its own if it trusts another key than signed it."""
        found = self._examiner.examine(self._files, self._layout.target)
        return found if self.launcher == "spawn" else vouched(found, self.state)

    @cached_property
    def staged(self) -> Examined:
        """``staged``; a key that the program's own replaced does not count any more."""
        found = self._fit_for_program(vouched(self._examiner.examine(self._files, self._layout.staged), self.state))
        if found.kind is EntryKind.GOOD and found.rank > self.program.rank and self.program.id is not None:
            return Examined(EntryKind.INVALID, stat=found.stat, reason="a key signed it that was replaced")
        return found

    @cached_property
    def previous(self) -> Examined:
        """``previous``."""
        return self._fit_for_program(vouched(self._examiner.examine(self._files, self._layout.previous), self.state))

    def _fit_for_program(self, found: Examined) -> Examined:
        """A file that could not be executed at `P`, or that another user could change there, is none to put there."""
        program, file = self.program.stat, found.stat
        if found.kind is not EntryKind.GOOD or program is None or file is None:
            return found
        if file.uid in {0, program.uid} and (file.mode & _EXECUTABLE or not program.mode & _EXECUTABLE):
            return found
        return Examined(EntryKind.INVALID, stat=file, reason="its owner or mode was changed")

    @cached_property
    def fate(self) -> Fate:
        """What became of the open start."""
        trial = None if self.state is None else self.state.trial
        return fate(None if trial is None else trial.open, self._caller, self._lives)

    @cached_property
    def _orders(self) -> Orders:
        return self._read_orders(self._operations.read_word)

    @cached_property
    def staged_is_allowed(self) -> bool:
        """Whether the owner's word lets ``staged`` be activated; what `J` names is being activated already."""
        staged = self.staged
        if staged.id is None or staged.info is None:
            return True
        return may_stay_staged(self._operations, self._orders, staged.info, staged.id.sha512)

    @cached_property
    def is_held(self) -> bool:
        """Whether the owner's word holds what is at `P`, or took it back, so that its trial makes room for another."""
        return self._program_may(self._orders.gives_way)

    @cached_property
    def is_recalled(self) -> bool:
        """Whether its trial makes room without a successor, too."""
        return self._program_may(self._orders.must_go_back)

    def _program_may(self, question: Callable[[PatchInfo], bool]) -> bool:
        """What the owner's word says of `P`; what a person staged is spared."""
        program = self.program
        if program.info is None or program.id is None or not question(program.info):
            return False
        return program.id.sha512 != self._operations.read_spared()

    @cached_property
    def alone(self) -> bool:
        """Whether no other process runs from `P`."""
        return self._alone()
