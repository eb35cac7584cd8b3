"""The parsers, and what must hold for each with any bytes: an answer or a documented error, within bounded memory.

The functions are in ``files``, ``network`` and ``connection``, and know nothing of the fuzzer. `BOUNDS` says for each
how many bytes its parser takes, or reads at once, at most; nothing that an input claims may make it allocate beyond
twice that.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

from pypatcher.dht.krpc import MAX_DATAGRAM
from pypatcher.discovery.records import VALUE_LIMIT
from pypatcher.install.trial import STATE_LIMIT
from pypatcher.transfer.wire import HEADER_LIMIT
from tests.fuzz import connection, files, network
from tests.fuzz.seeds import SEEDS

__all__ = ["BOUNDS", "CORPUS", "FOUND", "LONGEST", "TARGETS", "known_inputs", "try_bounded"]

CORPUS, FOUND = Path(__file__).with_name("corpus"), Path(__file__).with_name("found")
LONGEST = 8192
"""Bytes of the longest input that the fuzzer makes."""

_CHUNK = 256 * 1024
"""The buffer that a file is walked with, whatever its size."""
_OBJECTS, _OVERHEAD = 64, 64 * 1024
"""What Python's own objects may take: for each byte that is really there, and for the call."""

TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        files.cuts,
        files.elf,
        files.location,
        files.zip_comment,
        files.members,
        files.opened,
        files.stream_table,
        files.state_files,
        files.fields,
        network.postcard,
        network.bencoded,
        network.krpc_message,
        network.record,
        network.framing,
        network.manifest,
        network.tree,
        network.v1_messages,
        network.first_packet,
        network.lan_answers,
        connection.frames,
        connection.packets,
    )
}

BOUNDS = {
    "cuts": LONGEST,
    "elf": LONGEST,
    "location": _CHUNK,
    "zip_comment": LONGEST,
    "members": LONGEST,
    "opened": files.OPENED_LIMIT + (1 << 20),
    "stream_table": LONGEST,
    "state_files": STATE_LIMIT,
    "fields": LONGEST,
    "postcard": LONGEST,
    "bencoded": MAX_DATAGRAM,
    "krpc_message": MAX_DATAGRAM,
    "record": VALUE_LIMIT,
    "framing": HEADER_LIMIT,
    "manifest": LONGEST,
    "tree": LONGEST,
    "v1_messages": LONGEST,
    "first_packet": LONGEST,
    "lan_answers": LONGEST,
    "frames": connection.WINDOWS,
    "packets": LONGEST,
}


def try_bounded(name: str, data: bytes) -> None:
    """Give bytes to a parser, and look at the most memory that it had; ``tracemalloc`` must be running.

    What is too much is measured once more: now and then one of the interpreter's own tables grows.
    """
    allowed = 2 * BOUNDS[name] + _OBJECTS * len(data) + _OVERHEAD
    for _ in range(2):
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        TARGETS[name](data)
        _, peak = tracemalloc.get_traced_memory()
        if peak - before <= allowed:
            return
    raise AssertionError(f"{name}: {len(data)} bytes of input took {peak - before} bytes, over {allowed}")


def known_inputs(name: str) -> list[bytes]:
    """Its seeds, what the fuzzer kept because it reaches something else, and what ever broke something."""
    kept = [path.read_bytes() for folder in (CORPUS, FOUND) for path in sorted((folder / name).glob("*"))]
    return [b"", *SEEDS[name], *kept]
