"""A real onefile, built twice: the order of its standard library is told, and the advice is right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pypatcher.cli import main

BUILD = (
    "check-build",
    "--json",
    "dist/app",
    "--",
    sys.executable,
    "-m",
    "PyInstaller",
    "--onefile",
    "--log-level",
    "ERROR",
)


@pytest.mark.timeout(600)
def test_a_onefile_is_the_same_twice_with_a_hash_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.py").write_text("print(1)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    assert main([*BUILD, "app.py"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["differences"] == [{"name": "base_library.zip", "cause": "order"}]
    assert 200_000 < found["moved"] < 800_000
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert main([*BUILD, "app.py"]) == 0
    assert json.loads(capsys.readouterr().out)["same"]
