"""A whole rollout on real processes, small: ``make rollout`` does the same with forty of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)


def test_steps_the_brake_and_all_reach_whom_the_formula_names() -> None:
    command = [sys.executable, "-m", "bench.rollout", "--new", "6", "--look", "0.5", "--no-hurry"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "as the owner said"
