"""The node of one program: publisher, distributor and updater at work in one event loop that the caller owns.

It decides nothing about the program's process: it says what is staged, and the caller restarts. design.md "Where the
code lives" (``node/``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import Callable

from pypatcher.addresses import Address, format_address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery import Namespace
from pypatcher.discovery.candidates import Candidates
from pypatcher.errors import PatcherError
from pypatcher.events import ClockDiffers, Emit, Event, TrialConfirmed
from pypatcher.keys import OwnerKey
from pypatcher.node.cache import Cache, Memory, cache_folder
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.node.device import Kind
from pypatcher.node.network import Network, open_network
from pypatcher.node.report import NodeReport
from pypatcher.node.seeder import Station
from pypatcher.node.wiring import network_updater
from pypatcher.targets import Target
from pypatcher.transfer import UploadLimiter
from pypatcher.transfer.peer_budget import FetchBudget
from pypatcher.transfer.uploader import Distributor
from pypatcher.update.updater import Known, Updater
from pypatcher.waiting import wait_at_most

__all__ = ["Node", "namespace_for"]

_log = logging.getLogger("pypatcher")
_CONFIRM_AFTER = 300.0
_SAVE_EVERY = 600.0
_LOCK_RETRY = 60.0
_REPORT_PAUSE = 1.0
_REMEMBERED_RELEASES = 64


class Node:
    """One program's part in the network, from ``run()`` until that is cancelled.

    Args:
        config: what it is to be.
        program: what it updates; ``settle`` was called on its installation.
        on_change: told in the node's loop when a release was staged or a trial ended.
        beside: it looks into a second namespace of the program's; another one confirms and reports.
    """

    def __init__(
        self,
        config: NodeConfig,
        program: NodeProgram,
        emit: Emit,
        on_change: Callable[[], None] = lambda: None,
        *,
        beside: bool = False,
    ) -> None:
        self._config = config
        self._beside = beside
        self._settings = settings = config.settings
        self._namespace = namespace = namespace_for(config.kind, program.target, program.owner)
        self._installation = program.installation
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._report = NodeReport(str(config.mode), on_news=self._has_news)
        self._emit = self._report.listening(emit)
        self._on_change = on_change
        self._rng = random.Random()  # noqa: S311 - jitter
        self._cache = Cache(cache_folder(settings.state, os.environ, namespace.name))
        self._memory = Memory()
        self._staged_here: dict[str, str] = {}
        self._unfit: dict[str, str] = {}
        self._budget = FetchBudget()
        self._candidates = Candidates()
        self._distributor = Distributor(namespace.owner, UploadLimiter(settings.upload), now=time.time)
        self._updater: Updater | None = None
        self._program_started = asyncio.Event()

    def note(self, event: Event) -> None:
        """Something happened to the program that its report should tell; in any thread."""
        self._report.note(event)

    def program_started(self) -> None:
        """Under ``run``: the program was started again. Its uptime begins, and its file may be another one."""
        self._program_started.set()

    async def run(self) -> None:
        """Be a node until cancelled.

        Raises:
            SettingError: a socket cannot be bound where the settings say.
        """
        self._loop = asyncio.get_running_loop()
        self._memory = await asyncio.to_thread(self._cache.load)
        self._staged_here, self._unfit = dict(self._memory.staged), dict(self._memory.unfit)
        for peer in self._memory.good_peers:
            self._budget.succeeded(peer)
        async with open_network(
            self._namespace,
            self._settings,
            self._memory,
            stall=self._config.stall,
            on_minutes_ahead=self._clock_differs,
        ) as network:
            station = Station(
                network,
                self._settings,
                self._distributor,
                self._candidates,
                emit=self._emit,
                rng=self._rng,
                known=self._memory.good_peers,
                moved=self._moved,
            )
            await self._hold(station)
            running = await asyncio.to_thread(self._installation.running_info)
            version = "none" if running.info is None else str(running.info.version)
            parts = {
                "updater": lambda: self._update(station),
                "cache": lambda: self._save_now_and_then(network),
                "confirmation": lambda: self._confirm(station),
            }
            try:
                async with station.at_work(version, str(self._config.mode), parts):
                    await asyncio.Event().wait()
            finally:
                self._save(network)

    async def _hold(self, station: Station) -> None:
        """Serve and announce the newest file that is here, and that the owner of our namespace signed."""
        held = await asyncio.to_thread(self._installation.held) if self._settings.upload else ()
        station.hold([one for one in held if one.info.is_signed_by(self._namespace.owner)])

    def _clock_differs(self, peer: Address, minutes: int) -> None:
        if abs(minutes) > 1:
            self._emit(ClockDiffers(format_address(peer), minutes))

    def _moved(self) -> None:
        if self._updater is not None:
            self._updater.moved()

    async def _update(self, station: Station) -> None:
        """Fetch and stage for as long as we are the one process of this program that does."""
        network, fleet = station.network, station.fleet

        async def staged(info: PatchInfo) -> None:
            await self._hold(station)
            # It may have taken over already: then it is the program itself.
            for held in await asyncio.to_thread(self._installation.held):
                if held.info == info:
                    self._staged_here[info.signature.hex()] = held.sha512.hex()
            self._save(network)
            self._on_change()

        updater = self._updater = network_updater(
            network,
            fleet,
            self._candidates,
            self._installation,
            self._settings,
            emit=self._emit,
            budget=self._budget,
            on_staged=staged,
            rng=self._rng,
            known=Known(self._staged_here, self._unfit, lambda: self._save(network)),
            on_look=self._report.looked,
        )
        said = False
        while True:
            with self._installation.updater_lock() as mine:
                if mine:
                    if fleet is not None:
                        fleet.updated_by(updater)
                    async with asyncio.TaskGroup() as tasks:
                        if not self._beside:
                            tasks.create_task(self._write_reports())
                        await updater.run()
            if not said:
                _log.info("another process of %s looks for updates; this one does not", self._installation.program)
            said = True
            await asyncio.sleep(_LOCK_RETRY)

    async def _confirm(self, station: Station) -> None:
        """End a trial after 5 minutes of the program's uptime; each start of the program begins them anew."""
        while True:
            self._program_started.clear()
            try:
                async with asyncio.timeout(_CONFIRM_AFTER):
                    await self._program_started.wait()
            except TimeoutError:
                if self._config.confirm_by_uptime and not self._beside:
                    version = await asyncio.to_thread(self._installation.confirm)
                    if version is not None:
                        self._emit(TrialConfirmed(str(version), f"{_CONFIRM_AFTER:.0f} s of uptime"))
                        self._on_change()
                await self._program_started.wait()
            await self._hold(station)

    async def _write_reports(self) -> None:
        """Keep what ``pypatcher status`` tells beside the program, for as long as we are its updater."""
        try:
            while True:
                self._news.clear()
                await wait_at_most(self._news, self._report.seconds_until_due())
                await asyncio.to_thread(self._write_report)
                await asyncio.sleep(_REPORT_PAUSE)
        finally:
            self._write_report()

    def _has_news(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._news.set)

    def _write_report(self) -> None:
        try:
            self._installation.write_report(self._report.take())
        except (PatcherError, OSError) as error:
            _log.debug("no report for people beside the program: %s", error)

    async def _save_now_and_then(self, network: Network) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY)
            self._save(network)

    def _save(self, network: Network) -> None:
        self._cache.save(
            Memory(
                port=network.endpoint.addresses[0][1],
                dht_nodes=tuple(network.dht.nodes()),
                good_peers=tuple(self._budget.good),
                staged=dict(list(self._staged_here.items())[-_REMEMBERED_RELEASES:]),
                unfit=dict(list(self._unfit.items())[-_REMEMBERED_RELEASES:]),
            )
        )


def namespace_for(kind: Kind, target: Target, owner: OwnerKey) -> Namespace:
    """Ours for that target, or the Rust program's, which knows no targets."""
    return Namespace.rustpatcher(owner) if kind == "rustpatcher" else Namespace.ours(target.name, owner)
