"""How long an application's event loop is held while the same process serves a release to 20 peers at once.

The application's loop sleeps for a millisecond, again and again; how much later than that it goes on is measured: in an
idle process, and while a node in a thread of its own, as an application has it, serves 20 peers in another process, as
fast as they take it. These would be on other machines: here they have the lowest priority.

    python -m bench.responsive [--peers 20] [--size-mb 20]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from bench.transfer import ALPN, HERE, OWNER_SEED, SERVER_SEED, info_of
from pypatcher import established
from pypatcher.budgets import UploadLimiter
from pypatcher.install import LocalRelease
from pypatcher.keys import KeyPair
from pypatcher.transfer import fetch_release, serve_release
from pypatcher.transfer.shelf import Shelf
from pypatcher.transport import Endpoint

SLEEP = 0.001


class ServingThread(threading.Thread):
    """A node that serves one file in a loop of its own."""

    def __init__(self, path: Path, peers: int) -> None:
        super().__init__(daemon=True)
        self._path, self._peers = path, peers
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self.port = 0

    def run(self) -> None:
        """Serve until the process ends."""
        self._loop.run_until_complete(self._serve())
        self._loop.run_forever()

    def wait(self) -> None:
        """Wait until it has its port."""
        self.start()
        self._ready.wait()

    async def _serve(self) -> None:
        endpoint = await Endpoint.open(KeyPair.from_seed(SERVER_SEED), [(HERE, 0)], max_datagram_size=1452)
        shelf = Shelf(UploadLimiter(lan_uploads=self._peers))
        shelf.put([LocalRelease(self._path, info_of(self._path), bytes(64))])

        async def handle(connection):
            await serve_release(connection, shelf, owner=KeyPair.from_seed(OWNER_SEED).public)

        endpoint.serve(ALPN, handle)
        self.port = endpoint.addresses[0][1]
        self._ready.set()


async def take(port: int, peers: int) -> None:
    """Fetch as so many peers at once, and keep nothing."""

    async def one() -> None:
        endpoint = await Endpoint.open(KeyPair.generate(), [(HERE, 0)], max_datagram_size=1452)
        server = KeyPair.from_seed(SERVER_SEED).public
        connection = await endpoint.connect((HERE, port), node_id=server, alpn=ALPN, timeout=60)
        sink = SimpleNamespace(write=len, received=lambda _count, _total: None)
        await fetch_release(connection, sink, owner=KeyPair.from_seed(OWNER_SEED).public, expect=None)
        await endpoint.close()

    await asyncio.gather(*(one() for _ in range(peers)))


async def lateness(until) -> list[float]:
    """Seconds by which the loop went on too late, until that is so."""
    late = []
    while not until():
        began = time.perf_counter()
        await asyncio.sleep(SLEEP)
        late.append(time.perf_counter() - began - SLEEP)
    return late


def show(name: str, late: list[float]) -> None:
    """One line."""
    ordered = sorted(late)
    half, most, worst = (ordered[min(len(late) - 1, int(len(late) * part))] * 1e3 for part in (0.5, 0.99, 1.0))
    print(f"{name}: {half:.2f} ms too late at the median, {most:.2f} at p99, {worst:.2f} at most, of {len(late)}")


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=20)
    parser.add_argument("--size-mb", type=int, default=20)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.port:
        asyncio.run(take(options.port, options.peers))
        return
    end = time.monotonic() + 3
    show("idle", asyncio.run(lateness(lambda: time.monotonic() > end)))
    with tempfile.TemporaryDirectory() as folder:
        release = Path(folder, "release")
        release.write_bytes(os.urandom(options.size_mb * 1_000_000))
        node = ServingThread(release, options.peers)
        node.wait()
        command = ["nice", "-n", "19", sys.executable, "-m", "bench.responsive"]
        command += ["--port", str(node.port), "--peers", str(options.peers)]
        began = time.monotonic()
        with subprocess.Popen(command) as taking:
            late = asyncio.run(lateness(lambda: taking.poll() is not None))
        if taking.returncode:
            raise SystemExit("the peers failed")
        rate = options.size_mb * options.peers / (time.monotonic() - began)
        form = "compiled" if established.COMPILED else "plain"
        show(f"serving {options.peers} peers ({form}, {rate:.0f} MB/s in all)", late)


if __name__ == "__main__":
    main()
