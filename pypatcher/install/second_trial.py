"""Releases that failed their trial here and may get another: ``second-trials.json`` (install.md "Second trials").

Whoever can crash a program from afar, or cuts the power ten times, must not refuse a good release for good. What lives
here: the record of such failures and its strict, bounded codec. When one is let in again is decided in ``decide``. What
is damaged or absent reads as nothing, and then everything stays refused; code that does not know this file refuses too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from pypatcher.errors import VersionError
from pypatcher.install.trial import ProgramId
from pypatcher.version import Version

__all__ = ["SECOND_TRIALS_LIMIT", "FailedTrial", "decode_failed", "encode_failed", "with_failure", "without"]

SECOND_TRIALS_LIMIT = 1 << 13
"""Bytes that are read of the file at most; a longer one counts as damaged."""

_FORMAT = 1
_HASH_SIZE = 64
_KEPT = 16
_MAX_NUMBER = 1 << 40


@dataclass(frozen=True, slots=True)
class FailedTrial:
    """A release that failed its trial.

    Attributes:
        program: which.
        again: how often it was let in again.
        waited: seconds of uptime since it failed last, as far as they were counted.
    """

    program: ProgramId
    again: int = 0
    waited: int = 0


def with_failure(failed: tuple[FailedTrial, ...], program: ProgramId) -> tuple[FailedTrial, ...]:
    """The record after that program failed; it waits from now on. The 16 latest are kept."""
    known = next((one for one in failed if one.program.sha512 == program.sha512), FailedTrial(program))
    return (*without(failed, program.sha512)[-(_KEPT - 1) :], replace(known, waited=0))


def without(failed: tuple[FailedTrial, ...], sha512: bytes) -> tuple[FailedTrial, ...]:
    """The record without one file, which is refused for good then, if it is refused."""
    return tuple(one for one in failed if one.program.sha512 != sha512)


def encode_failed(failed: tuple[FailedTrial, ...]) -> bytes:
    """The file's bytes: JSON of ASCII, one line, sorted keys."""
    trials = [
        {
            "sha512": one.program.sha512.hex(),
            "version": str(one.program.version),
            "again": one.again,
            "waited": one.waited,
        }
        for one in failed
    ]
    return json.dumps({"format": _FORMAT, "trials": trials}, sort_keys=True).encode("ascii") + b"\n"


def decode_failed(data: bytes) -> tuple[FailedTrial, ...]:
    """Read the file; nothing when it is damaged in any way, too long or of another format."""
    if len(data) > SECOND_TRIALS_LIMIT:
        return ()
    try:
        document = json.loads(data.decode("ascii"))
        if document["format"] != _FORMAT or len(document["trials"]) > _KEPT:
            return ()
        failed = tuple(
            FailedTrial(
                ProgramId(bytes.fromhex(one["sha512"]), Version.parse(one["version"])),
                _number(one["again"]),
                _number(one["waited"]),
            )
            for one in document["trials"]
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, VersionError):
        return ()
    return failed if all(len(one.program.sha512) == _HASH_SIZE for one in failed) else ()


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < _MAX_NUMBER:
        raise TypeError("a number that is not negative is needed")
    return value
