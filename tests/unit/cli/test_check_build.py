"""``check-build``: a build that is run twice, in two folders."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from pypatcher.cli import main

BUILD = "import pathlib, os; pathlib.Path('dist').mkdir(); pathlib.Path('dist/app').write_bytes(%s)"
SAME = "pathlib.Path('app.py').read_bytes() * 1000"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a source file in it."""
    monkeypatch.setattr("pypatcher.cli.check_build._PAUSE", 0.0)
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "app.py").write_text("print(1)\n")
    monkeypatch.chdir(folder)
    return folder


def check(content: str, *options: str) -> int:
    return main(["check-build", *options, "dist/app", "--", sys.executable, "-c", BUILD % content])


def test_a_build_that_comes_out_the_same_is_said_to(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(SAME) == 0
    assert capsys.readouterr().out == "dist/app: 9000 bytes, the same both times\n"
    assert [path.name for path in source.iterdir()] == ["app.py"]


@pytest.mark.parametrize(
    "content", ["os.urandom(9)", "os.getcwd().encode()", "repr(os.stat('app.py').st_mtime).encode()"]
)
def test_chance_folder_and_dates_of_files_are_seen(
    source: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(content) == 1
    said = capsys.readouterr().out
    assert said.startswith("dist/app: the builds differ; devices with one fetch ")
    assert "To mend it:" in said
    assert check(content, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["same"]
    assert found["moved"] > 0
    assert found["differences"]


def test_the_starts_are_seconds_apart(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the dates in zip files are: a build that takes less would look the same by luck."""
    pauses: list[float] = []
    monkeypatch.setattr("pypatcher.cli.check_build._PAUSE", 1000.0)
    monkeypatch.setattr("time.sleep", pauses.append)
    check(SAME)
    assert pauses[0] == 0.0
    assert 900.0 < pauses[1] <= 1000.0


def test_what_earlier_builds_left_is_left_out(source: Path) -> None:
    for name in ("build", "dist", "__pycache__", ".git"):
        (source / name).mkdir()
        (source / name / "left").write_text("over")
    (source / "venv").mkdir()
    (source / "venv" / "pyvenv.cfg").write_text("")
    listed = "repr(sorted(os.listdir('.'))).encode() + pathlib.Path('venv/pyvenv.cfg').read_bytes()"
    build = BUILD % listed + "; assert sorted(os.listdir('.')) == ['app.py', 'dist', 'venv']"
    assert main(["check-build", "dist/app", "--", sys.executable, "-c", build]) == 0


def test_a_date_before_zip_files_is_none(source: Path) -> None:
    os.utime(source / "app.py", (315532800, 315532800))
    assert (
        check("pathlib.Path('app.py').read_bytes() if os.stat('app.py').st_mtime >= 315532800 else os.urandom(9)") == 0
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([sys.executable, "-c", "raise SystemExit(7)"], "status 7"),
        ([sys.executable, "-c", ""], "made no dist/app"),
        (["./no-such-tool"], "No such file"),
    ],
)
def test_a_build_that_fails_is_one_line(
    source: Path, command: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-build", "dist/app", "--", *command]) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("file", ["/etc/passwd", "../app"])
def test_a_file_elsewhere_is_wrong_use(source: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-build", file, "--", "true"]) == 2
    assert "from this folder" in capsys.readouterr().err
