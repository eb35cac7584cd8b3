"""``pypatcher fetch`` where no record is to be seen: a holder behind an easy router is found by the swarm."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nat.fleet import NEW, LabFleet, build_program
from tests.nat.lab import Lab, open_lab
from tests.nat.public_dht import start_dht
from tests.nat.sites import Host, build_site

pytestmark = pytest.mark.timeout(300)

# The command, blind to records.
_FETCH = """
import sys
from pypatcher.cli.dispatch import main
from pypatcher.discovery import Tracker

async def look(_self, **_options):
    return []

Tracker.look = look
sys.exit(main(sys.argv[1:]))
"""


async def _fetch(world: Lab, fleet: LabFleet, host: Host, out: Path, *arguments: str) -> tuple[int, str, str]:
    command = ["fetch", "--public-key", fleet.public_key, "--out", str(out), "--json", *arguments]
    process = await asyncio.create_subprocess_exec(
        *world.enter(host.namespace),
        *(sys.executable, "-c", _FETCH, *command),
        env=fleet.environment(host, out.name),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    said, errors = await process.communicate()
    return process.returncode or 0, said.decode(), errors.decode()


async def test_a_first_installation_meets_a_holder_behind_a_router() -> None:
    with open_lab() as world:
        programs, bootstrap = build_program(world.folder), start_dht(world)
        fleet = LabFleet(world, programs, bootstrap, "fetch")
        try:
            holder = await fleet.start(build_site(world, "easy").hosts[0], "holder", NEW)
            places = {kind: build_site(world, kind).hosts[0] for kind in ("public", "easy")}
            outs = {kind: world.folder / f"fetched-{kind}" for kind in places}
            done = await asyncio.gather(
                *(_fetch(world, fleet, places[kind], outs[kind], "--timeout", "15") for kind in places)
            )
            for (status, said, errors), out in zip(done, outs.values(), strict=True):
                assert status == 0, errors
                assert (json.loads(said)["version"], json.loads(said)["sources"]) == (NEW, 1)
                assert out.read_bytes() == holder.program.read_bytes()
        finally:
            await fleet.stop()
