"""``pypatcher netcheck`` tells each kind of place from the others, from inside."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.nat.lab import Lab, open_lab
from tests.nat.public_dht import start_dht
from tests.nat.sites import KINDS, Host, build_site
from tests.nat.upnp import mappings

pytestmark = pytest.mark.timeout(180)

NAT = {
    "public": "public",
    "forward": "easy",
    "upnp": "hard",
    "easy": "easy",
    "double": "easy",
    "hard": "hard",
    "ipv6": "hard",
    "ipv6 alone": "none",
    "blocked": "none",
}


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    return asyncio.run(_ask_everywhere())


async def _ask_everywhere() -> dict[str, Any]:
    with open_lab() as world:
        bootstrap = start_dht(world)
        sites = {kind: build_site(world, kind) for kind in KINDS}
        answers = await asyncio.gather(*(_netcheck(world, site.hosts[0], bootstrap) for site in sites.values()))
        assert mappings(world, sites["upnp"].routers[0]) == []
        return dict(zip(sites, answers, strict=True))


async def _netcheck(world: Lab, host: Host, bootstrap: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        *world.enter(host.namespace),
        *(sys.executable, "-m", "pypatcher", "netcheck", "--json", "--bootstrap", bootstrap, "--bind", host.bind),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return json.loads(out) | {"status": process.returncode}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_router_is_seen(kind: str, said: dict[str, Any]) -> None:
    assert said[kind]["nat"] == NAT[kind], said[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_only_where_udp_is_blocked_nobody_is_found(kind: str, said: dict[str, Any]) -> None:
    assert said[kind]["works"] == (kind != "blocked")
    assert said[kind]["status"] == (1 if kind == "blocked" else 0)


def test_blocked_udp_is_named(said: dict[str, Any]) -> None:
    assert "block UDP" in said["blocked"]["verdicts"][0]["advice"]


def test_a_port_that_the_router_opens_is_seen_and_given_back(said: dict[str, Any]) -> None:
    assert {kind for kind, answer in said.items() if answer["mapped"]} == {"upnp"}
