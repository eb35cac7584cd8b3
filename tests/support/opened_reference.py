"""Opened content by the rules of protocol.md, read plainly: everything in memory, one byte after the other.

    python -m tests.support.opened_reference

writes ``tests/vectors/opened.json``. It shares no code with ``artifact.opened``. The files of the vectors are made of
parts: ``hex``, or ``of``, an input as in ``tree.json``.
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
import zlib
from pathlib import Path
from typing import Any

from pypatcher.artifact.chunks import PARAMETERS
from pypatcher.artifact.tree import build_tree

__all__ = ["VECTORS", "file_of", "opened_content", "packed_program", "some_text"]

VECTORS = Path(__file__).parents[1] / "vectors" / "opened.json"
_LEAST, _MOST = 1024, 4 << 20


def opened_content(data: bytes) -> tuple[bytes, list[tuple[int, int, int, int]]]:
    """The opened content, and of each stream offset, bytes, bytes opened and level bits."""
    streams, content = list[tuple[int, int, int, int]](), bytearray()
    at = 0
    while at < len(data):
        opened = None
        if data[at] == 0x78 and data[at + 1 : at + 2] in (b"\x01", b"\x5e", b"\x9c", b"\xda"):
            inflater = zlib.decompressobj()
            try:
                opened = inflater.decompress(data[at:])
            except zlib.error:
                opened = None
            if opened is not None and not (inflater.eof and _LEAST <= len(opened) <= _MOST):
                opened = None
        if opened is None:
            content.append(data[at])
            at += 1
            continue
        size = len(data) - at - len(inflater.unused_data)
        streams.append((at, size, len(opened), data[at + 1] >> 6))
        content += opened
        at += size
    table, behind = bytearray(_leb128(len(streams))), 0
    for start, size, count, level in streams:
        table += _leb128(start - behind) + _leb128(size) + _leb128(4 * count + level)
        behind = start + size
    return bytes(content + table + len(table).to_bytes(4, "little")), streams


def _leb128(value: int) -> bytes:
    return bytes([value % 128 + 128]) + _leb128(value // 128) if value > 127 else bytes([value])


def some_text(count: int, seed: int) -> bytes:
    """Bytes that deflate to about half."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randrange(2, 7)) for _ in range(2000)]
    return b"".join(rng.choices(words, k=count))[:count]


def packed_program(modules: list[bytes], level: int = 9) -> bytes:
    """As a bundler packs: each module one stream, all of them one stream more, and bytes around them."""
    around = random.Random(2).randbytes(9000)
    streams = (zlib.compress(each, level) for each in (*modules, b"".join(modules)))
    return around + b"".join(streams) + around[:500]


def file_of(parts: list[dict[str, Any]], seeded: Any) -> bytes:
    """The file of a vector; ``seeded`` makes the input of ``of``."""
    return b"".join(bytes.fromhex(part["hex"]) if "hex" in part else seeded(part["of"]) for part in parts)


def _cases() -> list[tuple[str, list[dict[str, Any]]]]:
    def packed(count: int, level: int, seed: int = 1) -> dict[str, Any]:
        return {"hex": zlib.compress(some_text(count, seed), level).hex()}

    def noise(seed: str, count: int) -> dict[str, Any]:
        return {"of": {"kind": "stream", "seed": seed, "n": count}}

    spoiled = zlib.compress(some_text(1500, 3))
    return [
        ("no stream", [noise("a", 5000)]),
        ("one stream alone", [packed(3000, 9)]),
        ("each level, side by side, and bytes around", [
            noise("a", 700), packed(1024, 1, 4), packed(2000, 5, 5), packed(2000, 6, 6), noise("b", 3000),
            packed(1500, 9, 7), noise("c", 10),
        ]),
        ("too little in it", [packed(1023, 6), noise("a", 100), packed(1024, 6)]),
        ("a wrong sum, and a stream cut off", [
            {"hex": spoiled[:-1].hex() + "00"}, packed(1200, 9), {"hex": spoiled[:-9].hex()},
        ]),
        ("a stream in a stream", [{"hex": zlib.compress(zlib.compress(some_text(3000, 8)) + bytes(1000)).hex()}]),
        ("a header where a MiB ends", [noise("a", (1 << 20) - 1), packed(2500, 9), noise("b", 300)]),
        ("only headers", [{"hex": "78da" * 600 + "7801" * 300}]),
    ]  # fmt: skip


def main() -> None:
    """Write the vectors."""
    from tests.unit.artifact.conftest import vector_bytes

    cases = []
    for name, parts in _cases():
        data = file_of(parts, vector_bytes)
        content, streams = opened_content(data)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            root = build_tree(file.fileno(), len(content), PARAMETERS[129]).root
        cases.append({
            "what": name, "file": parts, "streams": streams, "content_size": len(content),
            "content_sha256": hashlib.sha256(content).hexdigest(), "parameters": 129, "root": root.hex(),
        })  # fmt: skip
    what = (
        'Opened content (protocol.md, "Opened streams"). file: parts, in hex or `of` an input as in tree.json. '
        "streams: offset, bytes, bytes opened, the two level bits of the header."
    )
    VECTORS.write_text(json.dumps({"what": what, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
