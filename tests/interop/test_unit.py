"""systemd itself reads the units of ``pypatcher unit`` and has nothing to say against them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KEY = "xg4icmwxh3kx1odasrjqtkcmw6eb9bj4h4k57i9yhqeozmer131y"


@pytest.mark.parametrize(
    "options",
    [[], ["--user", "root"], ["--public-key", KEY], ["--public-key", f"armv7={KEY}", "--guard"], ["--type", "exec"]],
)
@pytest.mark.parametrize("folder", ["plain", "with 100% $PACES"])
def test_systemd_accepts_the_unit(tmp_path: Path, options: list[str], folder: str) -> None:
    program = tmp_path / folder / "app"
    program.parent.mkdir()
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    command = [sys.executable, "-m", "pypatcher", "unit", *options, str(program), "--name", "kitchen sensor"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    unit = tmp_path / "app.service"
    unit.write_text(text)
    said = subprocess.run(["systemd-analyze", "verify", unit], check=False, capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr.replace(str(unit), "")) == (0, "", "")
