"""The two forms of this room: which one runs, that it is of these files, and that the few functions with a C form of
their own say the same in both."""

from __future__ import annotations

import hashlib
import os
import random
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import pypatcher.established
from pypatcher.artifact import hashing
from pypatcher.established import COMPILED, Established
from pypatcher.established.codec import FrameReader, TransportError
from pypatcher.established.protection import AES_128_GCM, CHACHA20_POLY1305, Opener, Sealer
from pypatcher.established.recovery import Recovery, SentPacket
from tests.support.virtual_path import AES, CHACHA, WIDE, Link

ROOT = Path(__file__).parents[3]
WANTED = os.environ.get("PYPATCHER_NO_EXTENSIONS", "0") in ("", "0")
EXTENSIONS = list(Path(pypatcher.established.__file__).parent.glob("_established_c.*"))


def in_plain_python(source: str) -> str:
    """What that program says, in a process without extensions."""
    command = [sys.executable, "-c", source]
    environment = os.environ | {"PYPATCHER_NO_EXTENSIONS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def story(seed: int) -> str:
    """Every byte that two sides send each other over a bad path, and when."""
    link = Link(seed=seed, loss=0.04, twice=0.02, jitter=0.01, rate=2e6, suite=(AES, CHACHA)[seed % 2], limits=WIDE)
    said = hashlib.sha256()
    link.watch = lambda _side, data: said.update(repr(link.now).encode() + data)
    streams = [link.client.open(False) for _ in range(3)]
    for stream in streams:
        link.client.write(stream, link.random.randbytes(200_000), True)
        link.server.update_keys()
    link.run(until=lambda: all(link.got(link.server, stream).ended for stream in streams))
    link.run(until=lambda: link.now > 200.0)
    return said.hexdigest()


def test_both_forms_send_the_same_bytes_at_the_same_moments() -> None:
    source = "from tests.unit.established.test_compiled import story; print(*map(story, range(4)))"
    assert in_plain_python(source).split() == [story(seed) for seed in range(4)]


def test_what_runs_is_what_was_asked_for() -> None:
    """Without extensions the source; else the compiled one wherever it was built, for all names of the room."""
    assert (WANTED and bool(EXTENSIONS)) == COMPILED
    assert COMPILED or not (WANTED and hashing.COMPILED), "it did not compile, and the build went on without it"
    expected = "_established_c" if COMPILED else None
    for each in (Established, FrameReader, Recovery, SentPacket, Sealer, TransportError):
        assert each.__module__.rpartition(".")[2] == (expected or each.__module__.rpartition(".")[2])
        assert not COMPILED or each.__module__ == "pypatcher.established._established_c"
    source = "import pypatcher.established as e; print(e.COMPILED, e.Established.__module__)"
    assert in_plain_python(source).split() == ["False", "pypatcher.established.machine"]


def test_what_is_compiled_is_of_these_files() -> None:
    if COMPILED:
        joined = runpy.run_path(str(ROOT / "_speedups" / "established.py"))
        compiled = sys.modules["pypatcher.established.machine"]
        assert joined["digest"]() == compiled.DIGEST, "built of other files: make .venv/.ready"


def test_what_is_compiled_is_typed() -> None:
    """A class without its types would be one of Python's own: half as fast, and nothing else would show it."""
    typed = 0
    for each in (Recovery(1200), Sealer(AES_128_GCM, bytes(32)), Opener(AES_128_GCM, bytes(32))):
        try:
            each.anything = 1  # type: ignore[union-attr]
        except AttributeError:
            typed += 1
    assert typed == (3 if COMPILED else 0)


def numbers(draw: random.Random) -> list[int]:
    edges = [1 << bits for bits in (0, 6, 8, 14, 16, 30, 31, 32, 33, 61)]
    return [
        0,
        *(edge + step for edge in edges for step in (-1, 0, 1)),
        (1 << 62) - 1,
        *(draw.getrandbits(62) for _ in range(50)),
    ]


def test_numbers_in_frames_are_read_as_rfc_9000_has_them() -> None:
    for number in numbers(random.Random(1)):
        for size, mark in ((1, 0), (2, 1), (4, 2), (8, 3)):
            if number >> (8 * size - 2) == 0:
                data = (number | mark << (8 * size - 2)).to_bytes(size, "big")
                reader = FrameReader(b"\xff" + data + b"\xff")
                reader.take(1)
                assert reader.varint() == number
                assert reader.pos == 1 + size
                for cut in range(size):
                    with pytest.raises(TransportError):
                        FrameReader(data[:cut]).varint()


@pytest.mark.parametrize("suite", [AES_128_GCM, CHACHA20_POLY1305])
def test_packets_with_any_number_are_sealed_as_rfc_9001_has_it(suite: int) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    from pypatcher.established.protection import _expand

    secret = bytes(range(32))
    key = _expand(suite, secret, b"quic key", 16 if suite == AES_128_GCM else 32)
    iv = int.from_bytes(_expand(suite, secret, b"quic iv", 12), "big")
    aead = AESGCM(key) if suite == AES_128_GCM else ChaCha20Poly1305(key)
    sealer, opener = Sealer(suite, secret), Opener(suite, secret)
    for size in (0, 8, 20):
        prefix = b"\x43" + bytes(range(size))
        for number in numbers(random.Random(2)):
            header, sealed = sealer.seal(prefix, number, b"frames of one packet")
            assert header == prefix + (number % (1 << 32)).to_bytes(4, "big")
            assert sealed == aead.encrypt((iv ^ number).to_bytes(12, "big"), b"frames of one packet", header)
            ((datagram, _),) = sealer.finish([header], [sealed])
            mask = opener.masks(datagram, len(datagram), size + 1, 1)
            hidden = bytes((mask[0] & 0x1F, *bytes(size), *mask[1:5]))
            assert bytes(a ^ b for a, b in zip(datagram, hidden, strict=False)) == header
            assert datagram[len(header) :] == sealed
