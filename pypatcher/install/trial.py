"""``trial.json``: what an installation remembers, and its strict, bounded codec (install.md "trial.json").

The confirmed program, the newest version ever confirmed, the refused hashes, and the trial that is on. What follows
from it is decided in ``decide``. A file that is damaged in any way reads as None, never as something else: the table
has rows for that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pypatcher.errors import VersionError
from pypatcher.version import Version

__all__ = ["HASH_SIZE", "STATE_LIMIT", "ProgramId", "Start", "Trial", "TrialState", "decode_state", "encode_state"]

STATE_LIMIT = 1 << 17
"""Bytes that are read of the file at most; a longer one counts as damaged."""

_FORMAT = 1
HASH_SIZE = 64
_MAX_REFUSED = 256
_MAX_TEXT = 200
_MAX_NUMBER = 1 << 63


@dataclass(frozen=True, slots=True)
class ProgramId:
    """A program file: SHA-512 over all of it, region included, and the version in its region."""

    sha512: bytes
    version: Version


@dataclass(frozen=True, slots=True)
class Start:
    """A start of the program on trial that has not ended as far as anybody saw.

    Attributes:
        boot_id: the kernel's boot id then.
        start_id: systemd's invocation id, or a random name.
        pid: the process that counts as the program's (``run`` for its program); the guard's own until claimed.
        pid_starttime: its start in clock ticks since boot, so that a reused pid is another process.
        by: ``guard``, ``run`` or ``spawn``.
        claimed: a guard's start is claimed once by the process that it was counted for.
        unit: the systemd service that it belongs to; empty if there is none, or none was written down.
    """

    boot_id: str
    start_id: str
    pid: int
    pid_starttime: int
    by: str
    claimed: bool
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """A version new to this device: which file, how its starts went, and the start that is running.

    ``ended`` is for people: how and when the last of them failed.
    """

    program: ProgramId
    failed: int = 0
    reboots: int = 0
    open: Start | None = None
    ended: str = ""

    @property
    def idle(self) -> bool:
        """Whether it was never started: then activation may be unfinished."""
        return self.failed == 0 and self.reboots == 0 and self.open is None


@dataclass(frozen=True, slots=True)
class TrialState:
    """All of ``trial.json``.

    Attributes:
        confirmed: the program that this device goes back to.
        newest: version of the newest program ever confirmed here.
        refused: hashes (64 bytes) that this device never installs or serves again, oldest first.
        trial: the trial that is on, if any. ``refused`` contains its hash: a rollback is on.
        notes: for people: why a hash was refused.
    """

    confirmed: ProgramId
    newest: Version
    refused: tuple[bytes, ...] = ()
    trial: Trial | None = None
    notes: Mapping[bytes, str] = field(default_factory=dict)

    def refusing(self, sha512: bytes, note: str) -> TrialState:
        """The same with one more refused hash; the 256 latest are kept."""
        others = tuple(known for known in self.refused if known != sha512)[-(_MAX_REFUSED - 1) :]
        notes = {known: self.notes[known] for known in others if known in self.notes}
        return replace(self, refused=(*others, sha512), notes={**notes, sha512: note[:_MAX_TEXT]})

    def accepting(self, sha512: bytes) -> TrialState:
        """The same without that hash among the refused."""
        notes = {known: note for known, note in self.notes.items() if known != sha512}
        return replace(self, refused=tuple(known for known in self.refused if known != sha512), notes=notes)


def encode_state(state: TrialState) -> bytes:
    """The file's bytes: JSON of ASCII, one line, sorted keys, so that equal states are equal files."""
    trial = state.trial
    document = {
        "format": _FORMAT,
        "confirmed": _program(state.confirmed),
        "newest": str(state.newest),
        "refused": [known.hex() for known in state.refused],
        "notes": {known.hex(): note for known, note in state.notes.items()},
        "trial": trial
        and {
            **_program(trial.program),
            "failed": trial.failed,
            "reboots": trial.reboots,
            "ended": trial.ended,
            "open": trial.open and {name: getattr(trial.open, name) for name in Start.__slots__},
        },
    }
    return json.dumps(document, sort_keys=True).encode("ascii") + b"\n"


def decode_state(data: bytes) -> TrialState | None:
    """Read the file; None when it is damaged, too long, of another format, or says what cannot be."""
    if len(data) > STATE_LIMIT:
        return None
    try:
        document = json.loads(data.decode("ascii"))
        if document["format"] != _FORMAT:
            return None
        refused = tuple(_hash(text) for text in _list(document["refused"], _MAX_REFUSED))
        notes = {_hash(text): _text(note) for text, note in document.get("notes", {}).items()}
        return TrialState(
            confirmed=_program_from(document["confirmed"]),
            newest=Version.parse(_text(document["newest"])),
            refused=refused,
            trial=None if document["trial"] is None else _trial_from(document["trial"]),
            notes={known: note for known, note in notes.items() if known in refused},
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, VersionError):
        return None


def _program(program: ProgramId) -> dict[str, object]:
    return {"sha512": program.sha512.hex(), "version": str(program.version)}


def _program_from(value: Any) -> ProgramId:
    return ProgramId(_hash(value["sha512"]), Version.parse(_text(value["version"])))


def _trial_from(value: Any) -> Trial:
    start = value["open"]
    return Trial(
        program=_program_from(value),
        failed=_number(value["failed"]),
        reboots=_number(value["reboots"]),
        open=None if start is None else _start_from(start),
        ended=_text(value.get("ended", "")),
    )


def _start_from(value: Any) -> Start:
    if not isinstance(value["claimed"], bool):
        raise TypeError("claimed is true or false")
    return Start(
        boot_id=_text(value["boot_id"]),
        start_id=_text(value["start_id"]),
        pid=_number(value["pid"]),
        pid_starttime=_number(value["pid_starttime"]),
        by=_text(value["by"]),
        claimed=value["claimed"],
        unit=_text(value.get("unit", "")),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise TypeError("a short text is needed")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_NUMBER:
        raise TypeError("a number that is not negative is needed")
    return value


def _hash(value: Any) -> bytes:
    digest = bytes.fromhex(_text(value))
    if len(digest) != HASH_SIZE:
        raise ValueError("a SHA-512 is needed")
    return digest


def _list(value: Any, limit: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > limit:
        raise TypeError("a short list is needed")
    return value
