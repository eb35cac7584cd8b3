"""What comes over the network: DHT, slots, exchange, offers, first packets, neighbours and routers.

Each function takes any bytes and returns nothing; whatever it raises is a finding. See ``targets``.
"""

from __future__ import annotations

import asyncio
from typing import cast

from pypatcher import bencode
from pypatcher.addresses import Address
from pypatcher.artifact import Patch, PatchInfo, make_info
from pypatcher.artifact.manifest import Manifest, ManifestFile
from pypatcher.artifact.postcard import Reader
from pypatcher.artifact.terms import Terms
from pypatcher.artifact.tree import TreeNode, Walk, node_id
from pypatcher.dht import krpc
from pypatcher.discovery import Namespace
from pypatcher.discovery.announcement import decode_content, encode_content, is_dialable
from pypatcher.discovery.records import Record, decrypt_record
from pypatcher.discovery.slots import Slot
from pypatcher.discovery.sources.lan import decode_search
from pypatcher.errors import ArtifactError, CodecError, PatcherError, PeerError, PortMapError, VersionError
from pypatcher.keys import KeyPair
from pypatcher.nat.portmap import natpmp, pcp, upnp_messages
from pypatcher.nat.portmap.http import parse_answer
from pypatcher.nat.portmap.upnp import ask_description
from pypatcher.transfer.offer import receive_offer
from pypatcher.transfer.v1.answers import RangesAnswer, decode_nodes
from pypatcher.transfer.v1.messages import Hello, MessageReader, RangesRequest, TreeRequest
from pypatcher.transfer.wire import check_auth, decode_patch_header
from pypatcher.transport.admission import Admission
from pypatcher.transport.connection import Connection
from pypatcher.transport.incoming import FrontDoor
from pypatcher.version import Version
from tests.fuzz.files import OWNER

__all__ = [
    "COOKIE",
    "INFO",
    "INFO_HASH",
    "KEY",
    "NONCE",
    "ROUTER",
    "SLOT",
    "bencoded",
    "first_packet",
    "framing",
    "krpc_message",
    "lan_answers",
    "manifest",
    "postcard",
    "record",
    "tree",
    "v1_messages",
]

KEY = KeyPair.from_seed(bytes(range(32)))
INFO = make_info(Version(1, 2, 3), bytes(32), 1000, KEY)
SLOT = Slot(Namespace.ours("x86_64", OWNER), 29_000_000)
INFO_HASH, COOKIE = bytes(range(20)), "00112233aabbccdd"
NONCE, ROUTER, PORT = b"n" * 12, "192.0.2.1", 6881
_SOURCE: Address = ("198.51.100.7", 4000)
_DOOR = FrontDoor(Admission())


def postcard(data: bytes) -> None:
    """PatchInfo and Patch; numbers have one encoding, so what is read writes the same bytes."""
    try:
        info, rest = PatchInfo.from_postcard(data)
        assert info.to_postcard() + rest == data
    except (CodecError, VersionError):
        pass
    try:
        patch, rest = Patch.from_postcard(data)
        assert patch.to_postcard() + rest == data
    except (CodecError, VersionError, ArtifactError):
        pass
    reader = Reader(data)
    try:
        while True:
            reader.unsigned()
            reader.signed()
            reader.byte_string(64)
    except CodecError:
        pass


def bencoded(data: bytes) -> None:
    """Bencode; it has one encoding, so what is read writes the same bytes."""
    try:
        value = bencode.decode(data)
    except CodecError:
        return
    assert bencode.encode(value) == data


def manifest(data: bytes) -> None:
    """Both forms of a manifest, and terms that nobody signed; what is read writes the same bytes."""
    for read in (ManifestFile.decode, lambda form: Manifest.decode(form, OWNER, "armv7")):
        try:
            read(data)
        except ArtifactError:
            continue
    try:
        terms = Terms.read(data, OWNER, INFO.version.seq())
        assert bencode.encode(terms.keys) == data
    except ArtifactError:
        pass


def tree(data: bytes) -> None:
    """A node of a chunk tree, as the root of one: what is read writes the same bytes, or the walk refuses it."""
    try:
        node = TreeNode.decode(data)
    except CodecError:
        return
    assert node.encode() == data
    try:
        walk = Walk(node_id(data), min(sum(node.sizes), 1 << 32))
        walk.add(data)
        if not walk.missing:
            walk.finish()
    except CodecError:
        pass


