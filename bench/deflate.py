"""What deflating the missing ranges of an update saves and costs, by level, beside trying a sample of each range first.

The ranges are those that a device lacks (``artifact.compare``), in pieces as they are given: of two C programs, and of
two onefiles whose members are deflated already. Seconds are processor time of one side; the rates are of the whole.

    python -m bench.deflate OLD NEW [OLD NEW ...]

`python -m bench.delta --folder F` leaves such pairs in F.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pypatcher.artifact.compare import compare_files
from pypatcher.transfer.giving import CHUNK
from pypatcher.transfer.v1.answers import encode_piece

LEVELS = (1, 3, 6, 9)
ROUNDS = 5


def pieces(old: Path, new: Path) -> Iterator[bytes]:
    """What is asked for, as long as one answer's range is."""
    descriptor = os.open(new, os.O_RDONLY)
    for offset, size in compare_files(old, new).ranges:
        for start in range(offset, offset + size, CHUNK):
            yield os.pread(descriptor, min(CHUNK, offset + size - start), start)
    os.close(descriptor)


def measure(pack: Callable[[bytes], bytes], data: list[bytes]) -> tuple[int, float]:
    """Bytes that move, and processor seconds: the best of some rounds."""
    moved, best = 0, float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        moved = sum(min(len(each), len(pack(each))) for each in data)
        best = min(best, time.process_time() - began)
    return moved, best


def main() -> None:
    """A row for each way."""
    names = sys.argv[1:]
    if not names or len(names) % 2:
        sys.exit(__doc__)
    for old, new in zip(names[::2], names[1::2], strict=True):
        data = list(pieces(Path(old), Path(new)))
        size = sum(map(len, data))
        print(f"{new}: {size} bytes in {len(data)} pieces")
        ways: dict[str, Callable[[bytes], bytes]] = {
            f"level {level}": lambda piece, level=level: zlib.compress(piece, level) for level in LEVELS
        }
        ways["as given"] = lambda piece: encode_piece(piece, zlib_welcome=True)
        for name, pack in ways.items():
            moved, seconds = measure(pack, data)
            cells = f"{moved:>10} ({100 * moved / size:5.1f} %){seconds * 1000:9.1f} ms"
            print(f"  {name:<10}{cells}{size / seconds / 1e6:9.1f} MB/s")
        packed = [zlib.compress(each) for each in data]
        _, seconds = measure(zlib.decompress, packed)
        print(f"  {'inflate':<10}{'':>21}{seconds * 1000:9.1f} ms{size / seconds / 1e6:9.1f} MB/s")


if __name__ == "__main__":
    main()
