"""The simulator that most tests of whole updates use: a fleet on loopback, in the event loop of a test.

Programs are real and signed, nodes are real, the DHT is private; only the intervals are short. One whole update::

    async with open_fleet(tmp_path) as fleet:
        fleet.device(fleet.release("2.0.0")[0])  # a device that runs the new release, and so serves it
        device = fleet.device(fleet.release("1.0.0")[0])  # one that wants it
        await device.wait_for("release.staged")
        assert device.restart() == "2.0.0"  # what the program says at its next start

Not here: peers that lie (``hostile``), programs that crash (``crashing``), devices behind routers (``tests/nat``), an
updater alone on virtual time (``updater_world``).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from typing import Any

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo, sign_file
from pypatcher.artifact.beside import manifest_path, write_manifest
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.dht import Testnet
from pypatcher.discovery import Namespace
from pypatcher.events import Event
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.node.device import NamespaceKind, own_target
from pypatcher.node.node import Node
from pypatcher.settings import Settings
from pypatcher.targets import Target
from pypatcher.transfer import StallRule
from pypatcher.update.orders import open_installed
from tests.support.transport import loopback

__all__ = ["PATIENCE", "Device", "LoopbackFleet", "compile_app", "here", "open_fleet", "said_version"]

_SOURCE = Path(__file__).with_name("small_app.c")
_INCLUDE = Path(__file__).parents[2] / "pypatcher" / "include"
_QUICK = StallRule(1000.0, 0.5)
PATIENCE = 30.0


@cache
def here() -> Target:
    """This machine's target."""
    return own_target(Path(sys.executable), Path(sys.executable))


def compile_app(path: Path, version: str) -> Path:
    """The small C program in that version, with an unsigned region in its section."""
    command = ["cc", "-O1", f"-I{_INCLUDE}", f'-DVERSION="{version}"', "-o", str(path), str(_SOURCE)]
    subprocess.run(command, check=True)
    return path


def said_version(program: Path) -> str:
    """What a program says when it is started."""
    done = subprocess.run([program], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


class Device:
    """A folder with a program in it, and its node."""

    def __init__(
        self,
        folder: Path,
        program: Path,
        owner: OwnerKey,
        bootstrap: tuple[Address, ...],
        stall: StallRule = _QUICK,
        *,
        kind: NamespaceKind = "pypatcher",
        manifest: ManifestFile | None = None,
        host: str | None = None,
    ) -> None:
        folder.mkdir()
        self.path = Path(shutil.copy(program, folder / "app"))
        self.installation = open_installed(self.path, owner, here())
        self.installation.settle("run")
        if manifest is not None:
            write_manifest(manifest_path(self.path), manifest, replace=True)
        self.events: list[Event] = []
        self._news = asyncio.Event()
        settings = Settings(
            bootstrap=bootstrap,
            bind=((host or loopback(), 0),),
            publish_interval=0.5,
            look_interval=0.3,
            state=folder / "state",
            device_id=bytes(16),
        )
        self._config = NodeConfig({None: owner}, kind, settings=settings, stall=stall)
        self._owner = owner
        self.start()

    def start(self) -> None:
        """Be a node, once more after ``stop``."""
        self.node = Node(self._config, NodeProgram(here(), self._owner, self.installation), self._heard)
        self.task = asyncio.create_task(self.node.run())

    def _heard(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    async def wait_for(
        self, name: str, accept: Callable[[Any], bool] = lambda _event: True, *, seconds: float = PATIENCE
    ) -> Any:
        """The first event of that name that is accepted, said already or yet to come."""
        seen = 0
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for event in self.events[seen:]:
                        seen += 1
                        if event.name == name and accept(event):
                            return event
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {name} within {seconds:g} s but {list(map(str, self.events))}") from None

    def names(self) -> list[str]:
        """The names of all events so far."""
        return [event.name for event in self.events]

    def restart(self) -> str:
        """Settle as the next start would, and what the program then says when it is started."""
        self.installation.settle("run")
        return said_version(self.path)

    async def hear(self, word: ManifestFile) -> None:
        """Its node hears the owner's word."""
        mine, known = word.for_target(here().name), self.node.word
        assert mine is not None and known is not None
        await known.hear(mine.encode())

    async def stop(self) -> None:
        """End the node."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class LoopbackFleet:
    """A private DHT, an owner, releases and devices."""

    def __init__(self, folder: Path, net: Testnet) -> None:
        self.folder = folder
        self.net = net
        self.key = KeyPair.generate()
        self.owner = OwnerKey(self.key.public)
        self.namespace = Namespace.ours(here().name, self.owner)
        self.devices: list[Device] = []
        self.cleanup = contextlib.AsyncExitStack()

    def release(self, version: str, key: KeyPair | None = None) -> tuple[Path, PatchInfo]:
        """The program, signed in that version."""
        path = compile_app(self.folder / f"app-{version}-{len(list(self.folder.iterdir()))}", version)
        return path, sign_file(path, key or self.key, None, here())

    def device(
        self,
        program: Path,
        stall: StallRule = _QUICK,
        kind: NamespaceKind = "pypatcher",
        manifest: ManifestFile | None = None,
    ) -> Device:
        """A device that runs that program; its node is at work at once, and waits for no peer slower than ``stall``.

        ``manifest`` lies beside the program.
        """
        folder = self.folder / f"device-{len(self.devices)}"
        self.devices.append(
            Device(folder, program, self.owner, self.net.bootstrap, stall, kind=kind, manifest=manifest)
        )
        return self.devices[-1]


@contextlib.asynccontextmanager
async def open_fleet(folder: Path, nodes: int = 8) -> AsyncIterator[LoopbackFleet]:
    """A fleet of its own on loopback; everything in it ends with the block."""
    async with Testnet(nodes, host=loopback()) as net:
        world = LoopbackFleet(folder, net)
        try:
            async with world.cleanup:
                yield world
        finally:
            for device in world.devices:
                await device.stop()
