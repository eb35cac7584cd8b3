"""KRPC (BEP 5): queries, responses and errors as datagrams, and the fields in them, strict and bounded.

Pure functions over bytes: what a field may look like, those of BEP 32 (nodes6), 42 (``ip``) and 43 (``ro``) too. Not
here: who asked what, whether an answer was asked for, what to do about it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from pypatcher import bencode
from pypatcher.addresses import Address, pack_compact, unpack_compact
from pypatcher.bencode import Value
from pypatcher.dht.nodeid import ID_SIZE, Contact
from pypatcher.errors import CodecError, PeerError
from pypatcher.mutable_item import MutableItem

__all__ = [
    "MAX_DATAGRAM",
    "MAX_NODES",
    "MAX_PEERS",
    "NODE_FIELDS",
    "Failure",
    "Message",
    "Query",
    "RemoteError",
    "Response",
    "decode",
    "encode_failure",
    "encode_query",
    "encode_response",
    "is_usable",
    "item_of",
    "nodes_of",
    "pack_nodes",
    "peers_of",
    "token_of",
]

MAX_DATAGRAM = 16384
"""Bytes; npm nodes send all peers of an info-hash in one answer of 8 kB, of which the first are read."""
MAX_NODES = 32
"""Contacts taken from one answer; nodes send 8, some 20."""
MAX_PEERS = 200
"""Peers read of one answer, good or bad; libtorrent sends 100, we 80, and no more than this fits one packet."""
_MAX_TOKEN = 64
_MAX_TRANSACTION = 32
_MAX_TEXT = 200

NODE_FIELDS = {4: (b"nodes", ID_SIZE + 6), 6: (b"nodes6", ID_SIZE + 18)}
"""By family: where an answer holds contacts, and the bytes of each (BEP 5, 32)."""


class RemoteError(PeerError):
    """A node answered with a KRPC error.

    Attributes:
        code: 201 generic, 202 server, 203 protocol, 204 unknown method, 205 value too big, 206 bad signature,
            207 salt too big, 301 cas mismatch, 302 seq not newer.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"DHT error {code}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Query:
    """A query: ``arguments`` are still unchecked, but for the sender's id."""

    transaction: bytes
    method: bytes
    sender: bytes
    arguments: Mapping[bytes, Value]
    read_only: bool


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: ``values`` are unchecked but for the sender's id. ``observed`` is our address as they see it."""

    transaction: bytes
    sender: bytes
    values: Mapping[bytes, Value]
    observed: Address | None


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is an error."""

    transaction: bytes
    code: int
    text: str


Message = Query | Response | Failure


def decode(data: bytes) -> Message:
    """Read one datagram.

    Raises:
        CodecError: it is no KRPC message, or larger than 16 KiB.
    """
    if len(data) > MAX_DATAGRAM:
        raise CodecError(f"a KRPC datagram of {len(data)} bytes is too large")
    message = bencode.decode(data)
    if not isinstance(message, dict):
        raise CodecError("a KRPC message is a dictionary")
    transaction = _bytes(message, b"t")
    if not 1 <= len(transaction) <= _MAX_TRANSACTION:
        raise CodecError("a KRPC transaction id has 1 to 32 bytes")
    match message.get(b"y"):
        case b"q":
            arguments = _dict(message, b"a")
            return Query(transaction, _bytes(message, b"q"), _id(arguments), arguments, message.get(b"ro") == 1)
        case b"r":
            values = _dict(message, b"r")
            return Response(transaction, _id(values), values, _observed(message))
        case b"e":
            match message.get(b"e"):
                case [int(code), bytes(text), *_]:
                    return Failure(transaction, code, text[:_MAX_TEXT].decode("ascii", "replace"))
            raise CodecError("a KRPC error is a list of code and text")
    raise CodecError("a KRPC message is a query, a response or an error")


def encode_query(
    transaction: bytes, method: bytes, sender: bytes, arguments: Mapping[bytes, Value], *, read_only: bool = False
) -> bytes:
    """A query; ``ro`` tells the other side not to ask us (BEP 43)."""
    message: dict[bytes, Value] = {
        b"a": {**arguments, b"id": sender},
        b"q": method,
        b"t": transaction,
        b"y": b"q",
    }
    if read_only:
        message[b"ro"] = 1
    return bencode.encode(message)


def encode_response(transaction: bytes, sender: bytes, values: Mapping[bytes, Value], asker: Address) -> bytes:
    """An answer, telling the asker its own address (BEP 42)."""
    return bencode.encode({b"ip": pack_compact(asker), b"r": {**values, b"id": sender}, b"t": transaction, b"y": b"r"})


def encode_failure(transaction: bytes, code: int, text: str) -> bytes:
    """An error answer."""
    return bencode.encode({b"e": [code, text.encode("ascii")], b"t": transaction, b"y": b"e"})


def is_usable(address: Address) -> bool:
    """Whether a packet may be sent there because a stranger said so: one host, a real port."""
    return address[1] > 0 and _is_host(address[0])


@lru_cache(maxsize=4096)
def _is_host(host: str) -> bool:
    ip = ipaddress.ip_address(host)
    if ip.is_multicast or ip.is_unspecified:
        return False
    return not ip.is_reserved if isinstance(ip, ipaddress.IPv4Address) else ip.ipv4_mapped is None


def pack_nodes(contacts: Iterable[Contact]) -> bytes:
    """Compact node info: 26 bytes a contact (IPv4) or 38 (IPv6)."""
    return b"".join(contact.id + pack_compact(contact.address) for contact in contacts)


def nodes_of(values: Mapping[bytes, Value], family: int) -> list[Contact]:
    """The contacts of one family in an answer, at most 32; a field of a wrong form gives none."""
    name, size = NODE_FIELDS[family]
    data = values.get(name)
    if not isinstance(data, bytes) or len(data) % size:
        return []
    contacts = []
    for at in range(0, min(len(data), size * MAX_NODES), size):
        address = unpack_compact(data[at + ID_SIZE : at + size])
        if is_usable(address):
            contacts.append(Contact(data[at : at + ID_SIZE], address))
    return contacts


def peers_of(values: Mapping[bytes, Value], family: int) -> list[Address]:
    """The peers of one family in an answer to get_peers; the first 200 are read, malformed ones left out."""
    found = values.get(b"values")
    size = 6 if family == 4 else 18
    if not isinstance(found, list):
        return []
    addresses = (unpack_compact(data) for data in found[:MAX_PEERS] if isinstance(data, bytes) and len(data) == size)
    return [address for address in addresses if is_usable(address)]


def token_of(values: Mapping[bytes, Value]) -> bytes | None:
    """The write token, if there is one of at most 64 bytes."""
    token = values.get(b"token")
    return token if isinstance(token, bytes) and 1 <= len(token) <= _MAX_TOKEN else None


def item_of(values: Mapping[bytes, Value], salt: bytes) -> MutableItem | None:
    """The mutable item in an answer to get, sizes checked, signature and target not."""
    match values.get(b"k"), values.get(b"seq"), values.get(b"v"), values.get(b"sig"):
        case bytes(key), int(seq), bytes(value), bytes(signature):
            item = MutableItem(key, salt, seq, value, signature)
            return item if item.fits() else None
    return None


def _bytes(message: Mapping[bytes, Value], key: bytes) -> bytes:
    value = message.get(key)
    if not isinstance(value, bytes):
        raise CodecError(f"a KRPC message lacks {key!r}")
    return value


def _dict(message: Mapping[bytes, Value], key: bytes) -> dict[bytes, Value]:
    value = message.get(key)
    if not isinstance(value, dict):
        raise CodecError(f"a KRPC message lacks {key!r}")
    return value


def _id(values: Mapping[bytes, Value]) -> bytes:
    node_id = values.get(b"id")
    if not isinstance(node_id, bytes) or len(node_id) != ID_SIZE:
        raise CodecError("a node id has 20 bytes")
    return node_id


def _observed(message: Mapping[bytes, Value]) -> Address | None:
    data = message.get(b"ip")
    if not isinstance(data, bytes) or len(data) not in (6, 18):
        return None
    address = unpack_compact(data)
    return address if is_usable(address) else None
