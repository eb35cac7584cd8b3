"""The fuzzing targets on their seeds, on what was ever found, and on fixed mutations, within bounded memory."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from tests.fuzz.targets import SEEDS, TARGETS

MUTATIONS = 150
MEMORY = 8 << 20
FOUND = Path(__file__).with_name("found")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or moved."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0 if at < len(changed):
                changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 1:
                del changed[at : at + rng.randint(1, 40)]
            case 2:
                changed[at:at] = changed[at : at + rng.randint(1, 40)]
            case 3:
                changed[at:at] = rng.randbytes(rng.randint(1, 8))
            case _:
                changed[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), b"99999999", b"\x80" * 8))
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_answered_or_refused_within_bounded_memory(name: str) -> None:
    rng = random.Random(name)
    seeds = [b"", *SEEDS[name]]
    inputs = [*seeds, *(mutated(rng.choice(seeds), rng) for _ in range(MUTATIONS))]
    if (FOUND / name).exists():
        inputs += [path.read_bytes() for path in sorted((FOUND / name).iterdir())]
    TARGETS[name](b"")
    tracemalloc.start()
    try:
        for data in inputs:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            TARGETS[name](data)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < MEMORY, data
    finally:
        tracemalloc.stop()
