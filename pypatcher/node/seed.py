"""Offers signed files to the fleet without installing or running them: the command ``seed``.

A node's presence in the network without its updater. The sockets of a network belong to one namespace, so each target
has a network of its own. What is offered are the files that were given, whatever else is heard of; a newer release of
the owner's is reported, and not fetched.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Sequence

from pypatcher.errors import SettingError
from pypatcher.events import Emit, ReleaseFound, ReleaseOffered
from pypatcher.node.cache import Cache, Memory, cache_folder
from pypatcher.node.conflicts import Conflicts
from pypatcher.node.network import Network, open_network
from pypatcher.node.presence import NetworkPresence
from pypatcher.node.seedfile import SeedFile
from pypatcher.settings import Settings
from pypatcher.transfer import UploadLimiter
from pypatcher.transfer.exchanges import Exchanges
from pypatcher.transfer.shelf import Shelf
from pypatcher.version import Version

__all__ = ["seed_files", "settings_for"]

_LOOK_AT_FILE = 2.0
_SAVE_EVERY = 600.0


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
    return settings.replace(bind=bind, upload=max(1, settings.upload // count) if settings.upload else 0)


class _Seed:
    """The node of one file."""

    def __init__(self, file: SeedFile, network: Network, settings: Settings, cache: Cache, emit: Emit) -> None:
        self._file = file
        self._network = network
        self._cache = cache
        self._emit = emit
        self._newest = Version(0, 0, 0)
        self._conflicts = Conflicts(emit, newer=True)
        exchanges = Exchanges(network.endpoint, network.namespace, Shelf(UploadLimiter(settings.upload)), emit=emit)
        self._presence = NetworkPresence(network, settings, exchanges, emit, rng=random.Random())  # noqa: S311 - jitter

    async def run(self) -> None:
        """Offer the file until cancelled."""
        held = self._file.held
        parts = {
            "newer releases": self._watch_census,
            "file": self._watch_file,
            "cache": self._save_now_and_then,
        }
        try:
            async with self._presence.at_work("none" if held is None else str(held.info.version), "seed", parts):
                self._offer()
                await asyncio.Event().wait()
        finally:
            self._save()

    def _offer(self) -> None:
        """Serve and announce the file as it is now, or nothing while it may not be offered."""
        held = self._file.held
        if held is not None:
            self._newest = max(self._newest, held.info.version)
            self._emit(ReleaseOffered(str(held.info.version), str(held.path), self._network.namespace.name))
        self._presence.serve(() if held is None else (held,), is_unchanged=self._file.is_unchanged)

    async def _watch_census(self) -> None:
        """Look for others; what is newer than ours, and the owner signed it, is said once."""
        peers = self._presence.peers
        peers.want(())
        while True:
            news, heard = peers.census.news.next, peers.census.newest
            if self._file.held is not None:
                self._conflicts.look(self._file.held.info, peers.census)
            if heard is not None and heard.info.version > self._newest:
                self._newest = heard.info.version
                self._emit(ReleaseFound(str(heard.info.version), heard.node_id.hex(), heard.source))
            await news.wait()

    async def _watch_file(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AT_FILE)
            if await self._file.look(self._emit):
                self._offer()

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY)
            self._save()

    def _save(self) -> None:
        network = self._network
        self._cache.save(Memory(port=network.endpoint.addresses[0][1], dht_nodes=tuple(network.dht.nodes())))
