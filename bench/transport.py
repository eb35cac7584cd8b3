"""What a packet of an established connection costs this process, without sockets: the state machine alone.

One side sends a file to the other in memory; of each side is measured what it does for the other's packets, too:
acknowledgements at the sender, limits at the reader. Processor time, because the machine is shared.

    python -m bench.transport [--size-mb 40] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

from pypatcher.established import Established, FlowLimits, StreamData
from pypatcher.established.protection import AES_128_GCM, CHACHA20_POLY1305
from tests.support.virtual_path import CLIENT, SERVER, handover

AHEAD, CHUNK = 1 << 20, 1 << 18
WINDOW = 1 << 21
LIMITS = FlowLimits(1 << 24, WINDOW, WINDOW, WINDOW, 4, 4)
STEP = 0.0005
SUITES = {"AES-128-GCM": AES_128_GCM, "ChaCha20-Poly1305": CHACHA20_POLY1305}


def transfer(suite: int, size: int) -> tuple[float, float]:
    """Microseconds per packet of the side that sends, and of the side that reads."""
    sender, reader = (Established(handover(client, suite=suite, limits=LIMITS), 0.0) for client in (True, False))
    stream, chunk, clock = sender.open(False), os.urandom(CHUNK), time.process_time
    now, written, got, packets = 0.0, 0, 0, 0
    sending = reading = 0.0
    while got < size:
        now += STEP
        began = clock()
        while sender.unacknowledged(stream) <= AHEAD - CHUNK and written < size:
            sender.write(stream, chunk, False)
            written += CHUNK
        if (due := sender.timer()) is not None and due <= now:
            sender.on_timer(now)
        datagrams = sender.send(now)
        packets += len(datagrams)
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
        sender.receive([(data, SERVER) for data, _ in answers], now)
        sender.take_events()
        sending += clock() - began
    return sending / packets * 1e6, reading / packets * 1e6


def main() -> None:
    """Parse arguments and print a line for each cipher."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name, suite in SUITES.items():
        rows = [transfer(suite, options.size_mb * 1_000_000) for _ in range(options.rounds)]
        sending, reading = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name}: {sending:.1f} us per packet sent, {reading:.1f} us per packet read")


if __name__ == "__main__":
    main()
