"""What a packet of an established connection costs this process, without sockets: the state machine alone.

One side sends a file to the other in memory; of each side is measured what it does for the other's packets, too:
acknowledgements at the sender, limits at the reader. Of messages of 100 bytes each is sent alone, and read alone.
Processor time, because the machine is shared; compiled and plain by turns, in processes of their own.

    python -m bench.transport [--size-mb 40] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from pypatcher.established import COMPILED, Established, FlowLimits, StreamData, apart
from pypatcher.established.protection import AES_128_GCM, CHACHA20_POLY1305
from tests.support.virtual_path import CLIENT, SERVER, handover

AHEAD, CHUNK = 1 << 20, 1 << 18
WINDOW = 1 << 21
LIMITS = FlowLimits(1 << 24, WINDOW, WINDOW, WINDOW, 4, 4)
STEP = 0.0005
KINDS = ("full packets", "messages")
SUITES = {"AES-128-GCM": AES_128_GCM, "ChaCha20-Poly1305": CHACHA20_POLY1305}


def transfer(suite: int, total: int) -> tuple[float, float]:
    """Microseconds per packet of the side that sends, and of the side that reads."""
    sender, reader = (Established(handover(client, suite=suite, limits=LIMITS), 0.0) for client in (True, False))
    stream, chunk, clock = sender.open(False), os.urandom(CHUNK), time.process_time
    now, written, got, packets = 0.0, 0, 0, 0
    sending = reading = 0.0
    while got < total:
        now += STEP
        began = clock()
        while sender.unacknowledged(stream) <= AHEAD - CHUNK and written < total:
            sender.write(stream, chunk, False)
            written += CHUNK
        if (due := sender.timer()) is not None and due <= now:
            sender.on_timer(now)
        trains = sender.send_trains(now)
        between = clock()
        packets += len(apart(trains))
        began_reading = clock()
        reader.receive_trains([(data, size, CLIENT) for data, size, _ in trains], now)
        for event in reader.take_events():
            if isinstance(event, StreamData):
                got += len(event.data)
                reader.grant(stream, got + WINDOW)
        answers = reader.send(now)
        reading += clock() - began_reading
        sending += between - began
        began = clock()
        sender.receive([(data, SERVER) for data, _ in answers], now)
        sender.take_events()
        sending += clock() - began
    return sending / packets * 1e6, reading / packets * 1e6


def messages(suite: int, count: int) -> tuple[float, float]:
    """The same for messages of which each is a packet."""
    sender, reader = (Established(handover(client, suite=suite, limits=LIMITS), 0.0) for client in (True, False))
    stream, clock, message = sender.open(False), time.process_time, bytes(100)
    now, got = 0.0, 0
    sending = reading = 0.0
    for number in range(count):
        now += STEP
        began = clock()
        sender.write(stream, message, False)
        datagrams = sender.send(now)
        between = clock()
        reader.receive([(data, CLIENT) for data, _ in datagrams], now)
        for event in reader.take_events():
            if isinstance(event, StreamData):
                got += len(event.data)
                reader.grant(stream, got + WINDOW)
        answers = reader.send(now)
        reading += clock() - between
        sending += between - began
        began = clock()
        if answers:
            sender.receive([(data, SERVER) for data, _ in answers], now)
            sender.take_events()
        sending += clock() - began
        assert got == len(message) * (number + 1)
    return sending / count * 1e6, reading / count * 1e6


def measure(kind: str, size: int) -> dict[str, tuple[float, float]]:
    """By cipher."""
    if kind == "messages":
        return {name: messages(suite, size // 2000) for name, suite in SUITES.items()}
    return {name: transfer(suite, size) for name, suite in SUITES.items()}


def main() -> None:
    """Parse arguments and print a line for each kind, cipher and form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = options.size_mb * 1_000_000
    if options.kind:
        print(json.dumps([COMPILED, measure(options.kind, size)]))
        return
    rows: dict[tuple[str, str, str], list[list[float]]] = {}
    for _ in range(options.rounds):
        for kind in KINDS:
            for plain in "01":
                command = [sys.executable, "-m", "bench.transport", "--kind", kind, "--size-mb", str(options.size_mb)]
                said = subprocess.check_output(command, env=os.environ | {"PYPATCHER_NO_EXTENSIONS": plain})
                compiled, found = json.loads(said)
                for cipher, times in found.items():
                    rows.setdefault((kind, cipher, "compiled" if compiled else "plain"), []).append(times)
    for (kind, cipher, form), times in sorted(rows.items()):
        sending, reading = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{kind}, {cipher}, {form}: {sending:.1f} us per packet sent, {reading:.1f} us per packet read")


if __name__ == "__main__":
    main()
