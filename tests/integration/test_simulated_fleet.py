"""A fleet of 60 devices on virtual time: who knows and has a release, and when, attacked and not.

Each run is a process of its own, since the clock of the whole process is the simulation's. ``bench/fleet.py`` runs the
same with 10,000 devices.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from statistics import median
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)

LOOK = 300.0
"""Seconds between two looks of a device that has been on for ten minutes."""
SMALL = ("--devices", "60", "--others", "100", "--warm", "60", "--quiet", "0", "--seconds", "600")
BESIEGED = ("--sybils", "210", "--junk")


@cache
def fleet(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.fleet", *SMALL, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_everybody_knows_a_release_within_two_looks() -> None:
    found = fleet("--churn", "0.3")
    assert found["knows 95 %"] < 2 * LOOK, found
    assert found["has 95 %"] < 2 * LOOK, found


def test_sybils_and_junk_keep_no_fleet_from_knowing() -> None:
    found = fleet("--churn", "0.3", *BESIEGED)
    assert found["knows 95 %"] < 2 * LOOK, found


def test_keepers_of_a_million_devices_let_a_fleet_know_all_the_same() -> None:
    """Of three runs the middle one: in each the last three devices of 57 decide, and most reads go unanswered."""
    runs = [fleet("--churn", "0.3", "--like", "1000000", "--seconds", "900", "--seed", seed) for seed in "123"]
    assert all(found["spreading"]["of 100 reads unanswered"] > 50 for found in runs), runs
    assert all(found["knows 50 %"] < LOOK for found in runs), runs
    assert median(found["knows 95 %"] or float("inf") for found in runs) < 3 * LOOK, runs


def test_a_hold_is_heard_within_four_looks_and_nobody_takes_more() -> None:
    calm, besieged = (fleet("--churn", "0.3", "--brake", "90", *attack) for attack in ((), BESIEGED))
    for found in (calm["brake"], besieged["brake"]):
        assert found["had it before"] > 0, found
        assert found["heard 95 %"] < 4 * LOOK, found
        assert found["took it after that"] == 0, found


def test_junk_slows_slots_alone_and_not_the_pointer() -> None:
    alone, junk = fleet("--sources", "slots"), fleet("--sources", "slots", "--junk")
    assert alone["knows 95 %"] < 2 * LOOK, alone
    besieged = fleet("--churn", "0.3", *BESIEGED)
    assert (junk["knows 50 %"] or float("inf")) > 2 * besieged["knows 50 %"], (junk, besieged)


@pytest.mark.parametrize(
    "plan",
    [("--devices", "100", "--churn", "0.3", "--seconds", "80"), ("--devices", "20", "--churn", "2", *BESIEGED)],
    ids=["calm", "besieged"],
)
def test_the_same_seed_is_the_same_run(plan: tuple[str, ...]) -> None:
    short = ("--others", "50", "--seconds", "100", *plan)
    first, again = fleet(*short), fleet(*short, "--seed", "1")
    assert first["digest"] == again["digest"]
    assert fleet(*short, "--seed", "2")["digest"] != first["digest"]