def krpc_message(data: bytes) -> None:
    """A datagram of the DHT, and everything that is taken out of it."""
    try:
        message = krpc.decode(data)
    except CodecError:
        return
    values = getattr(message, "values", None) or getattr(message, "arguments", None) or {}
    for family in (4, 6):
        krpc.nodes_of(values, family)
        krpc.peers_of(values, family)
    krpc.token_of(values)
    krpc.item_of(values, b"salt")


def record(data: bytes) -> None:
    """A record, encrypted and not, and its content: at most 8 addresses, each one that can be dialled."""
    for call in (lambda: decrypt_record(SLOT, data), lambda: Record.unpack(data).verify(SLOT)):
        try:
            call()
        except PatcherError:
            continue
    try:
        info, addresses = decode_content(data)
    except (CodecError, VersionError):
        return
    assert len(addresses) <= 8
    assert all(is_dialable(address) for address in addresses)
    assert decode_content(encode_content(info, addresses)) == (info, addresses)


class _Stream:
    """Gives its bytes in pieces, whose size the last of them says."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._piece = data[-1] % 64 + 1 if data else 1

    async def read(self, limit: int) -> bytes:
        size = min(limit, self._piece)
        part, self._data = self._data[:size], self._data[size:]
        return part


class _Offering:
    """As much of a connection as ``receive_offer`` needs."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def accept_uni(self) -> _Stream:
        return _Stream(self._data)


def _offer(data: bytes) -> None:
    """What a peer offers: a release that the owner signed, nothing, or a refusal."""
    with asyncio.Runner() as runner:
        try:
            offered = runner.run(receive_offer(cast("Connection", _Offering(data)), OWNER, None))
        except (PeerError, ArtifactError):
            return
    assert offered is None or offered == INFO


def framing(data: bytes) -> None:
    """The v0 exchange, request and answer, and an offer."""
    _offer(data)
    assert check_auth(data, OWNER, 29_000_000) in (True, False)
    try:
        header, rest = decode_patch_header(data, int.from_bytes(data[-8:], "big") % (1 << 20))
    except (CodecError, VersionError):
        return
    assert header.info.to_postcard() == data[: len(header.info.to_postcard())]
    assert data.endswith(rest)


def first_packet(data: bytes) -> None:
    """A stranger's first QUIC packet: what is answered is smaller than it."""
    for full in (False, True):
        answer = _DOOR.answer(data, _SOURCE, 1000.0, full)
        assert not isinstance(answer, bytes) or len(answer) < len(data)


def lan_answers(data: bytes) -> None:
    """What devices of the LAN say: a neighbour's multicast, a router's PCP, NAT-PMP and UPnP, its HTTP and XML."""
    port = decode_search(data, INFO_HASH, COOKIE)
    assert port is None or 1 <= port <= 65535
    for call in (
        lambda: pcp.decode_answer(data, NONCE, PORT),
        lambda: natpmp.decode_port(data, PORT),
        lambda: natpmp.decode_address(data),
        lambda: _location(data),
        lambda: _http(data),
    ):
        try:
            call()
        except PortMapError:
            continue


def _location(data: bytes) -> None:
    url = upnp_messages.parse_location(data, ROUTER)
    if url is not None:
        server, request = ask_description(url, ROUTER)
        assert server[0] == ROUTER
        assert request.count(b"\r\n") == 4


def _http(data: bytes) -> None:
    try:
        status, body = parse_answer(data)
    except PortMapError:
        status, body = 200, data
    try:
        for service in upnp_messages.parse_description(body, f"http://{ROUTER}:5000/root.xml"):
            assert service.server[0] == ROUTER
            upnp_messages.encode_call(service, "AddPortMapping", {"NewRemoteHost": "<&>"})
    except PortMapError:
        pass
    upnp_messages.parse_result(status, body)


def v1_messages(data: bytes) -> None:
    """Messages and answers of the v1 exchange: no range brings more than was asked for."""
    readers = (MessageReader().feed, Hello.decode, TreeRequest.decode, RangesRequest.decode)
    for read in (*readers, lambda answer: decode_nodes(answer, 3)):
        try:
            read(data)
        except CodecError:
            continue
    for zlib_welcome in (True, False):
        try:
            found = RangesAnswer([(0, 400), (400, 100)], zlib_welcome=zlib_welcome).feed(data)
        except CodecError:
            continue
        assert sum(len(part) for _, part in found) <= 500
