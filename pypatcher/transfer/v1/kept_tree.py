"""The nodes of a release's tree, behind the file that is made by it: who goes on with a download asks for none again.

Each is ``length u16 || node``. Nothing of it is believed: a node is known by the hash of what is read. Before the file
is verified, what is behind it is cut off (``Delivery``). Not here: what a node says (``artifact.tree``).
"""

from __future__ import annotations

from collections.abc import Iterable

from pypatcher.artifact.tree import NODE_LIMIT, node_id
from pypatcher.transfer.exchange import Parts

__all__ = ["keep_nodes", "kept_nodes"]

_LENGTH = 2
_MOST = 3 << 18
"""Bytes: those of a file of 170 MB. A MiB is free beside it, and of a larger file the tree is less worth."""


def keep_nodes(parts: Parts, file_size: int, nodes: Iterable[bytes]) -> None:
    """Write them behind a file of that size, unless they are too many.

    Raises:
        OSError: they cannot be kept; the download goes on without.
    """
    data = b"".join(len(node).to_bytes(_LENGTH) + node for node in nodes)
    if len(data) <= _MOST:
        parts.write_part(data, file_size)


def kept_nodes(parts: Parts, file_size: int) -> dict[bytes, bytes]:
    """What is there of an earlier download, by id.

    Raises:
        OSError: it cannot be read.
    """
    found = dict[bytes, bytes]()
    data, at = parts.read(_MOST, file_size), 0
    while at + _LENGTH < len(data):
        size = int.from_bytes(data[at : at + _LENGTH])
        node = data[at + _LENGTH : at + _LENGTH + size]
        if not 0 < size == len(node) <= NODE_LIMIT:
            break
        found[node_id(node)] = node
        at += _LENGTH + size
    return found
