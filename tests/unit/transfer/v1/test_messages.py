"""The messages of the v1 exchange: what is written is read again, and what a peer may not say is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.bencode import encode
from pypatcher.errors import CodecError
from pypatcher.transfer.v1.messages import (
    HELLO_LIMIT,
    MESSAGE_LIMIT,
    Flags,
    Hello,
    Kind,
    MessageReader,
    RangesRequest,
    TreeRequest,
    check_ranges,
    encode_message,
)
from tests.support.manifests import release, word

RELEASE = bytes(range(32))
NUMBER = b"\x80\x80\x80\x80\x80\x80\x80\x80\x80"


def test_a_hello_survives_its_bytes() -> None:
    known = word(share=5)
    hello = Hello(
        held=(release("1.0.0"), release("1.1.0")),
        given=(bytes(32), b"\x80" + bytes(31)),
        seq=known.seq,
        digest=known.digest,
        mask=known.mask,
        fetching=release("1.2.0"),
        parts=bytes(31) + b"\x01",
        gives=False,
        software="pypatcher 1.0",
    )
    assert Hello.decode(hello.encode()) == hello
    assert Hello.decode(Hello().encode()) == Hello()


def test_unknown_keys_of_a_hello_are_skipped_and_names_made_printable() -> None:
    assert Hello.decode(encode({b"colour": b"red", b"a": b"\x1b[2J\xff"})).software == "?[2J\ufffd"
    assert len(Hello.decode(encode({b"a": b"x" * 500})).software) == 80


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"le",
        encode({b"i": [release("1.0.0").to_postcard()] * 5}),
        encode({b"i": b"x"}),
        encode({b"i": [5]}),
        encode({b"i": [release("1.0.0").to_postcard() + b"x"]}),
        encode({b"m": -1}),
        encode({b"m": 1 << 53}),
        encode({b"m": b"1"}),
        encode({b"m": 5, b"h": b"short"}),
        encode({b"m": 5, b"g": 16}),
        encode({b"p": b"rubbish"}),
        encode({b"b": bytes(31)}),
        encode({b"o": bytes(32)}),
        encode({b"i": [release("1.0.0").to_postcard()], b"o": bytes(64)}),
        encode({b"a": 5}),
    ],
)
def test_what_is_no_hello_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError):
        Hello.decode(payload)


def test_a_hello_that_is_longer_than_any_is_not_taken_apart() -> None:
    """The attack: ten a second of 60 kB, each a list of 20,000 numbers: a slow device had no processor left."""
    fetching, known = release("1.0.5"), word()
    longest = Hello(
        held=tuple(release(f"1.0.{number}") for number in range(4)),
        given=(b"\xff" * 32,) * 4,
        seq=(1 << 53) - 1,
        digest=known.digest,
        mask=15,
        fetching=fetching,
        parts=b"\xff" * 32,
        gives=False,
        software="x" * 80,
    ).encode()
    assert 3 * len(longest) < HELLO_LIMIT
    with pytest.raises(CodecError, match="HELLO of more than"):
        Hello.decode(encode({b"z": [0] * (HELLO_LIMIT // 3)}))


def test_requests_survive_their_bytes() -> None:
    tree = TreeRequest(RELEASE, 130, (bytes(16), bytes(range(16))))
    assert TreeRequest.decode(tree.encode()) == tree
    assert TreeRequest.decode(TreeRequest(RELEASE, 1).encode()).nodes == ()
    ranges = RangesRequest(RELEASE, Flags.ZLIB, ((0, 5), (5, 1), (1 << 33, 1000)))
    assert RangesRequest.decode(ranges.encode()) == ranges


def test_unknown_flags_are_skipped() -> None:
    request = RangesRequest(RELEASE, Flags.ZLIB, ((0, 5),)).encode()
    changed = request[:32] + b"\x7d" + request[33:]
    assert RangesRequest.decode(changed).flags is Flags.ZLIB


@pytest.mark.parametrize(
    "payload",
    [b"", RELEASE, RELEASE + b"\x01" + bytes(15), RELEASE + b"\x01" + bytes(16 * 257), RELEASE + b"\xff\x7f"],
)
def test_what_asks_for_no_nodes_or_too_many_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError):
        TreeRequest.decode(payload)


@pytest.mark.parametrize(
    "ranges",
    [
        (),
        ((0, 0),),
        ((5, 1), (4, 1)),
        ((0, 5), (4, 1)),
        ((0, (16 << 20) + 1),),
        ((0, 1 << 23), (1 << 24, (1 << 23) + 1)),
        tuple((at * 2, 1) for at in range(1025)),
        ((1 << 41, 5),),
        (((1 << 64) - 1, 5),),
    ],
)
def test_ranges_that_nobody_may_ask_for_are_refused(ranges: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(CodecError):
        RangesRequest.decode(RangesRequest(RELEASE, Flags(0), ranges).encode())


def test_a_range_behind_the_end_of_the_file_is_refused() -> None:
    check_ranges(((0, 5), (10, 5)), 15)
    with pytest.raises(CodecError):
        check_ranges(((0, 5), (10, 6)), 15)


messages = st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=300)), max_size=5)


@given(messages, st.integers(1, 50))
def test_messages_come_out_however_the_stream_is_cut(sent: list[tuple[int, bytes]], piece: int) -> None:
    stream = b"".join(encode_message(kind, payload) for kind, payload in sent)
    reader, found = MessageReader(), []
    for at in range(0, len(stream), piece):
        found += reader.feed(stream[at : at + piece])
    assert found == sent
    assert reader.is_between


def test_a_stream_that_ends_within_a_message_is_not_between_two() -> None:
    reader = MessageReader()
    assert reader.feed(encode_message(Kind.HELLO, b"12345")[:-1]) == []
    assert not reader.is_between


@pytest.mark.parametrize(
    "stream",
    [
        encode_message(Kind.HELLO, bytes(MESSAGE_LIMIT + 1)),
        encode_message(1 << 17),
        b"\x01" + NUMBER + b"\x80\x01",
        NUMBER + b"\x80\x80" + NUMBER,
        b"\x81\x00\x05",
    ],
)
def test_headers_that_no_message_has_are_refused(stream: bytes) -> None:
    reader = MessageReader()
    with pytest.raises(CodecError):
        for at in range(len(stream)):
            reader.feed(stream[at : at + 1])


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_an_error(data: bytes) -> None:
    for read in (Hello.decode, TreeRequest.decode, RangesRequest.decode, MessageReader().feed):
        try:
            read(data)
        except CodecError:
            continue
