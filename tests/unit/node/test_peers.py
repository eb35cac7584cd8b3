"""What a router of one family does to its mapping is nothing to the other family's."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from pypatcher.nat.portmap.mapper import PortMapping
from pypatcher.node.peers import Peers, keep_ports_open
from pypatcher.waiting import News
from tests.support.node_fakes import run_alone


class Mapper:
    """Runs until cancelled, or fails as often as is said here."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.starts = self.ends = 0

    async def run(self) -> None:
        self.starts += 1
        if self.starts <= self.failures:
            raise ValueError("a router said what nobody thought of")
        try:
            await asyncio.Event().wait()
        finally:
            self.ends += 1


def test_a_mapping_that_fails_is_tried_again_and_ends_no_other() -> None:
    ipv4, ipv6 = Mapper(failures=3), Mapper()

    async def body() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await keep_ports_open(cast("Any", [ipv4, ipv6]))

    run_alone(body())
    assert (ipv4.starts, ipv4.ends) == (4, 1)
    assert (ipv6.starts, ipv6.ends) == (1, 1)


def test_a_router_that_says_another_port_each_time_has_few_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also who answers in its name: everybody was told of each, and knocked at anew, 2,880 times a day."""
    announced = 0

    class Flapping:
        mapping = None
        news = News()

    def announce(_peers: Peers) -> None:
        nonlocal announced
        announced += 1

    async def body() -> None:
        loop, mapper = asyncio.get_running_loop(), cast("Any", Flapping())
        monkeypatch.setattr("pypatcher.node.peers.time.monotonic", loop.time)
        peers = object.__new__(Peers)
        peers._emit = lambda _event: None
        following = asyncio.create_task(peers._follow(mapper))
        for number in range(2880):
            mapper.mapping = PortMapping("NAT-PMP", ("93.184.7.7", number))
            mapper.news.tell()
            await asyncio.sleep(30.0)
        following.cancel()

    monkeypatch.setattr(Peers, "_announce_address", announce)
    run_alone(body())
    assert 200 < announced < 600
