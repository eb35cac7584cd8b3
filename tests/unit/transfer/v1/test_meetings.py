"""Whom a node meets by v1: a release and the owner's word pass on the spot, also where there is no DHT."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.sources import Found
from pypatcher.discovery.sources.swarm import EVERYBODY
from pypatcher.nat.ways import EveryWay
from pypatcher.transfer.download import Fetch
from pypatcher.transfer.gate import NOBODY, OfferGate, Taker
from pypatcher.transfer.v1.meetings import MeetingsV1
from tests.support.manifests import STRANGER, release, word
from tests.support.siege import until
from tests.support.transport import Kept, local_release, make_release
from tests.support.v1_nodes import Speaker, open_speaker


class Heeding(EveryWay):
    """Notes what came of each meeting, and what was heard in it."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.outcomes: list[str] = []
        self.heard: list[Found] = []

    def reached(self, address: Address) -> None:
        self.outcomes.append("reached")

    def useless(self, address: Address) -> None:
        self.outcomes.append("useless")

    def failed(self, address: Address) -> None:
        self.outcomes.append("failed")

    def is_us(self, address: Address) -> None:
        self.outcomes.append("us")

    def hear(self, found: Found) -> None:
        self.heard.append(found)


class Takes(Taker):
    """Wants everything, and takes it at once."""

    def __init__(self) -> None:
        self.sinks: dict[PatchInfo, Kept] = {}
        self.sources: list[str] = []

    async def would_take(self, info: PatchInfo, address: Address) -> bool:
        return info not in self.sinks

    async def take(self, candidate: Candidate, fetch: Fetch) -> None:
        self.sinks[candidate.info] = Kept()
        self.sources.append(candidate.source)
        await fetch(candidate, self.sinks[candidate.info])


def meetings(speaker: Speaker, ways: Heeding, taker: Taker = NOBODY, known: tuple[Address, ...] = ()) -> MeetingsV1:
    return MeetingsV1(speaker.exchange, ways, taker, ways, gate=OfferGate(), rng=random.Random(1), known=known)


async def test_who_is_dialed_takes_what_the_dialer_holds(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, 2_000_000)
    async with open_speaker() as holder, open_speaker() as seeker:
        holder.hold(local_release(info, tmp_path / "release"))
        ways, taker = Heeding(), Takes()
        begun = asyncio.Event()
        meetings(seeker, Heeding(), taker)
        await meetings(holder, ways).meet(seeker.address, begun)
        assert bytes(taker.sinks[info]) == body
        assert taker.sources == ["an offer"]
        assert begun.is_set()
        assert (ways.outcomes[0], ways.outcomes[-1]) == ("reached", "useless")


async def test_who_dials_is_told_what_the_other_holds(tmp_path: Path) -> None:
    info, body = make_release(tmp_path)
    async with open_speaker() as holder, open_speaker() as seeker:
        holder.hold(local_release(info, tmp_path / "release"))
        ways = Heeding()
        await meetings(seeker, ways).meet(holder.address)
        ((found,),) = [each.candidates for each in ways.heard]
        assert (found.info, found.address, found.speaks_v1) == (info, holder.address, True)
        assert ways.outcomes[-1] == "reached"
        sink = Kept()
        await seeker.exchange.fetch(found, sink)
        assert bytes(sink) == body


async def test_what_the_owner_did_not_sign_is_not_heard(tmp_path: Path) -> None:
    make_release(tmp_path)
    forged = release("9.0.0", key=STRANGER)
    async with open_speaker() as holder, open_speaker() as seeker:
        holder.hold(local_release(forged, tmp_path / "release"))
        ways, taker = Heeding(), Takes()
        meetings(seeker, ways, taker)
        await meetings(holder, Heeding()).meet(seeker.address)
        await meetings(seeker, ways, taker).meet(holder.address)
        assert all(not each.candidates for each in ways.heard)
        assert not taker.sinks


async def test_a_node_that_meets_itself_knows_itself() -> None:
    async with open_speaker() as alone:
        ways = Heeding()
        await meetings(alone, ways).meet(alone.address)
        assert ways.outcomes == ["us"]


async def test_who_has_no_dht_hears_the_owner_from_a_peer() -> None:
    held = word("2.0.0", hold=1)
    async with open_speaker(held) as knows, open_speaker(word("2.0.0")) as alone:
        assert alone.word.current != held
        greeting = asyncio.create_task(meetings(alone, Heeding(), known=(knows.address,)).run(lambda: 0.2))
        await until(lambda: alone.word.current == held)
        greeting.cancel()


@pytest.mark.parametrize("host", ["203.0.113.7", "192.168.1.1", "127.9.9.9", "fe80::7"])
async def test_a_stranger_that_somebody_named_is_not_greeted(host: str) -> None:
    """The attack: addresses of devices' own LANs in records, which all of a fleet then dials there."""
    async with open_speaker(word("2.0.0")) as alone:
        ways = Heeding()
        alone.census.hear(Found(EVERYBODY, addresses=[(host, 4433)]), ())
        greeting = asyncio.create_task(meetings(alone, ways).run(lambda: 0.01))
        await asyncio.sleep(0.3)
        assert (alone.endpoint.connections, ways.outcomes) == (0, [])
        greeting.cancel()


async def test_neighbours_are_met_once_for_a_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 a second were dialed where somebody made each fetch fail at once; then the same again each minute.

    One machine that answers from a thousand ports, or between two releases, is met four times for each of them.
    """
    infos, now = [release("2.0.0"), release("3.0.0")], 0.0
    honest: Address = ("192.168.1.2", 6881)
    async with open_speaker() as node:
        node.census.prove(honest)
        for port in range(1000, 2000):
            node.census.prove(("192.168.1.9", port))
        gathering, met, swarms = meetings(node, Heeding()), list[tuple[float, Address]](), node.exchange.swarms

        async def meet(address: Address, _begun: asyncio.Event | None = None) -> None:
            met.append((now, address))

        monkeypatch.setattr(gathering, "meet", meet)
        monkeypatch.setattr(gathering, "_clock", lambda: now)
        task = asyncio.create_task(gathering.gather())
        for moment in (100.0, 101.0, 102.0, 190.0, 191.0, 3500.0, 3800.0):
            now = moment
            for fetching in (*infos, None):
                monkeypatch.setattr(swarms, "say", lambda fetching=fetching: (fetching, b""))
                await asyncio.sleep(0.01)
                swarms.news.tell()
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [at for at, address in met if address == honest] == [100.0, 100.0, 3800.0, 3800.0]
    assert [at for at, address in met if address != honest] == [100.0] * 8 + [3800.0] * 8


async def test_who_answers_from_a_thousand_ports_is_not_asked_alone() -> None:
    """The attack: dial a device from port after port: it asked nobody else any more what the owner says."""
    honest = [("192.168.1.2", 6881), ("198.51.100.7", 6881)]
    async with open_speaker() as node:
        for address in honest:
            node.census.prove(address)
        for port in range(1000, 2000):
            node.census.prove(("192.168.1.9", port))
        somebody = meetings(node, Heeding())
        drawn = [somebody._somebody() for _ in range(300)]
    assert sum(each in honest for each in drawn) > 150
