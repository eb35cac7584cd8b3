"""``pypatcher fetch`` against real nodes: by discovery and from a named peer, whole and verified or nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.addresses import format_address
from pypatcher.artifact import PatchInfo
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.artifact.terms import Hold
from pypatcher.dht import MutableItem
from pypatcher.discovery import Published, Record, Slot, Tracker, encode_content, encrypt_record
from pypatcher.discovery.slots import unix_minute
from pypatcher.keys import KeyPair, encode_key
from tests.support.devices import LoopbackFleet, here, open_fleet, said_version
from tests.support.hostile import open_hostile_peer, sending
from tests.support.outcome import Outcome
from tests.support.transport import loopback


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path) as made:
        (tmp_path / "here").mkdir()
        yield made
        assert not [path for path in (tmp_path / "here").iterdir() if path.name != "app"]


def out_of(world: LoopbackFleet) -> Path:
    return world.folder / "here" / "app"


async def fetch(world: LoopbackFleet, *arguments: str) -> Outcome:
    """Run the command in a process of its own, in the folder ``here``, to write ``app`` there or to check."""
    command = [sys.executable, "-m", "pypatcher", "fetch", "--public-key", encode_key(world.owner)]
    command += [] if "--check" in arguments else ["--out", "app"]
    settings = ["--bind", f"{loopback()}:0", "--bootstrap", ",".join(map(format_address, world.net.bootstrap))]

    def run() -> Outcome:
        done = subprocess.run(
            [*command, *settings, *arguments],
            cwd=world.folder / "here",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert "Traceback" not in done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)

    return await asyncio.to_thread(run)


async def test_newest_release_by_discovery_with_how_sure_that_is(world: LoopbackFleet) -> None:
    old, _ = world.release("1.0.0")
    new, _ = world.release("2.0.0")
    await world.device(old).wait_for("record.published")
    await world.device(new).wait_for("record.published")
    done = await fetch(world, "--timeout", "4", "--json")
    assert done.status == 0, done.err
    assert (done.json["version"], done.json["out"], done.json["size"]) == ("2.0.0", "app", new.stat().st_size)
    assert 1 <= done.json["sources"] <= 2
    assert out_of(world).read_bytes() == new.read_bytes()
    assert said_version(out_of(world)) == "2.0.0"
    assert stat.S_IMODE(out_of(world).stat().st_mode) == 0o755
    assert "release.found" in done.err


async def test_what_the_owner_holds_is_not_fetched_but_what_he_calls_stable(world: LoopbackFleet) -> None:
    (old, older), (new, info) = world.release("1.0.0"), world.release("2.0.0")
    word = first_word(world.key, info, [here().name], Change(hold=Hold.HELD, stable=older))
    for path in (old, new):
        await world.device(path, manifest=word).wait_for("node.started")
    result = await fetch(world, "--timeout", "30")
    assert result.status == 0, result.err
    assert said_version(out_of(world)) == "1.0.0"


def say_by_six_voices(world: LoopbackFleet, info: PatchInfo) -> None:
    """Six ids that nobody has name that release in the slots of now, as anybody with a copy can have them do."""
    minute = unix_minute(time.time())
    for number, dht in enumerate(world.net.dhts[:6]):
        for slot in (Slot(world.namespace, minute - ago) for ago in (0, 1)):
            voice = KeyPair.from_seed(bytes([number]) * 32)
            content = encode_content(info, [("127.9.9.9", 1000 + number)])
            value = encrypt_record(slot, Record.make(slot, voice, content))
            item = MutableItem.sign(slot.key_pair, slot.salt, info.version.seq(), value)
            items = dht.by_family[4].server.items
            kept = items.get(item.target, time.monotonic())
            if kept is None or kept.seq < item.seq:
                items.put(item, dht.address, time.monotonic())


async def test_six_forged_voices_do_not_make_an_old_release_the_newest(world: LoopbackFleet) -> None:
    (old, info), (new, _) = world.release("1.0.0"), world.release("2.0.0")
    say_by_six_voices(world, info)
    await world.device(old).wait_for("node.started")

    async def be_late() -> None:
        for _ in range(5):
            say_by_six_voices(world, info)
            await asyncio.sleep(1.0)
        world.device(new)

    late = asyncio.create_task(be_late())
    result = await fetch(world, "--timeout", "20")
    await late
    assert result.status == 0, result.err
    assert said_version(out_of(world)) == "2.0.0"


async def test_a_named_peer_is_asked_alone_and_a_person_is_told_so(world: LoopbackFleet) -> None:
    new, _ = world.release("2.0.0")
    started = await world.device(new).wait_for("node.started")
    out_of(world).touch()
    done = await fetch(world, "--peer", f"{started.node_id}@{started.addresses[0]}", "--bootstrap", "")
    assert done.status == 0, done.err
    assert done.out.startswith("app: version 2.0.0, verified; from ")
    assert "nobody else was asked, so there may be a newer one" in done.out
    assert out_of(world).read_bytes() == new.read_bytes()


async def test_a_named_peer_must_be_who_it_is_said_to_be(world: LoopbackFleet) -> None:
    new, _ = world.release("2.0.0")
    started = await world.device(new).wait_for("node.started")
    done = await fetch(world, "--peer", f"{'ab' * 32}@{started.addresses[0]}")
    assert done.status == 1
    assert not out_of(world).exists()


async def test_less_than_the_lowest_version_that_will_do_is_refused(world: LoopbackFleet) -> None:
    new, _ = world.release("2.0.0")
    device = world.device(new)
    started = await device.wait_for("node.started")
    await device.wait_for("record.published")
    older, _ = world.release("1.0.0")
    shutil.copy(older, out_of(world))
    found = await fetch(world, "--min-version", "2.0.1", "--timeout", "3")
    asked = await fetch(world, "--min-version", "2.0.1", "--peer", f"{started.node_id}@{started.addresses[0]}")
    for done in (found, asked):
        assert done.status == 1
        assert "2.0.0, older than 2.0.1" in done.err
        assert out_of(world).read_bytes() == older.read_bytes()
    assert (await fetch(world, "--min-version", "2.0.0", "--timeout", "3")).status == 0


async def test_nobody_there_is_a_refusal_that_says_what_to_look_at(world: LoopbackFleet) -> None:
    done = await fetch(world, "--timeout", "2")
    assert done.status == 1
    assert "no node that has a release was heard within 2 s" in done.err
    assert not out_of(world).exists()


async def test_another_owners_or_another_targets_release_is_never_written(world: LoopbackFleet) -> None:
    path, info = world.release("2.0.0", KeyPair.generate())
    async with open_hostile_peer(world, sending(info, path.read_bytes())) as peer:
        await peer.announce(info)
        named = f"{peer.endpoint.node_id.hex()}@{format_address(peer.endpoint.addresses[0])}"
        heard, asked = await fetch(world, "--timeout", "2"), await fetch(world, "--peer", named)
    assert (heard.status, asked.status) == (1, 1)
    assert "no node that has a release was heard" in heard.err
    assert not out_of(world).exists()


async def test_a_peer_that_lies_is_passed_over_for_an_honest_one(world: LoopbackFleet) -> None:
    path, info = world.release("2.0.0")
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    async with open_hostile_peer(world, sending(info, bytes(damaged))) as peer:
        await peer.announce(info)
        alone = await fetch(world, "--timeout", "2")
        assert alone.status == 1
        assert "nobody delivered it" in alone.err
        assert not out_of(world).exists()
        await world.device(path).wait_for("record.published")
        assert (await fetch(world, "--timeout", "4")).status == 0
    assert out_of(world).read_bytes() == path.read_bytes()


async def test_a_release_that_no_record_names_is_found_in_the_swarm(
    world: LoopbackFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def publish(_self: Tracker, *_: object) -> Published:
        return Published(0, 0)

    monkeypatch.setattr(Tracker, "publish", publish)
    old, _ = world.release("1.0.0")
    new, _ = world.release("2.0.0")
    await world.device(old).wait_for("node.started")
    for _ in range(3):
        await world.device(new).wait_for("node.started")
    done = await fetch(world, "--timeout", "40", "--json")
    assert done.status == 0, done.err
    # The old device updates itself meanwhile, and may be asked after that.
    assert (done.json["version"], done.json["sources"]) in [("2.0.0", 3), ("2.0.0", 4)]
    assert out_of(world).read_bytes() == new.read_bytes()


async def test_a_place_that_cannot_be_written_is_told_before_any_fetch(world: LoopbackFleet) -> None:
    new, _ = world.release("2.0.0")
    started = await world.device(new).wait_for("node.started")
    done = await fetch(world, "--peer", f"{started.node_id}@{started.addresses[0]}", "--out", "/proc/nowhere/app")
    assert done.status == 1
    assert "cannot write /proc/nowhere/app" in done.err


async def test_a_check_says_what_is_newest_who_says_so_and_writes_nothing(world: LoopbackFleet) -> None:
    old, _ = world.release("1.0.0")
    new, _ = world.release("2.0.0")
    await world.device(old).wait_for("record.published")
    await world.device(new).wait_for("record.published")
    said, asked = (
        await fetch(world, "--check", "--timeout", "4"),
        await fetch(world, "--check", "--timeout", "4", "--json"),
    )
    assert (said.status, asked.status) == (0, 0), said.err + asked.err
    size = new.stat().st_size
    assert said.out.startswith(f"version 2.0.0, {size} bytes; ")
    assert "that it is the newest" in said.out
    assert (asked.json["version"], asked.json["size"]) == ("2.0.0", size)
    assert 1 <= asked.json["sources"] <= 2
    assert "fetch.started" not in said.err + asked.err
    assert not out_of(world).exists()


async def test_a_check_for_a_version_that_is_not_there_says_what_is(world: LoopbackFleet) -> None:
    new, _ = world.release("2.0.0")
    await world.device(new).wait_for("record.published")
    done = await fetch(world, "--check", "--min-version", "2.0.1", "--timeout", "3", "--json")
    assert (done.status, done.json["version"]) == (1, "2.0.0")
    assert done.json["error"] in done.err
    assert "the newest release heard of is 2.0.0, older than 2.0.1" in done.err
    assert (await fetch(world, "--check", "--min-version", "2.0.0", "--timeout", "3")).status == 0


async def test_a_check_that_hears_nobody_fails_and_says_what_to_look_at(world: LoopbackFleet) -> None:
    done = await fetch(world, "--check", "--timeout", "2", "--json")
    assert (done.status, list(done.json)) == (1, ["error"])
    assert "no node that has a release was heard within" in done.err


async def test_a_check_hears_of_a_release_that_no_record_names(
    world: LoopbackFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def publish(_self: Tracker, *_: object) -> Published:
        return Published(0, 0)

    monkeypatch.setattr(Tracker, "publish", publish)
    new, _ = world.release("2.0.0")
    for _ in range(3):
        await world.device(new).wait_for("node.started")
    done = await fetch(world, "--check", "--timeout", "40", "--json")
    assert done.status == 0, done.err
    assert (done.json["version"], done.json["sources"], done.json["older"]) == ("2.0.0", 3, 0)
    assert not out_of(world).exists()


async def test_it_begins_at_the_first_holder_and_says_what_it_waits_for(world: LoopbackFleet) -> None:
    new, _ = world.release("2.0.0")
    nobody = await fetch(world, "--timeout", "2")
    assert "waiting for a node that has a release (" in nobody.err
    await world.device(new).wait_for("record.published")
    done = await fetch(world, "--timeout", "4")
    assert done.status == 0, done.err
    waiting = "version 2.0.0 is here and verified; 1 node said that it is the newest, waiting for 2 more that agree"
    assert waiting in done.err
