"""The owner's word on a simulated device: one line of text, such as ``3 recall 2.0.0 withdrawn 1.5.0``.

Seq, ``go``, ``hold`` or ``recall``, the version that it is about, and versions that were taken back. What such words
mean on a real device is ``update.policy``'s; here only matters what the device does about what they allow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pypatcher.artifact import PatchInfo
from pypatcher.install.installation import Installation
from pypatcher.install.words import NewWord
from pypatcher.version import Version
from tests.support.text_programs import program, release_of

__all__ = ["WORD_FILE", "SimWord", "hear", "read_orders", "word_seq"]

_NAME = "k"
WORD_FILE = f"manifest-{_NAME}"
Read = Callable[[str], tuple[bytes | None, bytes | None]]


@dataclass(frozen=True)
class SimWord:
    """Orders and rule of one word; an empty line orders nothing."""

    line: bytes

    @property
    def _fields(self) -> list[str]:
        return self.line.decode().split(" ")

    def _is_about(self, info: PatchInfo) -> bool:
        return bool(self.line) and str(info.version) == self._fields[2]

    def _is_withdrawn(self, info: PatchInfo) -> bool:
        return bool(self.line) and str(info.version) in self._fields[3:]

    def may_stay_staged(self, info: PatchInfo) -> bool:
        return not self.line or (self._fields[1] == "go" and self._is_about(info))

    def gives_way(self, trial: PatchInfo) -> bool:
        if not self.line:
            return False
        return self._is_withdrawn(trial) or (self._fields[1] != "go" and self._is_about(trial))

    def must_go_back(self, trial: PatchInfo) -> bool:
        return bool(self.line) and self._fields[1] == "recall" and self.gives_way(trial)

    def stays_staged(self, info: PatchInfo, _program: PatchInfo | None) -> bool:
        return self.may_stay_staged(info)

    def wanted(
        self, _program: PatchInfo | None, newest: Version, is_refused: Callable[[PatchInfo], bool]
    ) -> PatchInfo | None:
        if not self.line or self._fields[1] != "go":
            return None
        info = release_of(program(self._fields[2])).info
        return info if info.version > newest and not is_refused(info) else None


def read_orders(read: Read) -> SimWord:
    """As `Installation` asks for it."""
    line, _ = read(_NAME)
    # What is torn orders nothing: the node would say so, and wait.
    return SimWord(line if line is not None and word_seq(line) else b"")


def word_seq(line: bytes | None) -> int:
    """0 for none."""
    first = (line or b"").partition(b" ")[0]
    return int(first) if first.isdigit() else 0


def hear(line: bytes, installation: Installation) -> bool:
    """The node of a device hears a word: it is stored if it is newer."""
    stored, _ = installation.words.read(_NAME)
    if word_seq(stored) >= word_seq(line):
        return False
    installation.words.keep(_NAME, lambda _: NewWord(line, b"%d" % word_seq(line), SimWord(line)))
    return True
