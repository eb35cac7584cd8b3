"""What importing costs: the parts of aioquic that we do not use stay out, and heavy ones come with the room alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import pypatcher.transport", ("aioquic.asyncio", "aioquic.h3.connection", "pylsqpack")),
        (
            "import pypatcher.node.node, pypatcher.app.patcher",
            ("aioquic.asyncio", "aioquic.h3.connection", "pylsqpack"),
        ),
        (
            "from pypatcher.cli import main; main(['gen', 'keys', '--all-targets', '--json'])",
            ("aioquic", "cryptography", "asyncio", "pypatcher.transport", "pypatcher.dht"),
        ),
        ("import pypatcher, pypatcher.artifact, pypatcher.keys", ("aioquic", "cryptography", "pypatcher.transport")),
    ],
)
def test_modules_that_are_not_needed_are_not_imported(tmp_path: Path, statement: str, absent: tuple[str, ...]) -> None:
    program = f"import sys; {statement}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
