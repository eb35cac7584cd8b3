"""What of a program becomes shorter by zlib, and how: what goes over the network, and what people are told of it.

protocol.md "The v1 exchange". Members of a onefile and of a zipapp are deflated already, a C program halves or better;
some samples tell which, for a thirtieth of what deflating in vain costs (``bench/deflate.py``). Not here: inflating
what a peer sent.
"""

from __future__ import annotations

import zlib

__all__ = ["PIECE", "deflate"]

PIECE = 1 << 18
"""Bytes that are deflated at once at most."""
_SAMPLES, _SAMPLE, _WORTH = 8, 1024, 0.95


def deflate(data: bytes) -> bytes:
    """The zlib stream of ``data`` if that is shorter, else ``data`` itself."""
    if not _is_worth_it(data):
        return data
    packed = zlib.compress(data)
    return packed if len(packed) < len(data) else data


def _is_worth_it(data: bytes) -> bool:
    step = len(data) // _SAMPLES
    if step < 2 * _SAMPLE:
        return True
    sample = b"".join(data[at : at + _SAMPLE] for at in range(0, step * _SAMPLES, step))
    return len(zlib.compress(sample, 1)) <= _WORTH * len(sample)
