"""What pip is told: pinned files alone, and never somebody else's package of this name."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from cross.workshop import DISTRIBUTION, StepFailedError, run

REPOSITORY = Path(__file__).parents[2]


def test_an_index_that_gives_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    wheel = tmp_path / "index" / "some-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("some-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some\nVersion: 1.0\n")
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text(f"some==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    bad.write_text(f"some==1.0 --hash=sha256:{'0' * 64}\n")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-index", "--find-links", tmp_path / "index"]
    run(*pip, "--require-hashes", "-r", good, "--dest", tmp_path / "got")
    with pytest.raises(StepFailedError, match="DO NOT MATCH THE HASHES"):
        run(*pip, "--require-hashes", "-r", bad, "--dest", tmp_path / "got")


def test_nothing_asks_pip_for_somebody_elses_pypatcher() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == DISTRIBUTION
    assert DISTRIBUTION != "pypatcher"
    asking = " ".join(("pip", "install"))
    files = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    asked = [
        f"{name}: {line.strip()}"
        for name in filter(None, files.split("\0"))
        if name.endswith((".md", ".py", ".toml", ".sh", "Makefile", "run"))
        for line in (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
        if asking in line and line.rstrip("`\"' ,.)").endswith(" pypatcher")
    ]
    assert asked == []
