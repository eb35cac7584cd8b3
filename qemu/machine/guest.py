"""A device under systemd, seen from this machine: commands are run on it, and its journal is read as it grows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from cross.workshop import StepFailedError
from qemu.machine.board import Board

__all__ = ["SLOW", "Guest", "fields_of"]

SLOW = 900.0
"""Seconds that an emulated device may take for one step."""


class Guest:
    """The device on a board whose disk has ``inside/agent.py`` as a service."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._asked = 0
        self._read: dict[str, int] = {}
        board.wait_for("the agent", lambda line: "ready" in fields_of(line), SLOW)

    def run(self, *command: str, may_fail: bool = False) -> str:
        """Run a command on the device to its end; returns its output.

        Raises:
            StepFailedError: it failed.
        """
        self._asked += 1
        self._board.send(json.dumps([self._asked, command]))
        what = f"the end of {' '.join(command)}"
        answer = fields_of(self._board.wait_for(what, lambda line: fields_of(line).get("reply") == self._asked, SLOW))
        if answer["status"] and not may_fail:
            raise StepFailedError(self._board.story(f"{command}: status {answer['status']}: {answer['output']}"))
        return str(answer["output"])

    def wait_for(self, unit: str, what: str, claim: Callable[[str], bool]) -> str:
        """The next entry of the journal about ``unit`` of which ``claim`` is true.

        Raises:
            StepFailedError: there was none in that time.
        """

        def message(line: str) -> str | None:
            fields = fields_of(line)
            return str(fields["message"]) if fields.get("unit") == unit else None

        def matches(line: str) -> bool:
            said = message(line)
            return said is not None and claim(said)

        lines = self._board.lines
        for number in range(self._read.get(unit, 0), len(lines)):
            if matches(lines[number]):
                self._read[unit] = number + 1
                return message(lines[number]) or ""
        line = self._board.wait_for(f"{what} of {unit}", matches, SLOW)
        self._read[unit] = len(lines)
        return message(line) or ""

    def wait_for_event(self, unit: str, name: str, **fields: Any) -> dict[str, Any]:
        """The next event of that name with those values."""

        def matches(said: str) -> bool:
            event = fields_of(said)
            return event.get("event") == name and all(event.get(key) == value for key, value in fields.items())

        return fields_of(self.wait_for(unit, f"{name} {fields}", matches))

    def switch_off(self) -> None:
        """As a person would.

        Raises:
            StepFailedError: it does not switch itself off.
        """
        self._board.send(json.dumps([0, ["systemctl", "poweroff"]]))
        self._board.wait_until_off(SLOW)


def fields_of(line: str) -> dict[str, Any]:
    """The JSON object that a line is; empty if it is none."""
    if line.startswith("{"):
        with contextlib.suppress(json.JSONDecodeError):
            return dict(json.loads(line))
    return {}
