"""Questions and their answers on virtual time: who may answer, when it is asked again, when it is given up."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from pypatcher.addresses import Address
from pypatcher.dht import krpc
from pypatcher.dht.calls import Calls, NoAnswerError, RoundTrip
from pypatcher.dht.krpc import Query, RemoteError, Response
from tests.support.virtual_time import run_virtual

_ID = bytes(20)
_PEER, _STRANGER = ("20.0.0.1", 1), ("20.0.0.2", 1)


class _Wire:
    def __init__(self) -> None:
        self.sent: list[tuple[float, bytes, Address]] = []
        self.loop = asyncio.get_running_loop()
        self.calls = Calls(self._send, self.loop.time, Random(1))

    def _send(self, data: bytes, address: Address) -> None:
        self.sent.append((self.loop.time(), data, address))

    def ask(self, tries: int = 2) -> asyncio.Future[Response]:
        return self.calls.query(_PEER, b"ping", _ID, {}, tries=tries).answer

    def transaction(self) -> bytes:
        query = krpc.decode(self.sent[-1][1])
        assert isinstance(query, Query)
        return query.transaction


def test_only_who_was_asked_may_answer() -> None:
    async def body() -> None:
        wire = _Wire()
        answer = wire.ask()
        response = Response(wire.transaction(), _ID, {}, None)
        assert len(wire.transaction()) == 4
        assert not wire.calls.received(response, _STRANGER)
        assert not wire.calls.received(response, (_PEER[0], 2))
        assert not wire.calls.received(Response(b"zzzz", _ID, {}, None), _PEER)
        assert not answer.done()
        assert wire.calls.received(response, _PEER)
        assert await answer == response
        assert not wire.calls.received(response, _PEER)

    run_virtual(body())


def test_an_error_is_an_answer() -> None:
    async def body() -> None:
        wire = _Wire()
        answer = wire.ask()
        assert wire.calls.received(krpc.Failure(wire.transaction(), 203, "no"), _PEER)
        with pytest.raises(RemoteError, match="203"):
            await answer

    run_virtual(body())


def test_silence_is_asked_again_with_growing_waits_and_then_given_up() -> None:
    async def body() -> None:
        wire = _Wire()
        with pytest.raises(NoAnswerError):
            await wire.ask(tries=3)
        assert [round(when, 3) for when, _, _ in wire.sent] == [0.0, 1.0, 3.0]
        assert len({data for _, data, _ in wire.sent}) == 1
        assert round(wire.loop.time(), 3) == 7.0
        assert len(wire.calls) == 0

    run_virtual(body())


def test_an_answer_to_the_first_packet_counts_after_the_second() -> None:
    async def body() -> None:
        wire = _Wire()
        answer = wire.ask()
        await asyncio.sleep(1.5)
        assert wire.calls.received(Response(wire.transaction(), _ID, {}, None), _PEER)
        assert (await answer).sender == _ID

    run_virtual(body())


def test_one_host_is_never_sent_what_libtorrent_bans_for() -> None:
    async def body() -> None:
        wire = _Wire()
        asked: list[asyncio.Future[Response]] = []
        for _ in range(600):
            asked += [wire.calls.query((_PEER[0], port), b"ping", _ID, {}, tries=3).answer for port in (1, 2)]
            await asyncio.sleep(0.1)
        await asyncio.gather(*asked, return_exceptions=True)
        times = [when for when, _, _ in wire.sent]
        assert max(sum(start <= when < start + 10 for when in times) for start in times) < 50

    run_virtual(body())


def test_a_forgotten_question_leaves_nothing_behind() -> None:
    async def body() -> None:
        wire = _Wire()
        wire.ask().cancel()
        await asyncio.sleep(0)
        assert len(wire.calls) == 0
        last = wire.ask()
        wire.calls.close()
        with pytest.raises(NoAnswerError):
            await last
        with pytest.raises(NoAnswerError):
            await wire.ask()
        assert len(wire.sent) == 2

    run_virtual(body())


def test_questions_under_way_are_bounded() -> None:
    async def body() -> None:
        wire = _Wire()
        asked = [wire.calls.query((f"10.0.{n >> 8}.{n & 255}", 1), b"ping", _ID, {}).answer for n in range(3000)]
        assert len(wire.calls) == len(wire.sent) == 1024
        await asyncio.gather(*asked, return_exceptions=True)

    run_virtual(body())


def test_the_wait_follows_the_round_trips_within_bounds() -> None:
    near, far = RoundTrip(), RoundTrip()
    assert near.wait == 1.0
    for _ in range(50):
        near.observe(0.001)
        far.observe(30.0)
    assert near.wait == 0.4
    assert far.wait == 2.0
