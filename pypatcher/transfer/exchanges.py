"""The transfer protocols that a node speaks, and which one it dials with: a new one is a line here, nothing more."""

from __future__ import annotations

from collections.abc import Sequence

from pypatcher.artifact import PatchInfo
from pypatcher.discovery import Namespace
from pypatcher.discovery.candidates import Candidate
from pypatcher.events import Emit
from pypatcher.transfer.exchange import Exchange, Sink
from pypatcher.transfer.exchange_v0 import ExchangeV0
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.stall import StallRule
from pypatcher.transport import Endpoint

__all__ = ["Exchanges"]


class Exchanges:
    """The protocols of one node.

    Args:
        shelf: what is given to others.
        stall: how slow a peer may be that gives us a release; None for the usual rule.
        emit: told of a peer that we fetched from whose clock is another one.

    Attributes:
        v0: the one that offers lead to.
        spoken: all of them, the best first; the last suits everybody.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        namespace: Namespace,
        shelf: Shelf,
        *,
        stall: StallRule | None = None,
        emit: Emit = lambda _: None,
    ) -> None:
        self._endpoint = endpoint
        self.v0 = ExchangeV0(endpoint, namespace, shelf, stall=stall, emit=emit)
        self.spoken: Sequence[Exchange] = (self.v0,)

    def serve(self) -> None:
        """Answer who dials us with any of them, for as long as the endpoint is open."""
        for exchange in self.spoken:
            self._endpoint.serve(exchange.alpn, exchange.answer)

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        """Fetch by the best one that suits a candidate; see ``Fetch``."""
        exchange = next(each for each in self.spoken if each.suits(candidate))
        return await exchange.fetch(candidate, sink)
