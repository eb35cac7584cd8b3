"""`publish` and `lookup` as people call them: a manifest goes into the network without a device, and comes out."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.addresses import format_address
from pypatcher.artifact.beside import read_manifest, write_manifest
from pypatcher.artifact.rollout import Change, first_word, next_word
from pypatcher.keys import encode_key
from tests.support.devices import LoopbackFleet, here, open_fleet
from tests.support.outcome import Outcome
from tests.support.transport import loopback


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path) as made:
        yield made


async def call(desk: LoopbackFleet, *command: str) -> Outcome:
    """Run a command in a process of its own."""
    settings = ["--bind", f"{loopback()}:0", "--bootstrap", ",".join(map(format_address, desk.net.bootstrap))]

    def run() -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "pypatcher", *command, *settings],
            cwd=desk.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert "Traceback" not in done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)

    return await asyncio.to_thread(run)


async def test_what_is_published_reaches_devices_and_lookup_saves_it(desk: LoopbackFleet) -> None:
    (old, _), (_, info) = desk.release("1.0.0"), desk.release("2.0.0")
    word = first_word(desk.key, info, [here().name], Change(share=2500))
    write_manifest(desk.folder / "app.manifest", word, replace=False)
    done = await call(desk, "publish", "app.manifest", "--json")
    assert done.status == 0, done.err
    assert done.json["kept"][here().name]["nodes"] >= 5
    device = desk.device(old)
    await device.wait_for("node.started")
    async with asyncio.timeout(30):
        while device.node.word is None or device.node.word.current != word.for_target(here().name):
            await asyncio.sleep(0.1)
    found = await call(desk, "lookup", "--public-key", encode_key(desk.owner), "--target", here().name, "--json",
                       "--save", "found.manifest")  # fmt: skip
    assert found.status == 0, found.err
    assert found.json[here().name]["manifest"]["seq"] == word.seq
    assert read_manifest(desk.folder / "found.manifest") == word


async def test_an_older_word_than_the_networks_is_refused(desk: LoopbackFleet) -> None:
    _, info = desk.release("2.0.0")
    word = first_word(desk.key, info, [here().name], Change(share=0))
    write_manifest(desk.folder / "app.manifest", word, replace=False)
    write_manifest(desk.folder / "app.hold", next_word(word, desk.key, Change(share=100), made=1), replace=False)
    assert (await call(desk, "publish", "app.hold")).status == 0
    refused = await call(desk, "publish", "app.manifest")
    assert refused.status == 1
    assert "the network shows a newer word" in refused.err


@pytest.mark.parametrize(
    "arguments",
    [["a.steps"], ["a.manifest", "--each", "24h"], ["a.steps", "--each", "soon"], ["a.manifest", "--until", "0"]],
)
async def test_what_makes_no_sense_is_refused_by_name(desk: LoopbackFleet, arguments: list[str]) -> None:
    done = await call(desk, "publish", *arguments)
    assert done.status in (1, 2)
    assert "pypatcher publish: " in done.err
