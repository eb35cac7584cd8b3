"""What a device at rest costs its owner's data plan: bytes a day on real sockets, in a private DHT of 60 nodes.

    python -m tests.support.still_clock bench.data_plan [DEVICES [HOURS [bare]]]   a day, on a clock that is moved
    python -m bench.data_plan [DEVICES [HOURS [bare]]]          the same in real time; 0.5 is half an hour

As root, in a network namespace of its own. The devices, 3 by default, are whole nodes that hold the newest release and
have its manifest (``bare``: there is none), at global addresses in networks of their own. The first one is measured,
and set by the environment, such as PYPATCHER_METERED=1; the others are as they are by default. Counting begins after
40 minutes. Every datagram counts with 28 bytes of headers. What a device answers to others' questions stands apart:
that is serving the DHT, and the private one asks each of its few nodes far more often than the public one does. No
release is served.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from pypatcher.addresses import Address
from pypatcher.artifact import check_release, sign_file
from pypatcher.artifact.beside import manifest_path, write_manifest
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.dht import Testnet
from pypatcher.established import Train, apart
from pypatcher.install import Installation, owner_verifies
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.node.node import Node
from pypatcher.settings import Settings
from pypatcher.udp import DatagramSocket
from tests.nat.own_links import add_link, run_ip
from tests.support.devices import compile_app, here
from tests.support.node_fakes import Inline
from tests.support.still_clock import advance, seconds
from tests.support.virtual_time import VirtualLoop

KEY = KeyPair.from_seed(bytes(range(32)))
OWNER = OwnerKey(KEY.public)
NODES, WARM_UP, DAY = 60, 2400.0, 86400.0
HEADERS = 28
OTHERS = "answers to others"
_NET = "8.8.4.1"
_QUESTION = re.compile(rb"1:q[0-9]{1,2}:(put|get_peers|announce_peer|get|find_node|ping)(?:2:roi1e)?1:t")
_TRANSACTION = re.compile(rb"1:t4:(....)", re.DOTALL)
_CLONE_NEWNET = 0x40000000


class Loop(VirtualLoop):
    """The clock of the whole process is the loop's."""

    @property
    def now(self) -> float:
        return seconds()

    @now.setter
    def now(self, value: float) -> None:
        advance(value - seconds())


class Meter:
    """Bytes by the socket's host and by what they are."""

    def __init__(self) -> None:
        self.taken: Counter[tuple[str, str]] = Counter()
        self._asked: dict[tuple[str, bytes], str] = {}

    def install(self) -> None:
        """Count in every socket that is opened from now on."""
        meter, create, send, send_all = self, DatagramSocket.__init__, DatagramSocket.send, DatagramSocket.send_all

        def created(sock: DatagramSocket, bind: Address, on_datagram: object, *rest: object, **named: object) -> None:
            def received(data: bytes, source: Address) -> None:
                meter._count(bind[0], data, is_sent=False)
                on_datagram(data, source)  # type: ignore[operator]

            create(sock, bind, received, *rest, **named)  # type: ignore[arg-type]

        def sent(sock: DatagramSocket, data: bytes, address: Address, *, source: bytes = b"") -> None:
            meter._count(sock.address[0], data, is_sent=True)
            send(sock, data, address, source=source)

        def sent_all(sock: DatagramSocket, trains: list[Train], *, source: bytes = b"") -> None:
            for data, _ in apart(trains):
                meter._count(sock.address[0], data, is_sent=True)
            sock.send = lambda *each, **more: send(sock, *each, **more)  # type: ignore[method-assign]
            try:
                send_all(sock, trains, source=source)
            finally:
                del sock.send  # type: ignore[method-assign]

        DatagramSocket.__init__ = created  # type: ignore[assignment,method-assign]
        DatagramSocket.send, DatagramSocket.send_all = sent, sent_all  # type: ignore[method-assign]

    def _count(self, host: str, data: bytes, *, is_sent: bool) -> None:
        self.taken[host, self._kind(host, data, is_sent=is_sent)] += len(data) + HEADERS

    def _kind(self, host: str, data: bytes, *, is_sent: bool) -> str:
        """The question's name, be it asked or answered."""
        if not data.startswith(b"d"):
            return "QUIC"
        question, transaction = _QUESTION.search(data), _TRANSACTION.search(data)
        if transaction is None or (question is not None) != is_sent:
            return OTHERS
        if question is not None:
            self._asked[host, transaction[1]] = question[1].decode()
        return self._asked.get((host, transaction[1]), OTHERS)


