"""What a device at rest costs its owner's data plan: bytes of a whole node on real sockets, while hours pass at once.

The table of docs/network.md is a day of the same (``bench/data_plan.py``). Here it is some hours, in which what comes
every hour or two may have come once more than its share; a device that does not rest moves many times as much.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("variables", "hours", "most"), [({}, 4, 6.0), ({"PYPATCHER_METERED": "1"}, 6, 0.3)])
def test_a_device_at_rest_costs_few_bytes_a_day(variables: dict[str, str], hours: int, most: float) -> None:
    as_root = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    command = [*as_root, sys.executable, "-m", "tests.support.still_clock", "bench.data_plan", "1", str(hours)]
    environment, cwd = {**os.environ, **variables}, Path(__file__).parents[2]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [day] = [float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("in all")]
    assert 0 < day <= most, done.stdout
