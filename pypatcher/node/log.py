"""Events for a terminal or a log collector: JSON lines and plain lines on stderr.

As a library we install no logging handler (DESIGN "What a node says"); these are for ``PYPATCHER_LOG=json`` and for
the command line, which own their stderr.
"""

from __future__ import annotations

import datetime
import json
import os
from typing import TextIO

from pypatcher.events import Emit, Event, FetchProgress

__all__ = ["json_lines", "plain_lines"]


def json_lines(descriptor: int = 2) -> Emit:
    """A subscriber that writes one JSON object a line, with ``time`` (ISO 8601, UTC), in one write each."""

    def write(event: Event) -> None:
        table = {"time": _now(), **event.to_dict()}
        try:
            os.write(descriptor, json.dumps(table).encode("ascii") + b"\n")
        except OSError:
            return  # a log that cannot be written must not stop an update

    return write


def plain_lines(stream: TextIO) -> Emit:
    """A subscriber that writes a line an event, without the progress of a transfer."""

    def write(event: Event) -> None:
        if not isinstance(event, FetchProgress):
            stream.write(f"{_now()} {event}\n")
            stream.flush()

    return write


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
