"""What importing costs: the parts of aioquic that we do not use stay out, and heavy ones come with the room alone."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import pypatcher.transport", ("aioquic.asyncio", "aioquic.h3.connection", "pylsqpack")),
        ("import pypatcher, pypatcher.artifact, pypatcher.keys", ("aioquic", "cryptography", "pypatcher.transport")),
    ],
)
def test_modules_that_are_not_needed_are_not_imported(statement: str, absent: tuple[str, ...]) -> None:
    program = f"import sys; {statement}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
