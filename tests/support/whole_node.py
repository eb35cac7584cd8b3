"""A whole device in an hour and a half of virtual time, failed once at one of its points; and a seed likewise.

Run by ``still_clock``. A device that runs 1.0.0 takes over 2.0.0 and, a quarter of an hour later, 3.0.0, on sockets of
a network namespace of its own: DHT, LAN, router and seeds beside it are real, and are never failed. Afterwards it must
run the newest version, confirmed, and do everything again that it does regularly where nothing fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pypatcher.discovery.tracker
import pypatcher.node.network
from pypatcher.app.keep_node import keep_node
from pypatcher.artifact import sign_file
from pypatcher.artifact.beside import manifest_path, write_manifest
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.artifact.tree import stated_root
from pypatcher.dht import Testnet
from pypatcher.events import Event
from pypatcher.install import Installation, owner_verifies
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.nat.portmap import pcp
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.node.node import Node
from pypatcher.node.seed import seed_files
from pypatcher.node.seedfile import SeedFile, choose_files
from pypatcher.settings import Settings
from pypatcher.update.activation import Activation
from pypatcher.update.mode import Now
from tests.support import still_clock
from tests.support.devices import compile_app, here
from tests.support.fail_once import FailingLoop, Failure, Injector, fail_calls, report, sweep
from tests.support.node_fakes import Inline

KEY = KeyPair.from_seed(bytes(range(32)))
OWNER = OwnerKey(KEY.public)
VERSIONS = ("1.0.0", "2.0.0", "3.0.0")
LATER = 900.0
END = 3000.0
LAST = 1000.0
_DEVICE, _SEED, _NET, _ROUTER, *_LATE_SEEDS = (f"192.168.77.{number}" for number in (1, 2, 4, 254, 3, 5))
_NAME = "entry.test"
_CLONE_NEWNET = 0x40000000


class Loop(FailingLoop):
    """The clock of the whole process is the loop's."""

    @property
    def now(self) -> float:
        return still_clock.seconds()

    @now.setter
    def now(self, value: float) -> None:
        still_clock.advance(value - still_clock.seconds())


async def live(kit: Path, folder: Path, injector: Injector, fails: str) -> tuple[str, float]:
    """The device's life; what it is at their end, and when that was. The ``device`` fails, or the ``seed``."""
    asyncio.get_running_loop().set_default_executor(Inline())
    program = Path(shutil.copy(kit / "1.0.0", folder / "app"))
    settings = Settings(publish_interval=200.0, allow_volatile=True)
    events: list[Event] = []
    async with _router(), Testnet(6, host=_NET) as net, asyncio.TaskGroup() as others:
        settings = settings.replace(bootstrap=tuple((_NAME, port) for _, port in net.bootstrap))
        offered = Path(shutil.copy(kit / "2.0.0", folder / "offered"))
        chosen = _choose(offered)  # what cannot be read then is said to whoever gives the command
        with injector.watching() if fails == "seed" else contextlib.nullcontext():
            seeds = [others.create_task(_seed(chosen, _SEED, folder, settings))]
        installation = Installation(program, owner_verifies(OWNER, here()))
        installation.settle("run")  # a start that fails is the launchers' matter: ``whole_run``, ``whole_thread``
        with injector.watching() if fails == "device" else contextlib.nullcontext():
            device = asyncio.create_task(_device(installation, settings, folder, events.append))
        await asyncio.sleep(LATER)
        if fails == "seed":
            shutil.copy(manifest_path(kit / "3.0.0"), manifest_path(offered))
            Path(shutil.copy(kit / "3.0.0", folder / "next")).rename(offered)
        else:
            # By its tree, from both at once.
            for host in _LATE_SEEDS:
                seeds.append(others.create_task(_seed(_choose(kit / "3.0.0"), host, folder, settings)))
        await asyncio.sleep(END - LATER + 2 * LAST)
        if injector.failed is not None:
            await asyncio.sleep(max(0.0, injector.failed + END - time.monotonic()))
        end = time.monotonic()
        ended = [part for part, task in (("device", device), ("seed", seeds[0])) if task.done()]
        complaint = f"the {ended[0]} ended for good" if ended else ""
        for task in [device, *seeds]:
            task.cancel()
        await asyncio.gather(device, *seeds, return_exceptions=True)
    status = Installation(program, owner_verifies(OWNER, here())).status()
    if not complaint and (program.read_bytes() != (kit / "3.0.0").read_bytes() or status.trial is not None):
        complaint = "it did not come to 3.0.0, confirmed"
        print(complaint, status, *events[-40:], sep="\n", file=sys.stderr)
    return complaint, end


