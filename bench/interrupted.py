"""What it costs to be interrupted: bytes of a fetch from several peers that is killed, or loses power, at random.

Real exchange, updater, budgets and QUIC, on virtual time (`tests/support/interrupted.py`), of a release that is new
from the first to the last byte; each of the peers gives its part of 1 Mbit/s. Bytes are those of all datagrams behind
the handshakes, to the device and from it; what peers send to a device that is gone is told beside them.

    python -m bench.interrupted [--megabytes 45] [--peers 3] [--times 10] [--seed 1]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.support.interrupted import Cost, fetch
from tests.support.node_fakes import run_alone

RATE = 129_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=45.0)
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    size, rate = int(options.megabytes * 1e6), RATE // options.peers

    def cost(**interruptions: int) -> Cost:
        with tempfile.TemporaryDirectory() as folder:
            made = fetch(Path(folder), size, rate=rate, peers=options.peers, seed=options.seed, **interruptions)
            return run_alone(made)

    print(f"{size} bytes from {options.peers} peers, {RATE * 8 / 1e6:g} Mbit/s in all")
    print("| interrupted | bytes | more | sent to nobody | seconds |")
    print("| --- | ---: | ---: | ---: | ---: |")
    once = cost()
    for name, kinds in (
        ("never", {}),
        (f"killed {options.times} times", {"kills": options.times}),
        (f"power cut {options.times} times", {"cuts": options.times}),
        (f"both, {options.times} times each", {"kills": options.times, "cuts": options.times}),
    ):
        here = cost(**kinds) if kinds else once
        assert here.times == sum(kinds.values())
        more, lost = here.sent / once.sent - 1, here.lost / once.sent
        print(f"| {name} | {here.sent} | {more:.2%} | {lost:.2%} | {here.seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
