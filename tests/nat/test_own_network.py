"""One machine with many addresses, none, or others than before, and with interfaces that come and go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.nat.own_network import TESTS


@pytest.mark.parametrize("name", [test.__name__ for test in TESTS])
def test_on_its_own_network(name: str) -> None:
    command = [sys.executable, "-m", "tests.nat.own_network", name]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
