"""A knock tells two nodes that share a secret from everybody else, and tells everybody else nothing."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from pypatcher.addresses import Address
from pypatcher.bencode import Value
from pypatcher.dht import krpc
from pypatcher.dht.knock import FIELD, Answered, answer_knock, ask, nonce_v1, who_answered
from tests.support.dht_network import DhtNetwork
from tests.support.virtual_time import run_virtual

SECRET, OTHERS = b"s" * 32, b"o" * 32
NONCE = bytes(range(8))


def test_who_knows_the_secret_proves_it() -> None:
    assert who_answered(SECRET, NONCE, answer_knock(SECRET, {FIELD: ask(SECRET, NONCE)})).is_member


@pytest.mark.parametrize(
    "asked", [None, 7, b"", ask(OTHERS, NONCE), ask(SECRET, NONCE)[:-1], ask(SECRET, NONCE) + b"x", [b"x"]]
)
def test_who_asks_without_the_secret_is_told_nothing(asked: Value) -> None:
    assert answer_knock(SECRET, {} if asked is None else {FIELD: asked}) == {}


def test_a_node_without_a_secret_proves_nothing() -> None:
    assert answer_knock(b"", {FIELD: ask(b"", NONCE)}) == {}


@pytest.mark.parametrize("proof", [None, 7, b"", b"x" * 8, ask(SECRET, NONCE)[8:]])
def test_an_answer_that_is_no_proof_is_none(proof: Value) -> None:
    assert not who_answered(SECRET, NONCE, {} if proof is None else {FIELD: proof}).is_member


def test_two_that_speak_v1_say_so_and_older_nodes_see_nothing() -> None:
    asked = nonce_v1(SECRET, b"rand")
    answer = answer_knock(SECRET, {FIELD: ask(SECRET, asked)})
    assert who_answered(SECRET, asked, answer) is Answered.MEMBER_V1
    older = {FIELD: hashlib.blake2b(b"answer" + asked, key=SECRET, digest_size=8).digest()}
    assert who_answered(SECRET, asked, older) is Answered.MEMBER
    of_an_older_node = answer_knock(SECRET, {FIELD: ask(SECRET, NONCE)})
    assert of_an_older_node == {FIELD: hashlib.blake2b(b"answer" + NONCE, key=SECRET, digest_size=8).digest()}


def test_an_answer_to_another_knock_is_no_proof() -> None:
    old = answer_knock(SECRET, {FIELD: ask(SECRET, NONCE)})
    assert not who_answered(SECRET, NONCE[::-1], old).is_member


def test_a_member_is_known_by_its_answer_and_a_stranger_by_none() -> None:
    async def body() -> None:
        net = DhtNetwork()
        ours, member = net.add(secret=SECRET), net.add(secret=SECRET)
        assert await ours.knock(net.address_of(member)) is Answered.MEMBER_V1
        assert ours.nodes() == [net.address_of(member)]
        stranger, heard = net.new_address(), []
        answer = net.send_from(stranger)

        def pong(data: bytes, source: Address) -> None:
            query = krpc.decode(data)
            assert isinstance(query, krpc.Query)
            heard.append(query.method)
            answer(krpc.encode_response(query.transaction, b"x" * 20, {FIELD: b"x" * 8}, source), source)

        net.hosts[stranger] = pong
        assert await ours.knock(stranger) is Answered.STRANGER
        assert await ours.knock(net.address_of(net.add(secret=OTHERS))) is Answered.STRANGER
        await asyncio.sleep(60)
        assert heard == [b"ping"]
        assert stranger not in ours.nodes()
        await net.stop()

    run_virtual(body())


def test_a_member_that_is_slow_to_answer_is_still_known() -> None:
    async def body() -> None:
        net = DhtNetwork(latency=(1.9, 2.0))
        ours, member = net.add(secret=SECRET), net.add(secret=SECRET)
        assert await ours.knock(net.address_of(member)) is Answered.MEMBER_V1
        assert net.received[net.address_of(member)] == 1
        await net.stop()

    run_virtual(body())


def test_a_member_that_was_asked_too_much_is_still_knocked_at() -> None:
    """In a small DHT members are each other's DHT nodes: looks that use up what one may be asked silence no knock."""

    async def body() -> None:
        net = DhtNetwork()
        ours, member = net.add(secret=SECRET), net.add(secret=SECRET)
        pings = [ours.ping(net.address_of(member), tries=1) for _ in range(60)]
        assert not all(await asyncio.gather(*pings))
        assert await ours.knock(net.address_of(member)) is Answered.MEMBER_V1
        await net.stop()

    run_virtual(body())
