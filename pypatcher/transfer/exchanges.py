"""The transfer protocols that a node speaks, and which one it dials with: a new one is a line here, nothing more."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pypatcher.artifact import PatchInfo
from pypatcher.discovery import Namespace
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.census import Census
from pypatcher.discovery.word import WordKeeper
from pypatcher.events import Emit
from pypatcher.transfer.exchange import Exchange, Sink
from pypatcher.transfer.exchange_v0 import ExchangeV0
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.stall import StallRule
from pypatcher.transfer.v1.exchange import ExchangeV1
from pypatcher.transport import Endpoint

__all__ = ["Exchanges"]


class Exchanges:
    """The protocols of one node.

    Args:
        shelf: what is given to others.
        word: who keeps the owner's word, which is handed on; None where nobody does.
        stall: how slow a peer may be that gives us a release; None for the usual rule.
        emit: told of a peer that we fetched from whose clock is another one.

    Attributes:
        v0: the one that offers lead to.
        v1: one connection both ways; None in a namespace that has none.
        shelf: what is given to others.
        word: who keeps the owner's word; None where nobody does.
        census: who is there, and who is known to speak v1.
        spoken: all of them, the best first; the last suits everybody.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        namespace: Namespace,
        shelf: Shelf,
        *,
        word: WordKeeper | None = None,
        stall: StallRule | None = None,
        emit: Emit = lambda _: None,
    ) -> None:
        self._endpoint = endpoint
        self.shelf = shelf
        self.word = word
        self.census = census = Census(time.monotonic)
        self.v0 = ExchangeV0(endpoint, namespace, shelf, stall=stall, emit=emit)
        self.v1: ExchangeV1 | None = None
        if namespace.alpn_v1 is not None:
            self.v1 = ExchangeV1(endpoint, namespace, shelf, census, word=word, stall=stall, emit=emit)
        self.spoken: Sequence[Exchange] = (self.v0,) if self.v1 is None else (self.v1, self.v0)

    def serve(self) -> None:
        """Answer who dials us with any of them, for as long as the endpoint is open."""
        for exchange in self.spoken:
            self._endpoint.serve(exchange.alpn, exchange.answer)

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        """Fetch by the best one that suits a candidate; see ``Fetch``."""
        exchange = next(each for each in self.spoken if each.suits(candidate))
        return await exchange.fetch(candidate, sink)

    def may_help(self, candidate: Candidate) -> bool:
        """Whether its release is being fetched in such a way that this one can give parts of it, too."""
        return self.v1 is not None and self.v1.swarms.is_fetching(candidate.info) and self.v1.suits(candidate)

    def make_place(self, info: PatchInfo) -> None:
        """Of those that give parts of what is being fetched, the slowest is asked no more."""
        if self.v1 is not None:
            self.v1.swarms.drop_slowest(info)

    async def help(self, candidate: Candidate) -> None:
        """Take parts of what is being fetched from one more peer.

        Raises:
            PeerError: it cannot be reached; how it went from there on is told to the fetch's sink.
        """
        if self.v1 is not None:
            await self.v1.help(candidate)
