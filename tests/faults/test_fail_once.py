"""Whatever fails once in a node, a seed, a thread or ``run``, at any await, callback or call: all of it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SEED = sys.version_info.minor  # another sample for each Python


@pytest.mark.timeout(7200)
def test_a_node_that_fails_once_anywhere_does_all_its_work_again(tmp_path: Path) -> None:
    _sweep(tmp_path, 50, "tests.support.still_clock", "tests.support.whole_node", part="device")


@pytest.mark.timeout(7200)
def test_a_seed_that_fails_once_anywhere_still_gives_every_release(tmp_path: Path) -> None:
    _sweep(tmp_path, 20, "tests.support.still_clock", "tests.support.whole_node", part="seed")


@pytest.mark.timeout(7200)
def test_a_thread_that_fails_once_anywhere_still_asks_for_restarts(tmp_path: Path) -> None:
    _sweep(tmp_path, 12, "tests.support.whole_thread")


@pytest.mark.timeout(7200)
def test_run_that_fails_once_anywhere_neither_ends_nor_stops_updating(tmp_path: Path) -> None:
    _sweep(tmp_path, 12, "tests.support.whole_run")


def _sweep(folder: Path, sample: int, *modules: str, part: str = "") -> None:
    number = "0" if os.environ.get("PYPATCHER_FAULTS") == "all" else str(sample)
    as_root = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    command = [*as_root, sys.executable, "-m", *modules, str(folder), number, str(_SEED), part]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " failures of " in done.stdout
