"""A process whose lines are read as they come, and that is ended with all that it became."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cross.workshop import StepFailedError

__all__ = ["Watched"]


class Watched:
    """Start ``command`` as a session of its own; its output and errors are read together, and kept in ``log``."""

    def __init__(
        self,
        label: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: int = subprocess.DEVNULL,
        log: Path = Path(os.devnull),
    ) -> None:
        self.label = label
        self.lines: list[str] = []
        self._log = log
        self._fresh: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, lines: Iterable[str]) -> None:
        with self._log.open("w", encoding="utf-8", buffering=1) as log:
            for line in lines:
                log.write(line)
                self._fresh.put(line.rstrip("\n"))
        self._fresh.put(None)

    def wait_for(self, what: str, claim: Callable[[str], bool], seconds: float) -> str:
        """The first new line of which ``claim`` is true.

        Raises:
            StepFailedError: there was none in that time, or the process ended.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._fresh.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise StepFailedError(self.story(f"not seen within {seconds:.0f} s: {what}")) from None
            if line is None:
                raise StepFailedError(self.story(f"ended before {what}"))
            self.lines.append(line)
            if claim(line):
                return line

    def wait_for_event(self, seconds: float, name: str, **fields: Any) -> dict[str, Any]:
        """The next event of that name with those values."""

        def matches(line: str) -> bool:
            event = _event(line)
            return event.get("event") == name and all(event.get(key) == value for key, value in fields.items())

        return _event(self.wait_for(f"{name} {fields}", matches, seconds))

    def rest(self) -> list[str]:
        """The lines that nobody waited for, of a process that has ended."""
        self._reader.join()
        fresh = []
        with contextlib.suppress(queue.Empty):
            while (line := self._fresh.get_nowait()) is not None:
                fresh.append(line)
        self.lines += fresh
        return fresh

    def events(self) -> list[dict[str, Any]]:
        """All events so far, those not waited for included."""
        with contextlib.suppress(queue.Empty):
            while (line := self._fresh.get_nowait()) is not None:
                self.lines.append(line)
        return [event for line in self.lines if (event := _event(line))]

    def stop(self) -> None:
        """End the process and whatever it restarted into.

        Raises:
            StepFailedError: something of it is still there.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                self.process.poll()
                if not _group_lives(self.process.pid):
                    self.process.wait()
                    self._reader.join(5)
                    return
                time.sleep(0.05)
        raise StepFailedError(self.story("does not end"))

    def story(self, what: str) -> str:
        """What happened, with the lines that were said last."""
        self.events()
        return "\n".join([f"{self.label}: {what}; it said:", *(f"  {line[:400]}" for line in self.lines[-40:])])


def _event(line: str) -> dict[str, Any]:
    if line.startswith("{"):
        with contextlib.suppress(json.JSONDecodeError):
            return dict(json.loads(line))
    return {}


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
