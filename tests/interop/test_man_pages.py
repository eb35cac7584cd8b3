"""The man pages, as argparse-manpage makes them of the parsers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pypatcher.cli.dispatch import COMMANDS


def test_man_pages_are_made_from_the_parsers(tmp_path: Path) -> None:
    scripts = Path(__file__).parents[2] / "scripts"
    subprocess.run([sys.executable, scripts / "manpages.py", tmp_path], check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["pypatcher.1", *(f"pypatcher-{command}.1" for command in COMMANDS)]
    )
    assert "min\\-version" in (tmp_path / "pypatcher-fetch.1").read_text()
