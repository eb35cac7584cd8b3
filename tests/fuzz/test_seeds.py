"""Every parser on its seeds, its corpus, what was ever found, and on fixed mutations, within bounded memory.

And all that is kept once more with the compiled twins under AddressSanitizer and UBSan.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from tests.fuzz.sanitized import REPOSITORY, build_sanitized, gcc_runtime, sanitizer_environment
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import BOUNDS, TARGETS, known_inputs, try_bounded

MUTATIONS = 150


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
    known = known_inputs(name)
    for data in known:
        TARGETS[name](data)
    tracemalloc.start()
    try:
        for data in (*known, *(mutated(rng.choice(known), rng) for _ in range(MUTATIONS))):
            try_bounded(name, data)
    finally:
        tracemalloc.stop()


def test_an_allocation_that_an_input_only_claims_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "krpc_message", lambda data: bytearray(int.from_bytes(data, "big")))
    tracemalloc.start()
    try:
        try_bounded("krpc_message", b"\x01\x00")
        with pytest.raises(AssertionError, match="3 bytes of input took"):
            try_bounded("krpc_message", b"\x10\x00\x00")
    finally:
        tracemalloc.stop()


def test_every_parser_has_seeds_and_a_bound() -> None:
    assert set(TARGETS) == set(SEEDS) == set(BOUNDS)


@pytest.mark.timeout(600)
def test_the_sanitizers_find_nothing_in_the_compiled_twins(tmp_path: Path) -> None:
    environment = sanitizer_environment(build_sanitized(tmp_path), gcc_runtime())
    command = [sys.executable, "-m", "tests.fuzz.replay"]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout.endswith("inputs, no finding\n")
