"""What an app with ``start()`` shows of its node: lines by ``logging``, or JSON alone."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

from pypatcher.artifact import embed_region, sign_file
from pypatcher.dht import Testnet
from pypatcher.keys import encode_key
from pypatcher.version import Version
from tests.support.packagings import wait_until
from tests.support.transport import loopback
from tests.support.updates import KEY, Program

APP = f"""
import logging, os, time
from pathlib import Path
import pypatcher

logging.basicConfig(level=logging.INFO, format="plain %(message)s")

@pypatcher.public_key("{encode_key(KEY.public)}")
def main():
    pypatcher.start()
    while not Path(os.environ["APP_STATE"], "end").exists():
        time.sleep(0.05)
    pypatcher.stop()

main()
"""


def release(folder: Path, version: Version) -> Path:
    (folder / "source").mkdir(exist_ok=True)
    (folder / "source" / "__main__.py").write_text(APP)
    built = folder / f"built-{version}"
    zipapp.create_archive(folder / "source", built, interpreter=sys.executable)
    embed_region(built, version)
    sign_file(built, KEY, None, None)
    return built


@pytest.mark.parametrize("as_json", [False, True])
async def test_events_are_shown_once_as_lines_or_as_json(tmp_path: Path, as_json: bool) -> None:
    built = release(tmp_path, Version(1, 0, 0))
    async with Testnet(4, host=loopback()) as net:
        device = Program(tmp_path / "device", {"1.0.0": built}, net.bootstrap, "1.0.0")
        try:
            device.start(sys.executable, "./app", **({"PYPATCHER_LOG": "json"} if as_json else {}))
            await asyncio.to_thread(
                wait_until, lambda: "record.published" in device.text("errors"), "the node to be at work"
            )
            (device.state / "end").touch()
            await asyncio.to_thread(device.wait_for_end)
            lines = device.text("errors").splitlines()
        finally:
            device.close()
    assert sum("node.started" in line for line in lines) == 1
    if as_json:
        assert {"node.started", "node.stopped"} <= {json.loads(line)["event"] for line in lines}
    else:
        assert any(line.startswith("plain node.started node_id=") for line in lines)


def test_what_a_start_activates_is_said_before_main_begins(tmp_path: Path) -> None:
    built = {str(version): release(tmp_path, version) for version in (Version(1, 0, 0), Version(2, 0, 0))}
    device = Program(tmp_path / "device", built, (), "1.0.0")
    stage = [sys.executable, "-m", "pypatcher", "stage", str(built["2.0.0"]), str(device.path)]
    alone = {"PYPATCHER_LOG": "json", "PYPATCHER_LAN": "0"}
    subprocess.check_call(stage)
    try:
        device.start(sys.executable, "./app", **alone)
        wait_until(lambda: "node.started" in device.text("errors"), "the node's start")
        (device.state / "end").touch()
        device.wait_for_end()
    finally:
        device.close()
    said = [json.loads(line) for line in device.text("errors").splitlines()]
    told = [(one["event"], one["version"]) for one in said if one["event"] in ("release.activated", "node.started")]
    assert told == [("release.activated", "2.0.0"), ("node.started", "2.0.0")]
