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

from pypatcher.budgets import UploadLimiter
from pypatcher.errors import ManifestError, SettingError
from pypatcher.events import Emit, ReleaseFound, ReleaseOffered, ReleaseWithheld
from pypatcher.node.cache import Cache, Memory, cache_folder
from pypatcher.node.conflicts import Conflicts
from pypatcher.node.network import Network, open_network
from pypatcher.node.peers import Role
from pypatcher.node.presence import NetworkPresence
from pypatcher.node.seed_word import SeedWord
from pypatcher.node.seedfile import SeedFile
from pypatcher.settings import Settings
from pypatcher.tasks import run_once_more, together
from pypatcher.transfer.exchanges import Exchanges
from pypatcher.transfer.shelf import Shelf
from pypatcher.version import Version

__all__ = ["seed_files", "settings_for"]

_LOOK_AT_FILE = 2.0
_PAUSE = 1.0
_SAVE_EVERY = 600.0


async def seed_files(
    files: Sequence[SeedFile], settings: Settings, emit: Emit, *, without_manifest: bool = False
) -> None:
    """Offer verified files, each to its namespace, until cancelled; what fails once at the start is tried once more.

    Args:
        without_manifest: a file without its own manifest is offered though one of the owner's is known.

    Raises:
        SettingError: a socket cannot be bound where the settings say; nothing was announced.
        ManifestError: a file's manifest is none, or it has none and needs one; nothing was announced.
    """
    await run_once_more(lambda: _offer(files, settings, emit, without_manifest), _PAUSE)


async def _offer(files: Sequence[SeedFile], settings: Settings, emit: Emit, without_manifest: bool) -> None:
    words = [await asyncio.to_thread(_word, file, settings, without_manifest) for file in files]
    async with contextlib.AsyncExitStack() as networks:
        seeds = []
        for number, (file, word) in enumerate(zip(files, words, strict=True)):
            own = settings_for(settings, number, len(files))
            # Not the cache of a device of that namespace on this machine: two would seek the same port.
            cache = Cache(cache_folder(settings.state, os.environ, f"{file.namespace.name}-seed"))
            memory = await asyncio.to_thread(cache.load)
            network = await networks.enter_async_context(open_network(file.namespace, own, memory))
            seeds.append(_Seed(word, network, own, cache, emit))
        await together(*(seed.run() for seed in seeds))


def _word(file: SeedFile, settings: Settings, without_manifest: bool) -> SeedWord:
    word = SeedWord(file, settings, without_manifest=without_manifest)
    word.hear_beside()
    return word


def settings_for(settings: Settings, number: int, count: int) -> Settings:
    """What one of several networks takes of the settings: its share of the upload limits, and ports of its own.

    Raises:
        SettingError: there are not that many ports.
    """
    bind = tuple((host, port + number if port else 0) for host, port in settings.bind)
    if any(port > 65535 for _, port in bind):
        raise SettingError(f"bind (PYPATCHER_BIND): {count} files take {count} ports, from the one given upwards")
    upload = max(1, settings.upload // count) if settings.upload else 0
    day = None if settings.upload_day is None else max(1, settings.upload_day // count)
    return settings.replace(bind=bind, upload=upload, upload_day=day)


class _Seed:
    """The node of one file."""

    def __init__(self, word: SeedWord, network: Network, settings: Settings, cache: Cache, emit: Emit) -> None:
        self._file = word.file
        self._word = word
        self._network = network
        self._cache = cache
        self._emit = emit
        self._newest = Version(0, 0, 0)
        self._conflicts = Conflicts(emit, newer=True)
        shelf = Shelf(UploadLimiter(settings.upload, day=settings.upload_day), word.may_be_announced)
        exchanges = Exchanges(network.endpoint, network.namespace, shelf, word=word.word, emit=emit)
        rng = random.Random()  # noqa: S311 - jitter
        self._presence = NetworkPresence(network, settings, exchanges, emit, rng=rng, role=Role.SEED)

    async def run(self) -> None:
        """Offer the file until cancelled."""
        held = self._file.held
        parts = {
            "newer releases": self._watch_census,
            "file": self._watch_file,
            "owner's word": self._watch_word,
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
            name = self._network.namespace.name
            self._emit(ReleaseOffered(str(held.info.version), str(held.path), name, self._word.says))
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
                try:
                    await asyncio.to_thread(self._word.hear_beside)
                except ManifestError as error:
                    self._emit(ReleaseWithheld(str(self._file.path), str(error)))
                    self._presence.serve(())
                else:
                    self._offer()

    async def _watch_word(self) -> None:
        """Offer the file anew, to all or by v1 alone, whenever the owner says something else."""
        word = self._word.word
        while word is not None:
            news = word.news.next
            self._conflicts.look_at_word(word.current, word.signed_twice)
            await asyncio.to_thread(self._word.keep_beside)
            await news.wait()
            self._offer()

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY)
            self._save()

    def _save(self) -> None:
        network = self._network
        self._cache.save(Memory(port=network.endpoint.addresses[0][1], dht_nodes=tuple(network.dht.nodes())))
