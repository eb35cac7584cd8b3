"""The command line, called as the console script calls it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pypatcher.cli import main
from tests.support.outcome import Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``pypatcher ARGUMENTS...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call
