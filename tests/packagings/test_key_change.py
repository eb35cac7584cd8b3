"""The owner's key changes while the fleet is out: the way that works, and the one that does not and is taken back.

Not here: a program under `run`, whose own key does not count (`unit/app/test_under_run.py`).

The programs are zipapps that say their starts and events; the peer is a device that has the next release. K1 signs what
is out there, K2 what comes.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import zipapp
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pypatcher.artifact import embed_region, read_release, sign_file
from pypatcher.dht import Testnet
from pypatcher.errors import SignatureMismatchError
from pypatcher.install import Installation, owner_verifies
from pypatcher.keys import KeyPair, OwnerKey, encode_key
from pypatcher.version import Version
from tests.support.devices import Device, here
from tests.support.packagings import wait_until
from tests.support.transport import loopback
from tests.support.updates import Program

K1, K2 = KeyPair.from_seed(bytes(range(1, 33))), KeyPair.from_seed(bytes(range(2, 34)))
TRUST_K1 = f'pypatcher.public_key("{encode_key(K1.public)}")'
TRUST_BOTH = f'pypatcher.public_key("{encode_key(K2.public)}", previous="{encode_key(K1.public)}")'
TRUST_K2 = f'pypatcher.public_key("{encode_key(K2.public)}")'

APP = """
import json, os, time
from pathlib import Path
import pypatcher
import pypatcher.discovery.tracker

pypatcher.discovery.tracker._MOST = 2.0  # it publishes though another holder does
STATE = Path(os.environ["APP_STATE"])

def say(name, **values):
    with (STATE / name).open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\\n")

@TRUST
def main():
    say("starts", version="VERSION", pid=os.getpid())
    pypatcher.on_event(lambda event: say("events", by="VERSION", **event.to_dict()))
    pypatcher.start()
    pypatcher.confirm()
    while not (STATE / "end").exists():
        time.sleep(0.05)
    pypatcher.stop()

if __name__ == "__main__":
    main()