async def _device(installation: Installation, settings: Settings, folder: Path, emit: Callable[[Event], None]) -> None:
    nodes: list[Node] = []

    def made(new: Sequence[Node]) -> None:
        nodes[:] = new

    async def restart(_version: str) -> bool:
        installation.settle("run")
        for node in nodes:
            node.program_started()
        return True

    own = settings.replace(bind=((_DEVICE, 0),), state=folder / "state-device")
    activation = Activation(Now(), installation, restart)
    found = NodeProgram(here(), OWNER, installation)
    await keep_node(NodeConfig({None: OWNER}, settings=own, mode=Now()), found, activation, emit, made)


def _choose(file: Path) -> list[SeedFile]:
    return choose_files([file], {None: OWNER}, [], "pypatcher")


async def _seed(files: list[SeedFile], host: str, folder: Path, settings: Settings) -> None:
    own = settings.replace(bind=((host, 0),), state=folder / f"state-{host}", port_mapping=False)
    await seed_files(files, own, lambda _: None)


@contextlib.asynccontextmanager
async def _router() -> AsyncIterator[None]:
    """A router that opens every port by PCP."""

    class Router(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, source: Any) -> None:
            if data[:2] != b"\x02\x01":
                return
            host = bytes(10) + b"\xff\xff" + bytes([192, 168, 77, 254])
            answer = bytes([2, 0x81, 0, 0]) + data[4:8] + bytes(16) + data[24:44] + host
            self.transport.sendto(answer, source)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Router, local_addr=(_ROUTER, pcp.PORT))
    try:
        yield
    finally:
        transport.close()


def _own_network() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace")
    steps = "link set lo up; link add d0 type veth peer name d1; link set d1 up; link set d0 up; "
    steps += "; ".join(f"address add {host}/24 dev d0" for host in (_DEVICE, _SEED, _NET, _ROUTER, *_LATE_SEEDS))
    steps += "; route add default dev d0"
    subprocess.run(["ip", "-batch", "-"], input=steps.replace("; ", "\n") + "\n", text=True, check=True)
    # Each publishes as if it were alone, or who falls silent where others publish would be taken for broken.
    pypatcher.discovery.tracker._MOST = 2.0  # type: ignore[attr-defined]
    # All live on one machine, each bound to an address, and shall have a LAN and a router as if they were not.
    pypatcher.node.network.ports_everywhere = lambda bound: {4: bound[0][1]}  # type: ignore[attr-defined]
    pypatcher.node.network.default_gateway = lambda family=4: _ROUTER if family == 4 else None  # type: ignore[assignment]


def _resolve(name: str, port: int, **_: Any) -> list[Any]:
    assert name == _NAME
    return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (_NET, port))]


def _one(kit: Path, failure: Failure | None, seed: int, fails: str) -> dict[str, Any]:
    random.seed(seed)
    _own_network()
    socket.getaddrinfo = _resolve  # type: ignore[assignment]
    threading.Thread.start = threading.Thread.run  # type: ignore[method-assign]
    injector = Injector(time.monotonic, failure)
    with tempfile.TemporaryDirectory() as folder, fail_calls(), asyncio.Runner(loop_factory=Loop) as runner:
        complaint, end = runner.run(live(kit, Path(folder), injector, fails))
    return {"complaint": complaint, "seen": injector.seen, "failed": injector.failed, "end": end}


def main() -> int:
    """``FOLDER SAMPLE SEED PART``; SAMPLE 0 is everything, PART what fails."""
    folder, sample, seed, part = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    for version in VERSIONS:
        info = sign_file(compile_app(folder / version, version), KEY, None, here())
    with (folder / VERSIONS[-1]).open("rb") as file:
        said = first_word(KEY, info, [here().name], Change(tree=stated_root(file.fileno())))
    write_manifest(manifest_path(folder / VERSIONS[-1]), said, replace=True)
    return report(sweep(lambda failure, number: _one(folder, failure, number, part), sample or None, seed, LAST))


if __name__ == "__main__":
    sys.exit(main())
