"""Events for a terminal or a log collector: JSON lines and plain lines on stderr.

As a library we install no logging handler (design.md "What a node says"); these are for ``PYPATCHER_LOG=json`` and for
the command line, which own their stderr.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
from typing import TextIO

from pypatcher.events import (
    Emit,
    Event,
    FetchProgress,
    PreflightFailed,
    ReleaseActivated,
    TrialRolledBack,
    TrialStarted,
)
from pypatcher.install import Settled

__all__ = ["json_lines", "log_as_json", "plain_lines", "say_settled", "stderr_handler"]


def json_lines(descriptor: int = 2) -> Emit:
    """A subscriber that writes one JSON object per line, with ``time`` (ISO 8601, UTC), in one write each."""

    def write(event: Event) -> None:
        table = {"time": _now(), **event.to_dict()}
        try:
            os.write(descriptor, json.dumps(table).encode("ascii") + b"\n")
        except OSError:
            return  # a log that cannot be written must not stop an update

    return write


def plain_lines(stream: TextIO) -> Emit:
    """A subscriber that writes one line per event, without the progress of a transfer."""

    def write(event: Event) -> None:
        if not isinstance(event, FetchProgress):
            stream.write(f"{_now()} {_one_line(str(event))}\n")
            stream.flush()

    return write


def stderr_handler(*, as_json: bool) -> logging.Handler:
    """What else is logged, in the same form as the events; the events themselves are left out, who subscribed has them.

    As JSON: ``event`` is ``log``, beside ``level`` and ``message``.
    """
    handler = logging.StreamHandler()
    handler.addFilter(
        lambda record: not (isinstance(record.args, tuple) and any(isinstance(one, Event) for one in record.args))
    )
    handler.setFormatter(_JsonFormatter() if as_json else _PlainFormatter())
    return handler


def log_as_json() -> None:
    """All that this package logs goes to stderr as JSON from now on, and nowhere else as plain text."""
    logger = logging.getLogger("pypatcher")
    logger.addHandler(stderr_handler(as_json=True))
    logger.propagate = False


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{_now()} {record.levelname.lower()} {text if record.exc_info else _one_line(text)}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level, message = record.levelname.lower(), super().format(record)
        return json.dumps({"time": _now(), "event": "log", "level": level, "message": message})


def _one_line(text: str) -> str:
    """Nothing that others sent may move the cursor or begin a line of its own."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def say_settled(settled: Settled, emit: Emit) -> None:
    """Say what a start found and did."""
    version = str(settled.version)
    if settled.rolled_back is not None:
        emit(TrialRolledBack(str(settled.rolled_back), version))
    if settled.activated is not None:
        emit(ReleaseActivated(version))
    if settled.on_trial and not settled.must_exec:
        emit(TrialStarted(version, settled.failed))
    if settled.reason:
        emit(PreflightFailed(settled.reason))
