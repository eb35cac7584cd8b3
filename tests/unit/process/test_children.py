"""Ending what a program leaves behind; whole programs do it in tests/packagings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
SCRIPT = """
import logging, os, signal, subprocess
from pypatcher.process import children

logging.basicConfig(format="%(message)s")
helper = subprocess.Popen(["sleep", "60"])
kill = os.kill
os.kill = lambda pid, number: None  # as to one that waits for a broken disk
children.end_children(0.2)
kill(helper.pid, signal.SIGKILL)
print(helper.wait())
"""


def test_who_cannot_be_killed_is_named_and_left_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "-9", done.stderr
    assert "(sleep, state S)" in done.stderr
