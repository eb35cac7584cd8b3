"""What people copy first runs as it stands: the README's app and the examples, from their sources."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pypatcher import Version
from pypatcher.errors import NotSingleFileError, VersionError

ROOT = Path(__file__).parents[2]


def readme_app() -> str:
    """The sample of README.md's "In a Python app"."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## In a Python app\n")[2]
    found = re.search(r"\n((?:    .*\n|\n)+)", section)
    assert found is not None
    return textwrap.dedent(found[1])


@pytest.mark.parametrize("sample", ["README.md", "examples/python-app/app.py", "examples/zipapp/service"])
def test_a_sample_runs_from_its_sources(tmp_path: Path, sample: str) -> None:
    path = ROOT / sample
    if sample == "README.md":
        path = tmp_path / "app.py"
        path.write_text(readme_app())
    process = subprocess.Popen(
        [sys.executable, path], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert "0.0.0" in process.stdout.readline()
        assert "no updates: this is no single-file program" in process.stderr.readline()
        assert process.poll() is None  # it goes on
    finally:
        process.kill()
        _, errors = process.communicate()
    assert "Traceback" not in errors


def test_the_version_has_a_default_where_there_is_no_signed_file() -> None:
    with pytest.raises(NotSingleFileError):
        Version.current()
    assert Version.current(default="0.0.0") == Version(0, 0, 0)
    with pytest.raises(VersionError):
        Version.current(default="none")
