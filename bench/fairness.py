"""How flows share a bottleneck: two of ours, and one of ours beside one of TCP CUBIC, each a process for each end.

Two hosts and a router between them, in network namespaces that are made and taken away: the line to the takers carries
20 Mbit/s and queues for 50 ms (``tbf``). Counted is what the takers' applications get from the third second on. Needs
root, ``ip`` and ``tc``, and cubic in the kernel.

    python -m bench.fairness [--seconds 60] [--rounds 5] [--mbit 20] [--queue-ms 50]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from bench.transfer import ALPN, OWNER_SEED, SERVER_SEED, ours_serve, report
from tests.nat.lab import Lab, open_lab

SERVER, TAKER = "10.1.0.1", "10.2.0.1"
PAIRS = (("ours", "ours"), ("ours", "cubic"), ("cubic", "cubic"))
LEAD = 3.0
PIECE = 1 << 16
DATAGRAM = 1452


async def ours_take(port: int, begins: float, seconds: float) -> int:
    """Bytes of a release that came from ``begins`` on, on the monotonic clock."""
    from pypatcher.keys import KeyPair
    from pypatcher.transfer import fetch_release
    from pypatcher.transport import Endpoint

    counts = [0, 0]

    def received(count: int, _total: int) -> None:
        counts[time.monotonic() >= begins] = count

    endpoint = await Endpoint.open(KeyPair.generate(), [(TAKER, 0)], max_datagram_size=DATAGRAM)
    server, owner = KeyPair.from_seed(SERVER_SEED).public, KeyPair.from_seed(OWNER_SEED).public
    connection = await endpoint.connect((SERVER, port), node_id=server, alpn=ALPN)
    sink = SimpleNamespace(write=lambda _data: None, received=received)
    fetching = asyncio.ensure_future(fetch_release(connection, sink, owner=owner, expect=None))
    done, _ = await asyncio.wait([fetching], timeout=begins + seconds - time.monotonic())
    if done:
        raise SystemExit("the release was too short")
    fetching.cancel()
    await endpoint.close()
    return counts[1] - counts[0]


def cubic_serve() -> None:
    """Zeros without end, by TCP with CUBIC, to whoever connects."""
    with socket.create_server((SERVER, 0)) as listening:
        report(port=listening.getsockname()[1])
        taker, _ = listening.accept()
        taker.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        try:
            while True:
                taker.sendall(bytes(PIECE))
        except OSError:
            taker.close()


def cubic_take(port: int, begins: float, seconds: float) -> int:
    """The same as ``ours_take``."""
    got, buffer = 0, bytearray(PIECE)
    with socket.create_connection((SERVER, port)) as taking:
        while (now := time.monotonic()) < begins + seconds:
            count = taking.recv_into(buffer)
            got += count if now >= begins else 0
    return got


def serve(kind: str, size: int) -> None:
    """One serving end, until stdin closes or the taker goes."""
    if kind == "cubic":
        cubic_serve()
        return
    with tempfile.NamedTemporaryFile() as release:
        release.truncate(size)
        asyncio.run(ours_serve(Path(release.name), DATAGRAM, SERVER))


def take(kind: str, port: int, begins: float, seconds: float) -> None:
    """One taking end; says how many bytes it got."""
    got = cubic_take(port, begins, seconds) if kind == "cubic" else asyncio.run(ours_take(port, begins, seconds))
    report(got=got)


def build(lab: Lab, mbit: float, queue_ms: float) -> tuple[str, str]:
    """The two hosts, with the bottleneck between them."""
    server, taker = lab.namespace("server"), lab.namespace("taker")
    lab.link(server, "eth0", lab.internet, "left")
    lab.link(taker, "eth0", lab.internet, "right")
    lab.ip(lab.internet, "addr add 10.1.0.254/24 dev left", "addr add 10.2.0.254/24 dev right")
    lab.ip(server, f"addr add {SERVER}/24 dev eth0", "route add default via 10.1.0.254")
    lab.ip(taker, f"addr add {TAKER}/24 dev eth0", "route add default via 10.2.0.254")
    line = ["rate", f"{mbit}mbit", "burst", "3000", "latency", f"{queue_ms}ms"]
    lab.run(lab.internet, ["tc", "qdisc", "add", "dev", "right", "root", "tbf", *line])
    return server, taker


def share(lab: Lab, hosts: tuple[str, str], kinds: tuple[str, str], seconds: float, size: int) -> list[int]:
    """Bytes that each of two flows got beside the other."""
    command = [sys.executable, "-m", "bench.fairness", "--kind"]
    with contextlib.ExitStack() as ended:

        def start(host: str, kind: str, *arguments: object) -> subprocess.Popen[str]:
            whole = [*lab.enter(host), *command, kind, *map(str, arguments)]
            made = subprocess.Popen(whole, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            ended.enter_context(made)
            ended.callback(made.kill)
            return made

        def answer(process: subprocess.Popen[str]) -> dict[str, int]:
            assert process.stdout is not None
            said: dict[str, int] = json.loads(process.stdout.readline())
            return said

        ports = [answer(start(hosts[0], kind, "--size", size))["port"] for kind in kinds]
        begins = time.monotonic() + LEAD
        when = "--begins", begins, "--seconds", seconds
        takers = [start(hosts[1], kind, "--port", port, *when) for kind, port in zip(kinds, ports, strict=True)]
        return [answer(taker)["got"] for taker in takers]


def main() -> None:
    """Parse arguments; run each pair by turns, and print the smaller share of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mbit", type=float, default=20.0)
    parser.add_argument("--queue-ms", type=float, default=50.0)
    for name, of in (("--kind", str), ("--port", int), ("--begins", float), ("--size", int)):
        parser.add_argument(name, type=of, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind and options.port:
        take(options.kind, options.port, options.begins, options.seconds)
        return
    if options.kind:
        serve(options.kind, options.size)
        return
    os.chdir(Path(__file__).parents[1])
    size = int((options.seconds + 2 * LEAD) * options.mbit * 125_000)
    shares: dict[tuple[str, str], list[float]] = {pair: [] for pair in PAIRS}
    with open_lab() as lab:
        hosts = build(lab, options.mbit, options.queue_ms)
        for _ in range(options.rounds):
            for pair, found in shares.items():
                first, second = share(lab, hosts, pair, options.seconds, size)
                found.append(first / (first + second))
                rate = (first + second) / options.seconds / 125_000
                print(f"{pair[0]} {found[-1]:.1%}, {pair[1]} {1 - found[-1]:.1%} of {rate:.1f} Mbit/s", flush=True)
    line = f"{options.mbit:g} Mbit/s, a queue of {options.queue_ms:g} ms"
    print(f"\n{line}, {options.seconds:g} s, medians of {options.rounds}:")
    for (one, other), found in shares.items():
        worst = max(found, key=lambda part: abs(part - 0.5))
        print(f"  {one} beside {other}: {one} has {statistics.median(found):.1%} (worst {worst:.1%})")


if __name__ == "__main__":
    main()
