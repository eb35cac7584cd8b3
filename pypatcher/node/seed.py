"""Signed releases, offered to the fleet by somebody who neither installs nor runs them: the command ``seed``.

A node's publisher, distributor and fleet without its updater. The sockets of a network belong to one namespace, so
each target has a network of its own. What is offered are the files that were given, whatever else is heard of; a
newer release of the owner's is only said.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence

from pypatcher.addresses import Address, format_address
from pypatcher.errors import SettingError
from pypatcher.events import Emit, NodeStarted, NodeStopped, ReleaseFound, ReleaseOffered
from pypatcher.node.cache import Cache, Memory, cache_folder
from pypatcher.node.candidates import Candidate, Candidates
from pypatcher.node.distributor import Distributor
from pypatcher.node.fleet import Fleet
from pypatcher.node.hints import own_addresses
from pypatcher.node.listening import at_work, keep_looking
from pypatcher.node.network import Network, open_network
from pypatcher.node.publisher import Publisher
from pypatcher.node.reach import Reach
from pypatcher.node.seedfile import SeedFile
from pypatcher.node.seeking import keep_port_open
from pypatcher.node.settings import Settings
from pypatcher.node.whereabouts import Whereabouts, nat_kind
from pypatcher.transport import UploadLimiter
from pypatcher.version import Version

__all__ = ["seed_files", "settings_for"]

_LOOK_AT_FILE = 2.0
_SAVE_EVERY = 600.0
_TASK_PAUSES = (1.0, 300.0)


async def seed_files(files: Sequence[SeedFile], settings: Settings, emit: Emit) -> None:
    """Offer verified files, each to its namespace, until cancelled.

    Raises:
        SettingError: a socket cannot be bound where the settings say; nothing was announced.
    """
    async with contextlib.AsyncExitStack() as networks:
        seeds = []
        for number, file in enumerate(files):
            own = settings_for(settings, number, len(files))
            # Not the cache of a device of that namespace on this machine: two would seek the same port.
            cache = Cache(cache_folder(settings.state, os.environ, f"{file.namespace.name}-seed"))
            memory = await asyncio.to_thread(cache.load)
            network = await networks.enter_async_context(open_network(file.namespace, own, memory))
            seeds.append(_Seed(file, network, own, cache, emit))
        async with asyncio.TaskGroup() as tasks:
            for seed in seeds:
                tasks.create_task(seed.run())


def settings_for(settings: Settings, number: int, count: int) -> Settings:
    """What one of several networks takes of the settings: its share of the upload limit, and ports of its own.

    Raises:
        SettingError: there are not that many ports.
    """
    bind = tuple((host, port + number if port else 0) for host, port in settings.bind)
    if any(port > 65535 for _, port in bind):
        raise SettingError(f"bind (PYPATCHER_BIND): {count} files take {count} ports, from the one given upwards")
    return settings.replace(bind=bind, upload=max(1, settings.upload // count))


class _Seed:
    """The node of one file."""

    def __init__(self, file: SeedFile, network: Network, settings: Settings, cache: Cache, emit: Emit) -> None:
        self._file = file
        self._network = network
        self._settings = settings
        self._cache = cache
        self._emit = emit
        self._rng = random.Random()  # noqa: S311 - jitter
        self._newest = Version(0, 0, 0)
        self._local: tuple[Address, ...] = ()
        self._candidates = _Listening(self._told)
        self._distributor = Distributor(network.namespace.owner, UploadLimiter(settings.upload), now=time.time)
        self._publisher = Publisher(network.publish, interval=settings.publish_interval, emit=emit, rng=self._rng)
        self._fleet: Fleet | None = None
        if network.namespace.offer_alpn is not None:
            self._fleet = Fleet(
                network,
                network.namespace.offer_alpn,
                settings,
                served=self._distributor,
                candidates=self._candidates,
                known=(),
                rng=self._rng,
            )

    async def run(self) -> None:
        """Offer the file until cancelled."""
        network, fleet, settings = self._network, self._fleet, self._settings
        whereabouts = Whereabouts(
            network.own_addresses, lambda: network.dht.port_varies, emit=self._emit, moved=self._moved
        )
        parts = {
            "publisher": self._publisher.run,
            "look": lambda: keep_looking(network, fleet, self._candidates, settings, self._rng),
            "file": self._watch_file,
            "whereabouts": whereabouts.run,
            "reach": self._watch_dht,
            "port mapping": lambda: keep_port_open(network, fleet, settings, self._emit),
            "cache": self._save_now_and_then,
        }
        if fleet is not None:
            parts["fleet"] = fleet.run
        self._start()
        try:
            async with at_work(parts, _TASK_PAUSES):
                await asyncio.Event().wait()
        finally:
            self._save()
            self._emit(NodeStopped(network.node_id))

    def _start(self) -> None:
        network = self._network
        self._local = own_addresses(network.endpoint.addresses, ())
        network.endpoint.serve(network.namespace.alpn, self._distributor.answer)
        self._emit(
            NodeStarted(
                network.node_id,
                tuple(map(format_address, network.endpoint.addresses)),
                network.namespace.name,
                "none" if self._file.held is None else str(self._file.held.info.version),
                "seed",
                tuple(map(format_address, network.own_addresses())),
                nat_kind(network.dht.port_varies),
            )
        )
        self._offer()

    def _offer(self) -> None:
        """Serve and announce the file as it is now, or nothing while it may not be offered."""
        held = self._file.held
        self._distributor.hold(() if held is None else (held,), is_unchanged=self._file.is_unchanged)
        if held is not None:
            self._newest = max(self._newest, held.info.version)
            self._emit(ReleaseOffered(str(held.info.version), str(held.path), self._network.namespace.name))
        self._announce()

    def _announce(self) -> None:
        self._publisher.announce(self._distributor.info)
        if self._fleet is not None:
            self._fleet.hold(self._distributor.info)

    def _told(self, heard: Candidate) -> None:
        """The owner signed what was heard of; it is said once if it is newer."""
        if heard.info.version > self._newest:
            self._newest = heard.info.version
            self._emit(ReleaseFound(str(heard.info.version), heard.node_id.hex(), heard.source))

    def _moved(self) -> None:
        """Others reach us somewhere else: say so everywhere."""
        self._network.endpoint.moved()
        local = own_addresses(self._network.endpoint.addresses, ())
        if local != self._local:
            self._local = local
            self._network.dht.moved()
        self._announce()
        if self._fleet is not None:
            self._fleet.moved()

    async def _watch_file(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AT_FILE)
            if await self._file.look(self._emit):
                self._offer()

    async def _watch_dht(self) -> None:
        """Say whether anybody answers, unless there is nobody to ask by the owner's own choice."""
        if self._settings.bootstrap:
            await Reach(lambda: self._network.dht.last_answer, emit=self._emit, clock=time.monotonic).run()

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY)
            self._save()

    def _save(self) -> None:
        network = self._network
        self._cache.save(Memory(port=network.endpoint.addresses[0][1], dht_nodes=tuple(network.dht.nodes())))


class _Listening(Candidates):
    """Tells of all who are heard."""

    def __init__(self, told: Callable[[Candidate], None]) -> None:
        super().__init__()
        self._told = told

    def add(self, candidates: Iterable[Candidate], now: float) -> None:
        """Hear of them."""
        heard = list(candidates)
        super().add(heard, now)
        for each in heard:
            self._told(each)
