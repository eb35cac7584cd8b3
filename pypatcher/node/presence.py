"""A node's presence in the network: serves, announces and offers what it has, and watches its own addresses.

A device has an updater beside it; a seed has one of these per file. Made for one network, and only as long as that is
open. Not here: what is held (``install``, ``seedfile``), and every format and limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from pypatcher.addresses import Address, family, format_address, is_lan, is_literal
from pypatcher.events import Emit, NodeStarted, NodeStopped
from pypatcher.install import LocalRelease
from pypatcher.nat.address_hints import own_addresses
from pypatcher.nat.address_monitor import LOOK_EVERY, AddressMonitor, nat_kind
from pypatcher.node.dht_monitor import DhtMonitor
from pypatcher.node.network import Network
from pypatcher.node.peers import Parts, Peers, Role
from pypatcher.settings import Settings
from pypatcher.tasks import at_work
from pypatcher.transfer.exchanges import Exchanges
from pypatcher.transfer.gate import NOBODY, Taker

__all__ = ["NetworkPresence"]

_TASK_PAUSES = (1.0, 300.0)


class NetworkPresence:
    """One per network.

    Args:
        exchanges: how releases travel, and what is given to others.
        role: why it is there.
        known: addresses that were reached in an earlier run.

    Attributes:
        peers: the other nodes.
    """

    def __init__(
        self,
        network: Network,
        settings: Settings,
        exchanges: Exchanges,
        emit: Emit,
        *,
        rng: random.Random,
        known: Iterable[Address] = (),
        role: Role = Role.DEVICE,
    ) -> None:
        self.network = network
        self._settings = settings
        self._shelf = exchanges.shelf
        self._emit = emit
        self._local: tuple[Address, ...] = ()
        self._exchanges = exchanges
        self.peers = Peers(network, settings, emit, exchanges, rng=rng, known=known, role=role)

    def serve(self, held: Sequence[LocalRelease], *, is_unchanged: Callable[[], bool] | None = None) -> None:
        """Serve and announce the first of these files from now on; see ``Shelf.put``."""
        self._shelf.put(held, is_unchanged=is_unchanged)
        self.peers.announce(self._shelf.info, self._shelf.quiet)

    @contextlib.asynccontextmanager
    async def at_work(self, version: str, mode: str, parts: Parts, taker: Taker = NOBODY) -> AsyncIterator[None]:
        """Serve, announce and meet during the block, with more ``parts`` of the node beside; say so at both ends."""
        network = self.network
        self._exchanges.serve()
        self._local = own_addresses(network.endpoint.addresses, ())
        self._emit(
            NodeStarted(
                network.node_id,
                tuple(map(format_address, network.endpoint.addresses)),
                network.namespace.name,
                version,
                mode,
                tuple(map(format_address, network.own_addresses())),
                nat_kind(network.dht.port_varies),
            )
        )
        own: Parts = {"addresses": self._watch_addresses, "DHT": self._watch_dht}
        try:
            async with at_work({**own, **self.peers.parts(), **self.peers.meetings(taker), **parts}, _TASK_PAUSES):
                yield
        finally:
            self._emit(NodeStopped(network.node_id))

    async def _watch_addresses(self) -> None:
        monitor, network = AddressMonitor(), self.network
        while True:
            change = monitor.look(network.own_addresses(), network.dht.port_varies)
            if change is not None:
                self._emit(change.event)
                if change.has_new:
                    network.endpoint.address_changed()
            if monitor.must_tell(time.monotonic()):
                self._address_changed()
            await asyncio.sleep(LOOK_EVERY)

    def _address_changed(self) -> None:
        """Our address changed: announce it everywhere."""
        local = own_addresses(self.network.endpoint.addresses, ())
        if local != self._local:
            self._local = local
            self.network.dht.address_changed()
        self.peers.address_changed()

    async def _watch_dht(self) -> None:
        """Say whether anybody answers, unless there is nobody to ask by the owner's own choice."""
        entries, dht = self._settings.bootstrap, self.network.dht
        if not entries:
            return
        inside = all(is_literal(entry) and is_lan(entry) for entry in entries)  # a DHT of one's own
        monitor = DhtMonitor(time.monotonic(), only_family=self._only_family(), is_metered=self._settings.metered)
        while True:
            last = dht.last_answer if inside else dht.last_answer_from_outside
            event = monitor.look(last, time.monotonic())
            if event is not None:
                self._emit(event)
            await asyncio.sleep(monitor.pause)

    def _only_family(self) -> int | None:
        """Of the sockets, if one of the other family was wanted and could not be had."""
        had = {family(address) for address in self.network.endpoint.addresses}
        return None if len(had) == len(self._settings.bind) else min(had)
