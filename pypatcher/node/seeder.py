"""A node's standing part: what it has is served, announced and offered, and where it is is watched.

A device has an updater beside it, a seed a file. Made for one network and as long as that is open.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from pypatcher.addresses import Address, format_address, is_lan, is_literal
from pypatcher.discovery.candidates import Candidates
from pypatcher.discovery.publisher import Publisher
from pypatcher.events import Emit, NodeStarted, NodeStopped
from pypatcher.install import LocalRelease
from pypatcher.nat.address_hints import own_addresses
from pypatcher.nat.address_monitor import Whereabouts, nat_kind
from pypatcher.node.dht_monitor import Reach
from pypatcher.node.network import Network
from pypatcher.node.peers import Fleet
from pypatcher.node.wiring import keep_port_open
from pypatcher.settings import Settings
from pypatcher.tasks import at_work
from pypatcher.transfer.uploader import Distributor

__all__ = ["Station"]

_TASK_PAUSES = (1.0, 300.0)


class Station:
    """One a network.

    Args:
        candidates: where those go who were met and have something newer.
        known: addresses that were reached in an earlier run.
        moved: called when others reach us somewhere else, before that is announced.

    Attributes:
        fleet: None where the namespace knows no meetings.
    """

    def __init__(
        self,
        network: Network,
        settings: Settings,
        distributor: Distributor,
        candidates: Candidates,
        *,
        emit: Emit,
        rng: random.Random,
        known: Iterable[Address] = (),
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.network = network
        self._settings = settings
        self._distributor = distributor
        self._emit = emit
        self._on_moved = moved
        self._local: tuple[Address, ...] = ()
        self._publisher = Publisher(network.publish, interval=settings.publish_interval, emit=emit, rng=rng)
        self.fleet: Fleet | None = None
        if network.namespace.offer_alpn is not None:
            self.fleet = Fleet(
                network,
                network.namespace.offer_alpn,
                settings,
                served=distributor,
                candidates=candidates,
                known=known,
                rng=rng,
            )

    def hold(self, held: Sequence[LocalRelease], *, is_unchanged: Callable[[], bool] | None = None) -> None:
        """Serve and announce the first of these files from now on; see ``Distributor.hold``."""
        self._distributor.hold(held, is_unchanged=is_unchanged)
        self._announce()

    @contextlib.asynccontextmanager
    async def at_work(
        self, version: str, mode: str, parts: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]
    ) -> AsyncIterator[None]:
        """Serve, announce and meet during the block, with more ``parts`` of the node beside; say so at both ends."""
        network = self.network
        network.endpoint.serve(network.namespace.alpn, self._distributor.answer)
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
        whereabouts = Whereabouts(
            network.own_addresses, lambda: network.dht.port_varies, emit=self._emit, moved=self._moved
        )
        own = {
            "publisher": self._publisher.run,
            "whereabouts": whereabouts.run,
            "reach": self._watch_dht,
            "port mapping": lambda: keep_port_open(network, self.fleet, self._settings, self._emit),
        }
        if self.fleet is not None:
            own["fleet"] = self.fleet.run
        try:
            async with at_work({**own, **parts}, _TASK_PAUSES):
                yield
        finally:
            self._emit(NodeStopped(network.node_id))

    def _announce(self) -> None:
        self._publisher.announce(self._distributor.info)
        if self.fleet is not None:
            self.fleet.hold(self._distributor.info)

    def _moved(self) -> None:
        """Others reach us somewhere else: say so everywhere."""
        self.network.endpoint.moved()
        self._on_moved()
        local = own_addresses(self.network.endpoint.addresses, ())
        if local != self._local:
            self._local = local
            self.network.dht.moved()
        self._announce()
        if self.fleet is not None:
            self.fleet.moved()

    async def _watch_dht(self) -> None:
        """Say whether anybody answers, unless there is nobody to ask by the owner's own choice."""
        entries, dht = self._settings.bootstrap, self.network.dht
        if not entries:
            return
        inside = all(is_literal(entry) and is_lan(entry) for entry in entries)  # a DHT of one's own
        await Reach(
            lambda: dht.last_answer if inside else dht.last_answer_from_outside,
            emit=self._emit,
            clock=time.monotonic,
        ).run()
