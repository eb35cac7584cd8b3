"""A release over a long line with a bottleneck: ours, iroh and TCP CUBIC by turns, each from a disk to a disk.

Two hosts and a router between them, in network namespaces that are made and taken away. The router's line to the taker
carries 100 Mbit/s (of IP packets) and queues for 50 ms (``tbf``), is 25 ms long each way, and loses a share of packets
each way: a process carries them between two tun devices, as many kernels have no netem. Needs root, ``ip`` and ``tc``.
Who waits for a core is late, and a line that is late carries less: on a busy machine all of it shall have priority.

    chrt -f 10 python -m bench.path [--size-mb 60] [--loss 0.02] [--rounds 5]
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import random
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from bench.fairness import SERVER, TAKER
from bench.transfer import digest, noise, python_commands, report, rust_commands, rust_peer
from tests.nat.lab import Lab, open_lab

DATAGRAM = 1452
PIECE = 1 << 18
BATCH = 64
NEAR, FAR = "near", "far"
QUEUED = 10_000
"""Packets that wait for the line's process, if it is late; none is lost there."""
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001


def tun(name: str) -> int:
    """A network device whose packets are read and written here."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN_WITHOUT_HEADER))
    return end


def carry(delay: float, loss: float) -> None:
    """Packets from each end to the other, so many seconds later, but for that share."""
    near, far = tun(NEAR), tun(FAR)
    other = {near: far, far: near}
    report(ready=True)
    chance = random.Random(1)
    flying: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait = max(0.0, flying[0][0] - time.monotonic()) if flying else None
        came, _, _ = select.select(other, (), (), wait)
        now = time.monotonic()
        for end in came:
            with contextlib.suppress(BlockingIOError):
                for _ in range(BATCH):
                    packet = os.read(end, 65536)
                    if not loss or chance.random() >= loss:
                        flying.append((now + delay, other[end], packet))
        while flying and flying[0][0] <= now:
            _, end, packet = flying.popleft()
            with contextlib.suppress(OSError):  # what that end's host cannot take now is lost
                os.write(end, packet)


def build(
    lab: Lab, mbit: float, queue_ms: float, delay_ms: float, loss: float
) -> tuple[tuple[str, str], Callable[[], None]]:
    """The two hosts, and what ends the line between them."""
    server, taker = lab.namespace("server"), lab.namespace("taker")
    line = [sys.executable, "-m", "bench.path", "--carry", "--delay-ms", str(delay_ms), "--loss", str(loss)]
    carrying = subprocess.Popen([*lab.enter(lab.internet), *line], stdout=subprocess.PIPE)

    def end() -> None:
        carrying.kill()
        carrying.communicate()

    try:
        assert carrying.stdout is not None
        carrying.stdout.readline()
        lab.link(server, "eth0", lab.internet, "left")
        lab.ip(lab.internet, f"link set {FAR} netns {taker}", f"link set {NEAR} up txqueuelen {QUEUED}")
        lab.ip(lab.internet, "addr add 10.1.0.254/24 dev left", f"addr add 10.2.0.254/24 dev {NEAR}")
        lab.ip(server, f"addr add {SERVER}/24 dev eth0", "route add default via 10.1.0.254")
        lab.ip(taker, f"link set {FAR} up txqueuelen {QUEUED}", f"addr add {TAKER}/24 dev {FAR}")
        lab.ip(taker, f"route add default dev {FAR}")
        rate = ["rate", f"{mbit}mbit", "burst", "3000", "latency", f"{queue_ms}ms"]
        lab.run(lab.internet, ["tc", "qdisc", "add", "dev", NEAR, "root", "tbf", *rate])
    except BaseException:
        end()
        raise
    return (server, taker), end


def cubic_serve(path: Path) -> None:
    """One file by TCP with CUBIC, to whoever connects."""
    with socket.create_server((SERVER, 0)) as listening, path.open("rb") as file:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        report(port=listening.getsockname()[1])
        taker, _ = listening.accept()
        with taker:
            taker.recv(1)
            taker.sendfile(file)
    report()


def cubic_fetch(path: Path, port: int) -> None:
    """The same counted as the others: from the request on, when the connection is there."""
    buffer = bytearray(PIECE)
    with socket.create_connection((SERVER, port)) as taking, path.open("wb", buffering=0) as file:
        began = time.perf_counter()
        taking.send(b"?")
        while count := taking.recv_into(buffer):
            file.write(memoryview(buffer)[:count])
        report(seconds=time.perf_counter() - began)


def cubic_commands(source: Path, copy: Path) -> tuple[list[str], list[str]]:
    """As those of ``bench.transfer``."""
    command = [sys.executable, "-m", "bench.path", "--file"]
    return [*command, str(source)], [*command, str(copy), "--port", "PORT"]


def move(lab: Lab, hosts: tuple[str, str], commands: tuple[list[str], list[str]], plain: bool) -> float:
    """Seconds that one transfer took."""
    environment = os.environ | {"PYPATCHER_NO_EXTENSIONS": str(int(plain))}
    serving, fetching = (lab.enter(host) + command for host, command in zip(hosts, commands, strict=True))
    with subprocess.Popen(serving, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        port = str(json.loads(server.stdout.readline())["port"])
        fetching = [port if word == "PORT" else word for word in fetching]
        done = subprocess.run(fetching, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        server.communicate()
    seconds: float = json.loads(done.stdout)["seconds"]
    return seconds


def main() -> None:
    """Parse arguments; move a file by each, by turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mbit", type=float, default=100.0)
    parser.add_argument("--queue-ms", type=float, default=50.0)
    parser.add_argument("--delay-ms", type=float, default=25.0)
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--carry", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.carry:
        carry(options.delay_ms / 1000, options.loss)
    if options.file and options.port:
        cubic_fetch(options.file, options.port)
        return
    if options.file:
        cubic_serve(options.file)
        return
    os.chdir(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder, open_lab() as lab:
        source, copy = Path(folder, "release"), Path(folder, "copy")
        noise(source, options.size_mb)
        ours = python_commands("compiled", source, copy, DATAGRAM, (SERVER, TAKER))
        commands = {"compiled": ours, "plain": ours, "cubic": cubic_commands(source, copy)}
        if (not options.only or "iroh" in options.only) and (program := rust_peer()) is not None:
            commands["iroh"] = rust_commands(program, source, copy, (SERVER, TAKER))
        commands = {kind: both for kind, both in commands.items() if kind in (options.only or commands)}
        hosts, end = build(lab, options.mbit, options.queue_ms, options.delay_ms, options.loss)
        rates: dict[str, list[float]] = {kind: [] for kind in commands}
        try:
            for _ in range(options.rounds):
                for kind, both in commands.items():
                    seconds = move(lab, hosts, both, kind == "plain")
                    if digest(copy) != digest(source):
                        raise SystemExit(f"{kind}: the copy differs")
                    rates[kind].append(options.size_mb * 8 / seconds)
                    print(f"{kind} {rates[kind][-1]:.2f} Mbit/s", flush=True)
        finally:
            end()
    line = f"{options.mbit:g} Mbit/s, {options.delay_ms:g} ms each way, {options.loss:.1%} lost"
    print(f"\n{options.size_mb} MB over {line}, medians of {options.rounds}:")
    for kind, found in rates.items():
        print(f"  {kind:<9}{statistics.median(found):7.2f} Mbit/s ({min(found):.2f} to {max(found):.2f})")


if __name__ == "__main__":
    main()
