"""Where an installation lives: the program, its folder, and the folder beside the program (install.md, first lines).

`P` is the program's path, `D` its folder, `S` is ``D/.NAME.pypatcher``, and everything that is ever written has one of
the names below, in one of those two folders. Nothing here touches a disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

__all__ = ["PARTIAL_PREFIX", "Entry", "Folder", "Layout"]

PARTIAL_PREFIX = "partial-"
"""What the names of downloads start with."""


class Folder(Enum):
    """The two folders of an installation."""

    PROGRAM = "D"
    STATE = "S"


class Entry(NamedTuple):
    """A name in one of the two folders; never more than one component."""

    folder: Folder
    name: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of one installation.

    Attributes:
        program: absolute path of the program, `P`.
    """

    program: Path

    @property
    def folder(self) -> Path:
        """`D`, the program's folder."""
        return self.program.parent

    @property
    def state_folder(self) -> Path:
        """`S`, the folder beside the program."""
        return self.folder / f".{self.program.name}.pypatcher"

    @property
    def target(self) -> Entry:
        """`P` as an entry of its folder."""
        return Entry(Folder.PROGRAM, self.program.name)

    staged = Entry(Folder.STATE, "staged")
    """A complete, verified release."""

    waiting = Entry(Folder.STATE, "waiting")
    """A verified release that the owner's word forbids now; ``staged`` again if that changes."""

    previous = Entry(Folder.STATE, "previous")
    """The program to go back to."""

    previous_new = Entry(Folder.STATE, "previous.new")
    """`previous` while it is made."""

    state = Entry(Folder.STATE, "trial.json")
    """`J`."""

    state_new = Entry(Folder.STATE, "trial.json.new")
    """`J` while it is written."""

    second_trials = Entry(Folder.STATE, "second-trials.json")
    """Releases that failed their trial and may get another; absent, all that is refused stays so."""

    second_trials_new = Entry(Folder.STATE, "second-trials.json.new")
    """`second_trials` while it is written."""

    report = Entry(Folder.STATE, "node.json")
    """What the node of this program last said about itself; for people, nothing is decided from it."""

    report_new = Entry(Folder.STATE, "node.json.new")
    """`report` while it is written."""

    by_hand = Entry(Folder.STATE, "by-hand")
    """What a person's release is copied to before it is ``staged``."""

    spared = Entry(Folder.STATE, "spared")
    """Which release a person staged: the owner's word takes none of its right to be activated."""

    spared_new = Entry(Folder.STATE, "spared.new")
    """`spared` while it is written."""

    device = Entry(Folder.STATE, "device.json")
    """Which device this is, for its place in rollouts."""

    device_new = Entry(Folder.STATE, "device.json.new")
    """`device` while it is written."""

    lock = Entry(Folder.STATE, "lock")
    """flock: one transaction."""

    updater = Entry(Folder.STATE, "updater")
    """flock: the one process that fetches and activates."""

    instances = Entry(Folder.STATE, "instances")
    """flock, shared: held by every running process of the program; exclusive while `P` changes."""

    @staticmethod
    def word(name: str) -> Entry:
        """The newest word of an owner; ``name`` tells owners apart."""
        return Entry(Folder.STATE, f"manifest-{name}")

    @staticmethod
    def word_flag(name: str) -> Entry:
        """The highest seq that was ever kept of an owner's word; that it is there says that there was one."""
        return Entry(Folder.STATE, f"manifest-{name}.seen")

    @staticmethod
    def partial(suffix: str) -> Entry:
        """A download's entry; that of a release begins with its version and its id."""
        return Entry(Folder.STATE, PARTIAL_PREFIX + suffix)

    def path(self, entry: Entry) -> Path:
        """The absolute path of an entry, for messages and for those who only read."""
        return (self.folder if entry.folder is Folder.PROGRAM else self.state_folder) / entry.name