"""


def put(device: Installation, release: Path) -> None:
    """Stage a release that is a file."""
    with release.open("rb") as file, device.new_partial() as partial:
        partial.write(file.read())
        device.stage(partial, read_release(file.fileno()).info)


def build(folder: Path, version: str, trust: str, key: KeyPair) -> Path:
    """A zipapp of that version, signed."""
    source = folder / f"source-{version}"
    source.mkdir(parents=True)
    (source / "__main__.py").write_text(APP.replace("TRUST", trust).replace("VERSION", version))
    path = folder / version
    zipapp.create_archive(source, path, interpreter=sys.executable)
    embed_region(path, Version.parse(version))
    sign_file(path, key, None, None)
    return path


class Change:
    """A device that runs 1.0.0, and peers that come with the next releases."""

    def __init__(self, folder: Path, built: dict[str, Path], net: Testnet) -> None:
        self.device = Program(folder / "device", built, net.bootstrap, "1.0.0")
        self._folder, self.built, self._net = folder, built, net
        self._peers: list[Device] = []

    async def offer(self, version: str, key: KeyPair) -> None:
        """A peer of the namespace of ``key`` that has that version."""
        folder = self._folder / f"peer-{version}"
        self._peers.append(Device(folder, self.built[version], OwnerKey(key.public), self._net.bootstrap))

    async def starts(self, count: int) -> list[str]:
        """The versions that started, once there are that many."""
        return [start["version"] for start in await asyncio.to_thread(self.device.wait_for, "starts", count)]

    async def events(self, name: str, count: int) -> list[dict[str, object]]:
        """The events of that name, once there are that many."""

        def said() -> list[dict[str, object]]:
            return [event for event in self.device.said("events") if event["event"] == name]

        await asyncio.to_thread(wait_until, lambda: len(said()) >= count, f"{count} {name}")
        return said()

    async def end(self) -> None:
        """Have the program end by itself."""
        (self.device.state / "end").touch()
        await asyncio.to_thread(self.device.wait_for_end)

    async def close(self) -> None:
        self.device.close()
        for peer in self._peers:
            await peer.stop()


@pytest.fixture
async def change(tmp_path: Path) -> AsyncIterator[Callable[[dict[str, tuple[str, KeyPair]]], Change]]:
    async with Testnet(8, host=loopback()) as net:
        made: list[Change] = []

        def make(releases: dict[str, tuple[str, KeyPair]]) -> Change:
            built = {version: build(tmp_path, version, *how) for version, how in releases.items()}
            made.append(Change(tmp_path, built, net))
            return made[-1]

        yield make
        for one in made:
            await one.close()


async def test_whole_change_of_the_key(change: Callable[[dict[str, tuple[str, KeyPair]]], Change]) -> None:
    world = change(
        {
            "1.0.0": (TRUST_K1, K1),
            "1.1.0": (TRUST_BOTH, K1),
            "1.2.0": (TRUST_K2, K2),
            "1.3.0": (TRUST_K1, K1),
        }
    )
    world.device.start(sys.executable, "./app")
    await world.starts(1)
    await world.offer("1.1.0", K1)
    assert await world.starts(2) == ["1.0.0", "1.1.0"]
    started = await world.events("node.started", 3)
    namespaces = {by: [each["namespace"] for each in started if each["by"] == by] for by in ("1.0.0", "1.1.0")}
    of_k1, of_k2 = (f"pypatcher-{here().name}-{encode_key(key.public)}" for key in (K1, K2))
    assert namespaces["1.0.0"] == [of_k1]
    assert sorted(namespaces["1.1.0"]) == sorted([of_k1, of_k2])  # it looks in both
    published = await world.events("record.published", 2)
    assert published  # and serves what K1 signed
    await world.offer("1.2.0", K2)
    assert await world.starts(3) == ["1.0.0", "1.1.0", "1.2.0"]
    await world.offer("1.3.0", K1)
    last = await world.events("node.started", 4)
    assert [each["namespace"] for each in last if each["by"] == "1.2.0"] == [of_k2]
    assert await world.starts(3) == ["1.0.0", "1.1.0", "1.2.0"]
    await world.end()


def test_a_key_that_was_replaced_counts_no_more(tmp_path: Path) -> None:
    both = owner_verifies(OwnerKey(K2.public), here(), OwnerKey(K1.public))
    built = {
        version: build(tmp_path, version, TRUST_BOTH, key)
        for version, key in (("1.1.0", K1), ("1.1.1", K1), ("1.2.0", K2), ("1.3.0", K1))
    }
    path = Path(shutil.copy(built["1.1.0"], tmp_path / "app"))
    device = Installation(path, both)
    device.settle("run")
    put(device, built["1.1.1"])  # while K1 signed the program, both count
    assert str(device.settle("run").version) == "1.1.1"
    assert device.confirm() is not None
    put(device, built["1.2.0"])
    assert str(device.settle("run").version) == "1.2.0"
    with pytest.raises(SignatureMismatchError, match="replaced"):
        put(device, built["1.3.0"])  # on trial already
    assert device.confirm() is not None
    with pytest.raises(SignatureMismatchError, match="replaced"):
        put(device, built["1.3.0"])


COMMANDS = {
    "spawn": '"$1" ./app',
    "guard": 'INVOCATION_ID=1 "$1" -m pypatcher guard --public-key "$2" ./app; '
    'INVOCATION_ID=1 SYSTEMD_EXEC_PID=$$ exec "$1" ./app',
}


@pytest.mark.parametrize("launcher", COMMANDS)
async def test_a_version_that_trusts_another_key_is_taken_back_at_once(
    change: Callable[[dict[str, tuple[str, KeyPair]]], Change], launcher: str
) -> None:
    world = change({"1.0.0": (TRUST_K1, K1), "1.1.0": (TRUST_K2, K1)})
    device = Installation(world.device.path, owner_verifies(OwnerKey(K1.public), here()))
    device.settle("guard")  # which does not run on, as far as others see
    put(device, world.built["1.1.0"])
    world.device.start("bash", "-c", COMMANDS[launcher], "bash", sys.executable, encode_key(K1.public))
    assert await world.starts(1) == ["1.0.0"]  # the main of 1.1.0 never ran
    status = Installation(world.device.path, owner_verifies(OwnerKey(K1.public), here())).status()
    assert str(status.running) == "1.0.0"
    assert status.trial is None
    (refused,) = status.refused
    assert "1.1.0: the public key in it is not the one that signed it" in refused.reason
    await world.end()
