"""KRPC messages and their fields, from honest and hostile nodes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher import bencode
from pypatcher.addresses import pack_compact
from pypatcher.dht import krpc
from pypatcher.dht.krpc import Failure, Query, Response
from pypatcher.dht.nodeid import Contact
from pypatcher.errors import CodecError
from pypatcher.keys import KeyPair
from pypatcher.mutable_item import MutableItem

_ID = bytes(range(20))
_ASKER = ("203.0.113.9", 6881)


def test_a_query_is_read_as_it_was_written() -> None:
    data = krpc.encode_query(b"abcd", b"get", _ID, {b"target": _ID})
    assert krpc.decode(data) == Query(b"abcd", b"get", _ID, {b"id": _ID, b"target": _ID}, read_only=False)
    assert data == b"d1:ad2:id20:" + _ID + b"6:target20:" + _ID + b"e1:q3:get1:t4:abcd1:y1:qe"


def test_a_read_only_node_says_so() -> None:
    message = krpc.decode(krpc.encode_query(b"abcd", b"ping", _ID, {}, read_only=True))
    assert isinstance(message, Query)
    assert message.read_only


@pytest.mark.parametrize("asker", [_ASKER, ("2001:db8::7", 1)])
def test_an_answer_tells_the_asker_its_address(asker: tuple[str, int]) -> None:
    data = krpc.encode_response(b"abcd", _ID, {b"token": b"t"}, asker)
    assert krpc.decode(data) == Response(b"abcd", _ID, {b"id": _ID, b"token": b"t"}, asker)
    assert data.startswith(b"d2:ip")


def test_an_error_is_read_as_it_was_written() -> None:
    assert krpc.decode(krpc.encode_failure(b"abcd", 203, "invalid token")) == Failure(b"abcd", 203, "invalid token")


def test_an_error_text_is_cut_and_made_printable() -> None:
    message = krpc.decode(bencode.encode({b"e": [201, b"\xff\x00" * 500], b"t": b"a", b"y": b"e"}))
    assert isinstance(message, Failure)
    assert len(message.text) <= 200


@pytest.mark.parametrize(
    "message",
    [
        b"i1e",
        b"le",
        {},
        {b"t": b"a", b"y": b"x"},
        {b"t": b"", b"y": b"r", b"r": {b"id": _ID}},
        {b"t": b"x" * 33, b"y": b"r", b"r": {b"id": _ID}},
        {b"t": 1, b"y": b"r", b"r": {b"id": _ID}},
        {b"t": b"a", b"y": b"r"},
        {b"t": b"a", b"y": b"r", b"r": {}},
        {b"t": b"a", b"y": b"r", b"r": {b"id": _ID[:19]}},
        {b"t": b"a", b"y": b"r", b"r": []},
        {b"t": b"a", b"y": b"q", b"a": {b"id": _ID}},
        {b"t": b"a", b"y": b"q", b"q": 1, b"a": {b"id": _ID}},
        {b"t": b"a", b"y": b"e"},
        {b"t": b"a", b"y": b"e", b"e": [b"x", 1]},
    ],
)
def test_a_message_of_another_form_is_refused(message: object) -> None:
    data = message if isinstance(message, bytes) else bencode.encode(message)  # type: ignore[arg-type]
    with pytest.raises(CodecError):
        krpc.decode(data)


def test_a_huge_datagram_is_refused_unread() -> None:
    with pytest.raises(CodecError):
        krpc.decode(b"d" * (krpc.MAX_DATAGRAM + 1))


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_codec_errors(data: bytes) -> None:
    with pytest.raises(CodecError):
        krpc.decode(b"\xff" + data)
    with contextlib.suppress(CodecError):
        krpc.decode(b"d1:a" + data)


_FIELDS = st.sampled_from([b"nodes", b"nodes6", b"values", b"token", b"k", b"seq", b"v", b"sig", b"id"])
_LEAVES = st.integers(-(1 << 63), (1 << 63) - 1) | st.binary(max_size=60) | st.binary(min_size=32, max_size=32)


@given(st.dictionaries(_FIELDS, _LEAVES | st.lists(_LEAVES, max_size=4), max_size=9))
def test_fields_of_any_form_are_read_or_ignored(values: dict[bytes, bencode.Value]) -> None:
    for family in (4, 6):
        assert all(len(contact.id) == 20 for contact in krpc.nodes_of(values, family))
        assert all(port > 0 for _, port in krpc.peers_of(values, family))
    krpc.token_of(values)
    item = krpc.item_of(values, b"salt")
    assert item is None or item.fits()


@pytest.mark.parametrize(("family", "name", "host"), [(4, b"nodes", "192.0.2.1"), (6, b"nodes6", "2001:db8::1")])
def test_nodes_are_packed_and_read(family: int, name: bytes, host: str) -> None:
    contacts = [Contact(bytes((n,)) * 20, (host, 1000 + n)) for n in range(8)]
    assert krpc.nodes_of({name: krpc.pack_nodes(contacts)}, family) == contacts
    assert krpc.nodes_of({name: krpc.pack_nodes(contacts)}, 10 - family) == []


def test_a_huge_list_of_nodes_is_cut() -> None:
    contacts = [Contact(n.to_bytes(20, "big"), ("192.0.2.1", 1 + n)) for n in range(600)]
    assert len(krpc.nodes_of({b"nodes": krpc.pack_nodes(contacts)}, 4)) == krpc.MAX_NODES


@pytest.mark.parametrize(("family", "host"), [(4, "192.0.2.1"), (6, "2001:db8::1")])
def test_of_a_huge_list_of_peers_only_the_first_are_read(family: int, host: str) -> None:
    good = [pack_compact((host, 1 + n)) for n in range(2000)]
    bad = pack_compact((host, 0))
    assert len(krpc.peers_of({b"values": good}, family)) == krpc.MAX_PEERS == 200
    assert krpc.peers_of({b"values": [bad] * 199 + good}, family) == [(host, 1)]
    assert krpc.peers_of({b"values": [b"malformed"] * 200 + good}, family) == []


@pytest.mark.parametrize(
    "address",
    [
        ("192.0.2.1", 0),
        ("0.0.0.0", 1),
        ("224.0.0.1", 1),
        ("255.255.255.255", 1),
        ("250.1.1.1", 1),
        ("::", 1),
        ("ff02::1", 1),
        ("::ffff:192.0.2.1", 1),
    ],
)
def test_addresses_that_are_no_host_are_never_sent_to(address: tuple[str, int]) -> None:
    assert not krpc.is_usable(address)
    family = 6 if ":" in address[0] else 4
    name = {4: b"nodes", 6: b"nodes6"}[family]
    assert krpc.nodes_of({name: krpc.pack_nodes([Contact(_ID, address)])}, family) == []


@pytest.mark.parametrize("address", [("127.0.0.1", 1), ("::1", 1), ("10.0.0.1", 65535), ("fd00::1", 1)])
def test_hosts_nearby_are_hosts(address: tuple[str, int]) -> None:
    assert krpc.is_usable(address)


def test_an_item_with_a_seq_beyond_64_bits_does_not_even_parse() -> None:
    item = MutableItem.sign(KeyPair.from_seed(bytes(32)), b"", (1 << 63) - 1, b"v")
    values = {b"id": _ID, b"k": item.public_key, b"sig": item.signature, b"seq": item.seq, b"v": item.value}
    data = krpc.encode_response(b"abcd", _ID, values, _ASKER)
    assert isinstance(krpc.decode(data), Response)
    with pytest.raises(CodecError):
        krpc.decode(data.replace(b"i9223372036854775807e", b"i9223372036854775808e"))


@pytest.mark.parametrize("token", [b"", b"x" * 65, 7, [b"x"]])
def test_a_token_of_another_form_is_none(token: bencode.Value) -> None:
    assert krpc.token_of({b"token": token}) is None
