"""The lab leaves nothing behind, however the process that made it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nat.janitor import NAMESPACES, processes

_LAB = """
import subprocess, sys
from tests.nat.sites import build_site
from tests.nat.lab import open_lab

with open_lab() as world:
    site = build_site(world, "easy")
    for namespace in site.namespaces:
        for deaf in ("", "trap '' TERM; "):
            command = [*world.enter(namespace), "sh", "-c", f"{deaf}echo here; read x"]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            process.stdout.readline()
    print(world.prefix, world.folder, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_nothing_is_left_of_a_lab_that_was_killed(number: signal.Signals) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _LAB]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as lab:
        assert lab.stdout is not None
        prefix, folder = next(line for line in lab.stdout if line.startswith("pypatcher-")).split()
        namespaces = [each.name for each in NAMESPACES.glob(f"{prefix}-*")]
        inside = {pid for name in namespaces for pid in processes(name)}
        assert len(namespaces) == 3
        assert len(inside) == 4
        lab.send_signal(number)
    async with asyncio.timeout(60):
        while [*NAMESPACES.glob(f"{prefix}-*")] or Path(folder).exists():
            await asyncio.sleep(0.1)
    assert not [pid for pid in inside if is_alive(pid)]


def is_alive(pid: int) -> bool:
    """Whether it runs: one that ended and that nobody waits for does not."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
