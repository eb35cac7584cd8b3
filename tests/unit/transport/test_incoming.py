"""Answers to first packets: RFC 9000 sections 6 and 8.1, between bytes and bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.errors import PeerBusyError
from pypatcher.keys import KeyPair
from pypatcher.transport.admission import Admission
from pypatcher.transport.close import close_error
from pypatcher.transport.incoming import FrontDoor, Welcome
from pypatcher.transport.quic import RawKeyConnection
from pypatcher.transport.rawkeys import QuicIdentity

HERE, THERE = ("8.8.4.1", 1), ("8.8.4.2", 1)


def client() -> RawKeyConnection:
    quic = RawKeyConnection(QuicIdentity.from_pair(KeyPair.generate()), ["alpn"])
    quic.connect(HERE, 0.0)
    return quic


def packet_of(quic: RawKeyConnection) -> bytes:
    ((data, _),) = quic.datagrams_to_send(0.0)
    return data


def answer(door: FrontDoor, data: bytes, source: Any = THERE, now: float = 0.0, full: bool = False) -> Any:
    return door.answer(data, source, now, full)


def test_the_first_of_a_client_is_welcome() -> None:
    quic = client()
    original = quic.original_destination_connection_id
    assert answer(FrontDoor(Admission()), packet_of(quic)) == Welcome(original, original, None)


def test_when_many_are_half_open_a_client_comes_back_with_its_token() -> None:
    door, quic = FrontDoor(Admission(half_open=0)), client()
    original = quic.original_destination_connection_id
    first = packet_of(quic)
    retry = answer(door, first)
    assert len(retry) < len(first)
    quic.receive_datagram(retry, HERE, 0.1)
    again = packet_of(quic)
    welcome = answer(door, again)
    assert welcome.original_id == original
    assert welcome.destination_id == welcome.retry_id != original
    assert isinstance(answer(door, again, source=HERE), bytes)
    assert isinstance(answer(door, again, now=31.0), bytes)
    assert isinstance(answer(FrontDoor(Admission(half_open=0)), again), bytes)


def test_a_refusal_ends_the_clients_try_at_once_as_busy() -> None:
    quic = client()
    first = packet_of(quic)
    for door, full in ((FrontDoor(Admission(connections=0)), False), (FrontDoor(Admission()), True)):
        refusal = answer(door, first, full=full)
        assert len(refusal) < 100
    quic.receive_datagram(refusal, HERE, 0.1)
    assert quic.closing is not None
    assert isinstance(close_error(*quic.closing), PeerBusyError)


@pytest.mark.parametrize("cut", [0, 1, 6, 30, 1199])
def test_a_first_packet_that_is_too_short_gets_silence(cut: int) -> None:
    assert answer(FrontDoor(Admission()), packet_of(client())[:cut]) is None


@given(
    st.binary(max_size=60), st.integers(0xC0, 0xFF), st.sampled_from([b"\0\0\0\0", b"\0\0\0\1", b"\x0a\x1a\x2a\x3a"])
)
def test_noise_never_gets_more_than_it_sent_nor_an_exception(noise: bytes, first: int, version: bytes) -> None:
    data = (bytes([first]) + version + noise).ljust(1200, b"\x07")
    reply = answer(FrontDoor(Admission(half_open=0)), data)
    assert reply is None or len(reply) < len(data)
    if version == bytes(4):
        assert reply is None


def test_only_in_a_flood_is_a_network_held_to_its_share() -> None:
    door = FrontDoor(Admission())
    assert not any(door.is_flooded(THERE, number / 100) for number in range(300))
    flood = [door.is_flooded((f"30.0.0.{number % 250}", number), 10.0) for number in range(3000)]
    assert flood.count(False) == 420
    assert not door.is_flooded(THERE, 10.0)
    assert not door.is_flooded(("30.0.0.1", 1), 20.0)
