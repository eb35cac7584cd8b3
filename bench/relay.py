"""A UDP relay with a delay, losses and a bottleneck: for kernels without netem, and for what runs without root.

One process between one server and any number of clients on loopback, both ways alike. ``ceiling`` says what it carries
at most on this machine: what is measured through it cannot be faster.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import select
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass

HERE = "127.0.0.1"
QUEUE = 0.05
"""Seconds for which the bottleneck holds packets at most; what would wait longer is dropped."""
BUFFER = 1 << 22
BATCH = 64
AHEAD = 256


@dataclass(frozen=True)
class Way:
    """Seconds each way, the share of packets that is lost, and bytes a second each way; 0 for any."""

    delay: float = 0.0
    loss: float = 0.0
    rate: float = 0.0


class Relay:
    """Both directions."""

    def __init__(self, port: int, way: Way) -> None:
        """To the server at ``port``."""
        self._server, self._way = (HERE, port), way
        self._front = self._socket()
        self.port = self._front.getsockname()[1]
        self._backs: dict[tuple[str, int], socket.socket] = {}
        self._of: dict[socket.socket, tuple[str, int]] = {}
        self._flying: deque[tuple[float, socket.socket, bytes, tuple[str, int]]] = deque()
        self._free = {True: 0.0, False: 0.0}
        self._random = random.Random(1)
        self._poll = select.epoll()
        self._poll.register(self._front, select.EPOLLIN)
        self._files = {self._front.fileno(): self._front}

    def run(self) -> None:
        """For ever."""
        while True:
            wait = -1.0 if not self._flying else max(0.0, self._flying[0][0] - time.monotonic())
            for number, _ in self._poll.poll(wait):
                self._take(self._files[number])
            now = time.monotonic()
            while self._flying and self._flying[0][0] <= now:
                _, way_out, data, address = self._flying.popleft()
                with contextlib.suppress(BlockingIOError):
                    way_out.sendto(data, address)

    def _take(self, came: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data, source = came.recvfrom(65536)
            except BlockingIOError:
                return
            if came is self._front:
                self._carry(True, self._back(source), data, self._server)
            else:
                self._carry(False, self._front, data, self._of[came])

    def _carry(self, to_server: bool, way_out: socket.socket, data: bytes, address: tuple[str, int]) -> None:
        at, way = time.monotonic(), self._way
        if way.rate:
            free = max(self._free[to_server], at)
            if free - at > QUEUE:
                return
            at = self._free[to_server] = free + len(data) / way.rate
        if way.loss == 0.0 or self._random.random() >= way.loss:
            # With a bottleneck one direction may be later than the other: order within each is what counts.
            self._flying.append((at + way.delay, way_out, data, address))

    def _back(self, source: tuple[str, int]) -> socket.socket:
        known = self._backs.get(source)
        if known is None:
            known = self._backs[source] = self._socket()
            self._of[known] = source
            self._files[known.fileno()] = known
            self._poll.register(known, select.EPOLLIN)
        return known

    @staticmethod
    def _socket() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        made.bind((HERE, 0))
        return made


def start(port: int, way: Way) -> tuple[subprocess.Popen[str], int]:
    """A relay to that port in a process of its own, and its port."""
    options = ["--port", str(port), "--delay", str(way.delay), "--loss", str(way.loss), "--rate", str(way.rate)]
    process = subprocess.Popen([sys.executable, "-m", "bench.relay", *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def ceiling(size: int = 1452, seconds: float = 1.0) -> float:
    """Bytes a second that come through one without delay, of datagrams of ``size``."""
    end = Relay._socket()
    process, port = start(end.getsockname()[1], Way())
    sender = Relay._socket()
    sent, came, lost, until = 0, 0, 0, time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            while sent - came - lost < AHEAD:
                sender.sendto(bytes(size), (HERE, port))
                sent += 1
            if not select.select([end], [], [], 0.05)[0]:
                lost = sent - came
            with contextlib.suppress(BlockingIOError):
                while end.recv(65536):
                    came += 1
    finally:
        process.terminate()
        process.wait()
    return came * size / seconds


def main() -> None:
    """Relay until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=0.0)
    options = parser.parse_args()
    relay = Relay(options.port, Way(options.delay, options.loss, options.rate))
    print(relay.port, flush=True)
    relay.run()


if __name__ == "__main__":
    main()
