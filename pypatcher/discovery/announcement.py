"""What a record says: a release that its node serves, and addresses where the node may be reached.

protocol.md "Records"; sans-IO. The release comes first, as readers without hints expect it, who ignore what follows.
Hints are a node's word and no more: a hostile list costs its sender the hints, never the release. Checking the owner's
signature is the tracker's.

    content = postcard(PatchInfo) || hints || 01 (of a node that speaks the v1 exchange)
    hints   = byte string of compact IPv4 addresses, 6 bytes each || byte string of compact IPv6 ones, 18 bytes each
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from pypatcher.addresses import Address, family, is_loopback, pack_compact, unpack_compact
from pypatcher.artifact import PatchInfo
from pypatcher.artifact.postcard import Reader, encode_bytes
from pypatcher.discovery.records import VALUE_LIMIT
from pypatcher.errors import CodecError

__all__ = ["HINT_LIMIT", "decode_content", "encode_content", "is_dialable", "says_v1", "usable_hints"]

HINT_LIMIT = 8
"""Addresses in one record, of both families together."""

_COMPACT_SIZES = (6, 18)
_V1 = b"\x01"
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")


def is_dialable(address: Address) -> bool:
    """Whether a datagram to that address could reach one host, this one or another.

    Without a port, unspecified, multicast, broadcast and reserved addresses, IPv4 inside IPv6, and link-local IPv6
    (which means nothing without an interface) are not.
    """
    host, port = address
    ip = ipaddress.ip_address(host)
    if port == 0 or ip.is_unspecified or ip.is_multicast:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not ip.is_reserved and ip not in _THIS_NETWORK
    return ip.ipv4_mapped is None and not ip.is_link_local


def usable_hints(hints: Iterable[Address], own: Iterable[Address]) -> list[Address]:
    """Hints that are worth a packet: never our own address, loopback only if we are on loopback ourselves."""
    ours = set(own)
    loopback = any(map(is_loopback, ours))
    return [hint for hint in hints if hint not in ours and (loopback or not is_loopback(hint))]


def encode_content(info: PatchInfo, addresses: Iterable[Address], *, speaks_v1: bool = False) -> bytes:
    """The content that announces ``info``, with the first 8 of ``addresses`` that are distinct and can be dialled."""
    hints = [address for address in dict.fromkeys(addresses) if is_dialable(address)][:HINT_LIMIT]
    lists = (b"".join(pack_compact(address) for address in hints if family(address) == kind) for kind in (4, 6))
    return info.to_postcard() + b"".join(encode_bytes(packed) for packed in lists) + (_V1 if speaks_v1 else b"")


def says_v1(content: bytes) -> bool:
    """Whether the node whose content this is says that it speaks the v1 exchange."""
    try:
        return _unpack_hints(PatchInfo.from_postcard(content)[1])[1][:1] == _V1
    except CodecError:
        return False


def decode_content(content: bytes) -> tuple[PatchInfo, tuple[Address, ...]]:
    """Read a content: the release and at most 8 hints.

    Hints that are missing or malformed count as none, superfluous ones are cut, and addresses that cannot be dialled
    are dropped. Bytes after the hints are ignored, so that a later version may say more.

    Raises:
        CodecError: it does not start with a PatchInfo.
    """
    info, rest = PatchInfo.from_postcard(content)
    try:
        hints, _ = _unpack_hints(rest)
    except CodecError:
        hints = []
    return info, tuple(address for address in dict.fromkeys(hints) if is_dialable(address))


def _unpack_hints(data: bytes) -> tuple[list[Address], bytes]:
    """The hints, and what follows them."""
    reader = Reader(data)
    hints: list[Address] = []
    for size in _COMPACT_SIZES:
        packed = reader.byte_string(VALUE_LIMIT)
        if len(packed) % size:
            raise CodecError(f"{len(packed)} bytes are no list of {size}-byte addresses")
        packed = packed[: size * (HINT_LIMIT - len(hints))]
        hints += [unpack_compact(packed[start : start + size]) for start in range(0, len(packed), size)]
    return hints, reader.rest()