async def measure(folder: Path, count: int, hours: float, settings: Settings, *, is_bare: bool) -> None:
    """Print bytes a day of the first device, and of all in all."""
    hosts = [f"8.9.{number}.1" for number in range(count)]
    add_link("d0", *(f"{host}/8" for host in (_NET, *hosts)))
    run_ip("route add default dev d0")
    meter = Meter()
    async with Testnet(NODES, host=_NET) as net:
        meter.install()
        program = compile_app(folder / "app", "1.0.0")
        sign_file(program, KEY, None, here())
        each = [settings, *[Settings()] * (count - 1)]
        tasks = [
            asyncio.create_task(
                _device(_install(program, folder / host, is_bare=is_bare), host, mine.replace(bootstrap=net.bootstrap))
            )
            for host, mine in zip(hosts, each, strict=True)
        ]
        await asyncio.sleep(WARM_UP)
        meter.taken.clear()
        began = time.monotonic()
        await asyncio.sleep(hours * 3600)
        factor = DAY / (time.monotonic() - began)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    _say({kind: taken * factor for (host, kind), taken in meter.taken.items() if host == hosts[0]})
    each = [
        sum(taken for (host, kind), taken in meter.taken.items() if host == one and kind != OTHERS) * factor / 1e6
        for one in hosts
    ]
    print("each device, in all:", *(f"{day:.2f}" for day in each), flush=True)


def _install(program: Path, folder: Path, *, is_bare: bool) -> Installation:
    folder.mkdir()
    path = folder / "app"
    path.write_bytes(program.read_bytes())
    path.chmod(0o755)
    with path.open("rb") as file:
        info = check_release(file.fileno(), OWNER, here()).info
    if not is_bare:
        write_manifest(manifest_path(path), first_word(KEY, info, [here().name], Change()), replace=True)
    installation = Installation(path, owner_verifies(OWNER, here()))
    installation.settle("run")
    return installation


async def _device(installation: Installation, host: str, settings: Settings) -> None:
    folder = installation.program.parent
    own = settings.replace(bind=((host, 0),), state=folder / "state")
    await Node(NodeConfig({None: OWNER}, settings=own), NodeProgram(here(), OWNER, installation), lambda _: None).run()


def _say(taken: dict[str, float]) -> None:
    rows = sorted((kind, day) for kind, day in taken.items() if kind != OTHERS)
    for kind, day in [*rows, ("in all", sum(day for _, day in rows)), (OTHERS, taken.get(OTHERS, 0.0))]:
        print(f"{kind:<20} {day / 1e6:7.2f} MB a day {30 * day / 1e6:7.1f} a month", flush=True)


def main() -> None:
    """Run as the command line says."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace: be root")
    run_ip("link set lo up")
    count, hours = (int(sys.argv[1]) if sys.argv[1:] else 3), (float(sys.argv[2]) if sys.argv[2:] else 24.0)
    is_virtual = time.monotonic is seconds
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=Loop if is_virtual else None) as runner:
        settings = Settings.from_environment(os.environ)
        body = measure(Path(folder), count, hours, settings, is_bare=sys.argv[3:] == ["bare"])
        if is_virtual:
            runner.get_loop().set_default_executor(Inline())
        runner.run(body)


if __name__ == "__main__":
    main()
