"""The v0 exchange of one node: dials who has a release, serves who asks for ours.

Puts ``client`` and ``server`` behind ``Exchange``. Not here: the bytes (``wire``), and which release is wanted.
design.md "Transport and transfer".
"""

from __future__ import annotations

import asyncio
import logging

from pypatcher.addresses import Address, format_address, network_of
from pypatcher.artifact import PatchInfo
from pypatcher.discovery import Namespace
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import PatcherError, PeerError
from pypatcher.events import ClockDiffers, Emit, ReleaseServed
from pypatcher.transfer.client import fetch_from, fetch_release
from pypatcher.transfer.download import Fetch
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.server import serve_release
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.stall import DEFAULT_STALL, StallRule
from pypatcher.transport import CloseCode, Connection, Endpoint

__all__ = ["ExchangeV0"]

_log = logging.getLogger("pypatcher")


class ExchangeV0:
    """Every device speaks it.

    Args:
        stall: how slow a peer may be that gives us a release; None for the usual rule.
        emit: told of a peer that we fetched from whose clock is another one, and of who has all of our release.
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
        self.endpoint = endpoint
        self.namespace = namespace
        self.shelf = shelf
        self._stall = stall or DEFAULT_STALL
        self._emit = emit

    @property
    def alpn(self) -> str:
        """The namespace's."""
        return self.namespace.alpn

    def suits(self, candidate: Candidate) -> bool:
        """Always."""
        return True

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        """Dial and fetch.

        Anyone may write anyone's address into a record, so what answers there need not be the node that was heard; the
        release that it sends is the announced one, or nothing.

        Raises:
            PeerError, ArtifactError: the peer did not deliver what it announced.
            OSError: whatever ``sink`` raises.
        """
        fetched = await fetch_from(
            self.endpoint,
            candidate.address,
            sink,
            node_id=None,
            alpn=self.alpn,
            owner=self.namespace.owner,
            expect=candidate.info,
            stall=self._stall,
        )
        self._note_clock(candidate.address, fetched.minutes_ahead)
        return fetched.info

    def over(self, connection: Connection) -> Fetch:
        """A fetch over a connection that the peer dialed."""

        async def fetch(candidate: Candidate, sink: Sink) -> PatchInfo:
            fetched = await fetch_release(
                connection, sink, owner=self.namespace.owner, expect=candidate.info, stall=self._stall
            )
            self._note_clock(connection.peer_address, fetched.minutes_ahead)
            return fetched.info

        return fetch

    async def answer(self, connection: Connection) -> None:
        """Serve one connection."""
        await self.give(connection)

    async def give(self, connection: Connection, begun: asyncio.Event | None = None) -> bool:
        """Serve one connection and set ``begun`` when an upload begins; whether its peer has all of the release now."""
        try:
            served = await serve_release(connection, self.shelf, owner=self.namespace.owner, begun=begun)
        except (PatcherError, OSError) as error:
            _log.debug("an upload to %s ended: %s", connection.peer_address[0], error)
            connection.close(CloseCode.PROTOCOL if isinstance(error, PeerError) else CloseCode.UNAVAILABLE)
            return False
        if served is None:
            return False
        info, seconds = served
        if self.shelf.is_news(info, connection.peer_address):
            network = network_of(connection.peer_address)
            self._emit(ReleaseServed(str(info.version), network, info.file_size, round(seconds, 3)))
        return True

    def _note_clock(self, peer: Address, minutes_ahead: int) -> None:
        if abs(minutes_ahead) > 1:
            self._emit(ClockDiffers(format_address(peer), minutes_ahead))
