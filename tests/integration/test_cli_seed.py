"""``pypatcher seed`` against real nodes: who does not run a release gives it to those who do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pypatcher.addresses import format_address
from pypatcher.artifact import sign_file
from pypatcher.dht import Testnet
from pypatcher.events import Event
from pypatcher.keys import KeyPair, OwnerKey, encode_key
from pypatcher.nat.portmap import PortMapper
from pypatcher.nat.portmap.pcp import Granted
from pypatcher.node import network as network_module
from pypatcher.node.seed import seed_files
from pypatcher.node.seedfile import SeedFile, choose_files
from pypatcher.settings import Settings
from tests.support.devices import LoopbackFleet, compile_app, here, open_fleet
from tests.support.packagings import wait_until
from tests.support.programs import AARCH64, with_section
from tests.support.transport import loopback
from tests.support.updates import KEY, NEW, OLD, Program, build

pytestmark = pytest.mark.timeout(180)
REPOSITORY = Path(__file__).parents[2]


class Seed:
    """The command in a process of its own, in an empty folder that it may not write to."""

    def __init__(self, folder: Path, net: Testnet, *arguments: object, cache: Path | None = None) -> None:
        self.folder = folder
        self._errors = folder.with_name(f"{folder.name}.errors")
        command = [sys.executable, "-m", "pypatcher", "seed", *map(str, arguments)]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "PYPATCHER_BIND": f"{loopback()}:0",
            "PYPATCHER_BOOTSTRAP": ",".join(map(format_address, net.bootstrap)),
            "PYPATCHER_LOOK_INTERVAL": "0.5",
            "PYPATCHER_PUBLISH_INTERVAL": "1",
            "PYPATCHER_LOG": "json",
        }
        if cache is not None:
            environment["PYPATCHER_STATE"] = str(cache)
        folder.mkdir()
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=errors, stderr=errors)

    @property
    def text(self) -> str:
        """All that it said."""
        return self._errors.read_text()

    def said(self, name: str, accept: Callable[[dict[str, Any]], bool] = lambda _: True) -> list[dict[str, Any]]:
        """Its events of that name."""
        events = map(json.loads, self.text.splitlines())
        return [event for event in events if event["event"] == name and accept(event)]

    async def wait_for(self, name: str, accept: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The first event of that name that is accepted."""
        await asyncio.to_thread(wait_until, lambda: self.said(name, accept), f"{name}: {self._errors}")
        return self.said(name, accept)[0]

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Stop it; its status."""
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 30)

    def close(self) -> None:
        """End what a failed test left running."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path) as made:
        yield made


@pytest.fixture
def start(tmp_path: Path) -> AsyncIterator[Callable[..., Seed]]:
    with contextlib.ExitStack() as started:

        def make(net: Testnet, *arguments: object, **options: Any) -> Seed:
            seed = Seed(tmp_path / "seeding", net, *arguments, **options)
            started.callback(seed.close)
            return seed

        yield make


