"""Events as JSON lines and as plain lines."""

from __future__ import annotations

import datetime
import io
import json
import logging
import os

import pytest

from pypatcher.events import (
    EventBus,
    FetchProgress,
    NodeStarted,
    PreflightFailed,
    ReleaseActivated,
    TrialRolledBack,
    TrialStarted,
)
from pypatcher.install import Settled
from pypatcher.install.trial import ProgramId
from pypatcher.node.log import json_lines, plain_lines, say_settled, stderr_handler
from pypatcher.version import Version

STARTED = NodeStarted("ab" * 32, ("127.0.0.1:1",), "space", "1.2.3", "now")
PROGRESS = FetchProgress("1.2.3", "127.0.0.1:1", 1, 2)


def test_a_json_line_is_one_object_with_event_and_time() -> None:
    reading, writing = os.pipe()
    emit = json_lines(writing)
    emit(STARTED)
    emit(PROGRESS)
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as stream:
        first, second = map(json.loads, stream.read().splitlines())
    assert datetime.datetime.fromisoformat(first.pop("time")).tzinfo is datetime.UTC
    assert first == {**STARTED.to_dict(), "addresses": ["127.0.0.1:1"], "outside": []}
    assert (second["event"], second["received"]) == ("fetch.progress", 1)


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    json_lines(writing)(STARTED)
    os.close(writing)
    json_lines(writing)(STARTED)


def test_text_of_others_cannot_forge_a_line() -> None:
    reading, writing = os.pipe()
    json_lines(writing)(TrialRolledBack('1.0.0\n{"event": "trial.confirmed"}', "\u2028"))
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as stream:
        assert len(stream.read().splitlines()) == 1


def test_plain_lines_leave_the_progress_out() -> None:
    stream = io.StringIO()
    emit = plain_lines(stream)
    emit(PROGRESS)
    emit(STARTED)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(str(STARTED))


def test_a_start_says_what_it_found_and_did() -> None:
    program = ProgramId(bytes(64), Version(2, 0, 0))
    said = []
    say_settled(Settled(7, program), said.append)
    assert said == []
    say_settled(Settled(16, program, activated=Version(2, 0, 0), on_trial=True, failed=1), said.append)
    assert said == [ReleaseActivated("2.0.0"), TrialStarted("2.0.0", 1)]
    said.clear()
    say_settled(Settled(7, program, rolled_back=Version(3, 0, 0)), said.append)
    assert said == [TrialRolledBack("3.0.0", "2.0.0")]
    said.clear()
    say_settled(Settled(1, reason="no region"), said.append)
    assert [event.name for event in said] == ["preflight.failed"]


@pytest.mark.parametrize("as_json", [True, False])
def test_an_event_is_said_once_beside_other_logs_of_the_same_form(
    capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    logger = logging.getLogger("pypatcher")
    handler = stderr_handler(as_json=as_json)
    bus, events = EventBus(), []
    bus.subscribe(events.append)
    logger.addHandler(handler)
    try:
        bus.emit(PreflightFailed("no room"))
        logger.warning("the clock of %s\n%s", "this device", "2026 forged")
    finally:
        logger.removeHandler(handler)
    assert len(events) == 1
    [line] = capsys.readouterr().err.splitlines()
    if as_json:
        said = json.loads(line)
        assert (said["event"], said["level"]) == ("log", "warning")
        assert said["message"] == "the clock of this device\n2026 forged"
    else:
        assert line.endswith("+00:00 warning the clock of this device?2026 forged")


def test_plain_lines_are_one_line_an_event() -> None:
    stream = io.StringIO()
    plain_lines(stream)(PreflightFailed("no\nroom\x1b[2J"))
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()
