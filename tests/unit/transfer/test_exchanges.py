"""A second transfer protocol is a class and a line in ``Exchanges``: who speaks it is served and dialed by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from pypatcher.artifact import PatchInfo
from pypatcher.budgets import UploadLimiter
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import PeerError
from pypatcher.transfer.exchange import Exchange, Sink
from pypatcher.transfer.exchanges import Exchanges
from pypatcher.transfer.shelf import Shelf
from pypatcher.transport import Connection
from tests.support.discovery import OURS, node, release
from tests.support.transport import Kept, local_release, make_release, open_endpoint, open_server
from tests.support.v1_nodes import NAMESPACE

NEW = release("2.0.0")


class NotedEndpoint:
    """Notes what is served."""

    node_id = bytes(32)

    def __init__(self) -> None:
        self.served: list[str] = []

    def serve(self, alpn: str, _handler: object) -> None:
        self.served.append(alpn)


class NotedExchange(Exchange):
    """A protocol that nodes with an even port speak, or all do."""

    def __init__(self, alpn: str, *, for_all: bool) -> None:
        self.name = alpn
        self.for_all = for_all
        self.asked: list[Candidate] = []

    @property
    def alpn(self) -> str:
        return self.name

    def suits(self, candidate: Candidate) -> bool:
        return self.for_all or candidate.address[1] % 2 == 0

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        self.asked.append(candidate)
        return candidate.info

    async def answer(self, connection: Connection) -> None: ...


def make() -> tuple[NotedEndpoint, Exchanges]:
    endpoint = NotedEndpoint()
    return endpoint, Exchanges(cast("Any", endpoint), OURS, Shelf(UploadLimiter()))


async def test_who_speaks_the_better_protocol_is_asked_by_it() -> None:
    _, exchanges = make()
    better, old = NotedExchange("/two", for_all=False), NotedExchange("/one", for_all=True)
    exchanges.spoken = (better, old)
    new_node, old_node = (Candidate(NEW, node(port).public, ("198.51.100.1", port), "a test") for port in (2, 3))
    for candidate in (new_node, old_node):
        assert await exchanges.fetch(candidate, Kept()) == NEW
    assert (better.asked, old.asked) == ([new_node], [old_node])


def test_every_protocol_that_is_spoken_is_answered() -> None:
    endpoint, exchanges = make()
    exchanges.spoken = (NotedExchange("/two", for_all=False), *exchanges.spoken)
    exchanges.serve()
    assert endpoint.served == ["/two", OURS.alpn_v1, OURS.alpn]


def test_the_protocol_that_every_device_speaks_suits_everybody() -> None:
    _, exchanges = make()
    assert exchanges.spoken[-1].suits(Candidate(NEW, node(1).public, ("198.51.100.1", 1), "a test"))


@pytest.mark.parametrize("request_bytes", [b"", b"x", bytes(63)])
async def test_a_request_that_ends_early_is_told_to_break_the_protocol(request_bytes: bytes) -> None:
    async with open_endpoint() as holder, open_endpoint() as taker:
        Exchanges(holder, OURS, Shelf(UploadLimiter())).serve()
        connection = await taker.connect(holder.addresses[0], node_id=holder.node_id, alpn=OURS.alpn)
        stream = await connection.open_stream()
        await stream.write(request_bytes)
        await stream.finish()
        with pytest.raises(PeerError, match="protocol"):
            await stream.read_exactly(1)


async def test_a_forged_record_keeps_nobody_from_an_older_node(tmp_path: Path) -> None:
    """The attack: records that name an older holder's address and say that it speaks v1; no v0 follows a v1 in vain."""
    info, body = make_release(tmp_path)
    held = local_release(info, tmp_path / "release")
    async with open_server(held, alpn=NAMESPACE.alpn) as holder, open_endpoint() as endpoint:
        exchanges, got = Exchanges(endpoint, NAMESPACE, Shelf(UploadLimiter())), Kept()
        exchanges.census.note_v1(holder.address, speaks=False)  # its answer to our knock
        forged = Candidate(info, node(7).public, holder.address, "a slot", speaks_v1=True)
        assert await exchanges.fetch(forged, got) == info
        assert bytes(got) == body