async def fetch(world: LoopbackFleet, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``pypatcher fetch`` to ``out``."""
    command = [sys.executable, "-m", "pypatcher", "fetch", "--public-key", encode_key(world.owner), "--out", str(out)]
    settings = ["--bind", f"{loopback()}:0", "--bootstrap", ",".join(map(format_address, world.net.bootstrap))]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return await asyncio.to_thread(
        subprocess.run,
        [*command, *settings, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


async def test_a_device_updates_itself_from_a_seed_that_runs_nothing(
    tmp_path: Path, start: Callable[..., Seed]
) -> None:
    built = await asyncio.to_thread(build, "elf")
    release = Path(shutil.copy(built[NEW], tmp_path / "release"))
    release.chmod(0o400)
    public = encode_key(KEY.public)
    async with Testnet(8, host=loopback()) as net:
        device = Program(tmp_path / "device", built, net.bootstrap, OLD)
        try:
            run = [sys.executable, "-m", "pypatcher", "run", "--public-key", public, "--", "./app", "stay"]
            process = device.start(*run, PYPATCHER_LOG="json")
            seed = start(net, release, "--public-key", f"{here().name}={public}")
            started = await seed.wait_for("node.started")
            assert (started["version"], started["mode"]) == (NEW, "seed")
            published = await seed.wait_for("record.published")
            assert published["version"] == NEW
            await asyncio.to_thread(
                wait_until,
                lambda: [line.split()[0] for line in device.text("log").splitlines()] == [OLD, NEW],
                lambda: f"the update: {device.text('errors')[-3000:]}",
            )
            assert device.path.read_bytes() == release.read_bytes()
            assert await seed.end() == 0
            assert seed.said("node.stopped")
            assert list(seed.folder.iterdir()) == []
            process.terminate()
            assert await asyncio.to_thread(process.wait, 30) == -signal.SIGTERM
        finally:
            device.close()


async def test_it_offers_releases_for_two_machines_and_is_neither(
    world: LoopbackFleet, tmp_path: Path, start: Callable[..., Seed]
) -> None:
    arm, arm_key = tmp_path / "app-aarch64", KeyPair.generate()
    arm.write_bytes(with_section("3.0.0", machine=AARCH64))
    sign_file(arm, arm_key, None, None)
    own, _ = world.release("2.0.0")
    keys = [f"aarch64={encode_key(arm_key.public)}", f"{here().name}={encode_key(world.owner)}"]
    seed = start(world.net, arm, own, "--public-key", keys[0], "--public-key", keys[1], cache=tmp_path / "cache")
    for version in ("2.0.0", "3.0.0"):
        await seed.wait_for("record.published", lambda event, version=version: event["version"] == version)
    assert len({event["node_id"] for event in seed.said("node.started")}) == 2
    there = ["--target", "aarch64", "--public-key", keys[0], "--timeout", "4"]
    done = await fetch(world, tmp_path / "fetched", *there)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "fetched").read_bytes() == arm.read_bytes()
    done = await fetch(world, tmp_path / "for us", "--timeout", "4")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "for us").read_bytes() == own.read_bytes()
    assert await seed.end(signal.SIGINT) == 0
    caches = [path.name for path in (tmp_path / "cache" / "pypatcher").iterdir()]
    assert sorted(name.split("-")[1] for name in caches) == sorted(["aarch64", here().name])
    assert all(name.endswith("-seed") for name in caches)


async def test_a_changed_file_is_no_longer_served_until_it_verifies_again(
    world: LoopbackFleet, tmp_path: Path, start: Callable[..., Seed]
) -> None:
    own, _ = world.release("2.0.0")
    good = own.read_bytes()
    seed = start(world.net, own, "--public-key", encode_key(world.owner))
    started = await seed.wait_for("node.started")
    peer = ["--peer", f"{started['node_id']}@{started['addresses'][0]}"]
    assert (await fetch(world, tmp_path / "first", *peer)).returncode == 0
    with own.open("r+b") as file:
        file.seek(100)
        file.write(bytes([good[100] ^ 1]))
    refused = await fetch(world, tmp_path / "second", *peer)
    assert refused.returncode == 1
    assert "fetch.started" not in refused.stderr
    assert not (tmp_path / "second").exists()
    await seed.wait_for("release.withheld", lambda event: "was changed or replaced" in event["reason"])
    await seed.wait_for("release.withheld", lambda event: "hash" in event["reason"])
    assert (await fetch(world, tmp_path / "second", *peer)).returncode == 1
    newer, _ = world.release("2.1.0")
    newer.replace(own)
    await seed.wait_for("release.offered", lambda event: event["version"] == "2.1.0")
    assert (await fetch(world, tmp_path / "second", *peer)).returncode == 0
    assert (tmp_path / "second").read_bytes() == own.read_bytes()


async def test_it_says_once_that_there_is_a_newer_one_and_serves_its_own(
    world: LoopbackFleet, tmp_path: Path, start: Callable[..., Seed]
) -> None:
    given, _ = world.release("1.0.0")
    newer, _ = world.release("2.0.0")
    await world.device(newer).wait_for("record.published")
    seed = start(world.net, given, "--public-key", encode_key(world.owner))
    started = await seed.wait_for("node.started")
    await seed.wait_for("release.found", lambda event: event["version"] == "2.0.0")
    done = await fetch(world, tmp_path / "out", "--peer", f"{started['node_id']}@{started['addresses'][0]}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_bytes() == given.read_bytes()
    served = await seed.wait_for("release.served")
    assert (served["version"], served["bytes"]) == ("1.0.0", given.stat().st_size)
    assert served["network"].startswith("127.")
    assert 0 <= served["seconds"] < 60
    assert await seed.end() == 0
    assert len(seed.said("release.found")) == 1
    (conflict,) = seed.said("release.conflicts")
    assert "the fleet has 2.0.0, which is newer" in conflict["reason"]


async def test_other_bytes_under_the_same_version_are_said_on_both_sides(
    world: LoopbackFleet, start: Callable[..., Seed]
) -> None:
    own, _ = world.release("2.0.0")
    other = compile_app(world.folder / "another-build", "2.0.0")
    with other.open("ab") as file:
        file.write(b"built again")
    sign_file(other, world.key, None, here())
    device = world.device(own)
    await device.wait_for("record.published")
    seed = start(world.net, other, "--public-key", encode_key(world.owner))
    conflict = await seed.wait_for("release.conflicts")
    assert conflict["version"] == "2.0.0"
    assert "other bytes under this version" in conflict["reason"]
    assert (await device.wait_for("release.conflicts")).version == "2.0.0"


async def test_it_ends_by_itself_after_the_time_that_it_was_given(
    world: LoopbackFleet, start: Callable[..., Seed]
) -> None:
    own, _ = world.release("2.0.0")
    seed = start(world.net, own, "--public-key", encode_key(world.owner), "--for", "1")
    assert await asyncio.to_thread(seed.process.wait, 60) == 0
    assert seed.said("node.stopped")


async def test_a_socket_that_cannot_be_bound_announces_nothing(
    world: LoopbackFleet, start: Callable[..., Seed]
) -> None:
    own, _ = world.release("2.0.0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        seed = start(world.net, own, "--public-key", encode_key(world.owner), "--bind", taken)
        assert await asyncio.to_thread(seed.process.wait, 60) == 2
    *_, last = seed.text.splitlines()
    assert last.startswith(f"pypatcher seed: cannot bind {taken}")
    assert "node.started" not in seed.text


async def test_a_release_is_offered_to_the_devices_of_the_rust_program(
    world: LoopbackFleet, tmp_path: Path, start: Callable[..., Seed]
) -> None:
    own, _ = world.release("2.0.0")
    there = ["--namespace", "rustpatcher"]
    seed = start(world.net, own, "--public-key", encode_key(world.owner), *there)
    await seed.wait_for("record.published")
    done = await fetch(world, tmp_path / "out", *there, "--timeout", "4")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_bytes() == own.read_bytes()
    assert await seed.end() == 0


class GrantingRouter:
    """Grants every port, and notes which are open."""

    name = "PCP"

    def __init__(self) -> None:
        self.open_ports: set[int] = set()
        self.asked = asyncio.Event()

    async def open(self, port: int, seconds: int) -> Granted:
        self.open_ports.add(port)
        self.asked.set()
        return Granted("198.51.100.1", port, seconds)

    async def close(self, port: int) -> None:
        self.open_ports.discard(port)


async def test_ports_that_routers_opened_are_given_back_at_the_end(
    world: LoopbackFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, _ = world.release("2.0.0")
    router = GrantingRouter()

    def mapper(bound: Any, kind: int) -> PortMapper | None:
        if kind == 6:
            return None
        return PortMapper(bound[0][1], gateway=lambda: "127.0.0.1", clients=lambda _: [router])

    monkeypatch.setattr(network_module, "port_mapper", mapper)
    files: list[SeedFile] = choose_files([own], {None: OwnerKey(world.key.public)}, (), "pypatcher")
    settings = Settings(bootstrap=world.net.bootstrap, bind=((loopback(), 0),), state=world.folder / "cache")
    said: list[Event] = []
    seeding = asyncio.create_task(seed_files(files, settings, said.append))
    async with asyncio.timeout(30):
        await router.asked.wait()
    assert len(router.open_ports) == 1
    seeding.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await seeding
    assert router.open_ports == set()
    assert [event.name for event in said][-1] == "node.stopped"
