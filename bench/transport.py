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
KINDS = {"full packets": (1, CHUNK, AHEAD), "messages": (20, 100, 100)}
"""What part of the bytes is sent, how many are written at once, and how many before they are read."""
SUITES = {"AES-128-GCM": AES_128_GCM, "ChaCha20-Poly1305": CHACHA20_POLY1305}


def transfer(suite: int, total: int, piece: int, ahead: int) -> tuple[float, float]:
    """Microseconds per packet of the side that sends, and of the side that reads.

    Args:
        piece: bytes that are written at once.
        ahead: so many at most are written before they are read.
    """
    sender, reader = (Established(handover(client, suite=suite, limits=LIMITS), 0.0) for client in (True, False))
    stream, data, clock = sender.open(False), os.urandom(piece), time.process_time
    now, written, got, packets = 0.0, 0, 0, 0
    sending = reading = 0.0
    while got < total:
        now += STEP
        began = clock()
        while written - got <= ahead - piece and written < total:
            sender.write(stream, data, False)
            written += piece
        if (due := sender.timer()) is not None and due <= now:
            sender.on_timer(now)
        trains = sender.send_trains(now)
        between = clock()
        packets += len(apart(trains))
        began_reading = clock()
        reader.receive_trains([(train, size, CLIENT) for train, size, _ in trains], now)
        for event in reader.take_events():
            if isinstance(event, StreamData):
                got += len(event.data)
                reader.grant(stream, got + WINDOW)
        answers = reader.send(now)
        reading += clock() - began_reading
        sending += between - began
        began = clock()
        if answers:
            sender.receive([(datagram, SERVER) for datagram, _ in answers], now)
            sender.take_events()
        sending += clock() - began
    return sending / packets * 1e6, reading / packets * 1e6


def measure(kind: str, size: int) -> dict[str, tuple[float, float]]:
    """By cipher."""
    part, piece, ahead = KINDS[kind]
    return {name: transfer(suite, size // part, piece, ahead) for name, suite in SUITES.items()}


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
