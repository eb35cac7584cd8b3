"""What a large program costs in memory: an update of 1 GiB on a device of 512 MB, and of one just below 4 GiB.

Real processes on loopback (`tests/support/large_update.py`): `pypatcher seed` gives, `pypatcher run` takes, in a cgroup
with all that the device has, beside the program itself, which uses what it is told to. Memory is what is resident
and no file's, above what `run` had when its program had just started.

    python -m bench.large [--folder /var/tmp] [MEGABYTES:NEW:MEMORY:BESIDE ...]

Each argument is an update: MiB of the program, how many of them are new, MiB that the device has, and that its program
uses. The disk needs three times the program.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.support.large_update import Cage, LargeUpdate

LIMIT = 60
_UPDATES = ("1024:64:512:350", "4095:256:512:350")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("updates", nargs="*", default=_UPDATES)
    parser.add_argument("--folder", default="/var/tmp")
    options = parser.parse_args()
    print("| program | new | device | app | idle | giver above | taker above | seconds |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for update in options.updates:
        size, new, memory, beside = map(int, update.split(":"))
        with (
            tempfile.TemporaryDirectory(dir=options.folder) as folder,
            Cage.of(memory) as cage,
            LargeUpdate(Path(folder), size, new) as made,
        ):
            used = made.run(cage, beside)
        above = [used.above_idle(who) for who in ("giver", "taker")]
        assert max(above) <= LIMIT, above
        print(
            f"| {size} MiB | {new} MiB | {memory} MiB, {cage.kind} | {beside} MiB | {used.idle['taker']:.0f} MiB "
            f"| {above[0]:.0f} MiB | {above[1]:.0f} MiB | {used.seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
