"""The node of one program: its presence in the network and its updater, in one event loop that the caller owns.

It decides nothing about the program's process: it says what is staged, and the caller restarts. design.md "Where the
code lives" (``node/``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Callable
from dataclasses import replace

from pypatcher.artifact import PatchInfo
from pypatcher.budgets import UploadLimiter
from pypatcher.budgets.intake import Intake
from pypatcher.discovery import Namespace
from pypatcher.discovery.census import Census
from pypatcher.errors import PatcherError
from pypatcher.events import Emit, Event, PreflightFailed, TrialConfirmed
from pypatcher.install import LocalRelease
from pypatcher.install.layout import Layout
from pypatcher.keys import OwnerKey
from pypatcher.node.cache import Cache, Memory, cache_folder
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.node.conflicts import Conflicts
from pypatcher.node.device import NamespaceKind
from pypatcher.node.network import open_network
from pypatcher.node.presence import NetworkPresence
from pypatcher.node.report import REPORT_LIMIT, NodeReport, decode_report
from pypatcher.node.silence import notice_silence
from pypatcher.node.word import open_rule
from pypatcher.targets import Target
from pypatcher.transfer.exchanges import Exchanges
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.stall import DEFAULT_STALL
from pypatcher.update.rule import ANYTHING, NodeRule
from pypatcher.update.updater import Updater
from pypatcher.update.wanted import PastDownloads, Wanted
from pypatcher.update.word import OwnersWord
from pypatcher.waiting import wait_at_most

__all__ = ["Node", "namespace_for"]

_log = logging.getLogger("pypatcher")
_CONFIRM_AFTER = 300.0
_SAVE_EVERY = 600.0
_LOCK_RETRY = 60.0
_REPORT_PAUSE = 1.0
_UPTIME_PAUSE = 3600.0
"""Seconds of uptime that are counted at once: what a restart loses of them is small beside a day."""
_REMEMBERED_RELEASES = 64


class Node:
    """One program's part in the network, from ``run()`` until that is cancelled.

    Args:
        config: what people chose.
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
        self._target = program.target.name
        self._namespace = namespace = namespace_for(config.kind, program.target, program.owner)
        self._installation = program.installation
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._report = NodeReport(str(config.mode), is_metered=settings.metered)
        self._tell = emit
        self._conflicts = Conflicts(self._emit, newer=False)
        self._on_change = on_change
        self._rng = random.Random()  # noqa: S311 - jitter
        self._cache = Cache(cache_folder(settings.state, os.environ, namespace.name))
        self.intake = Intake(settings.download, settings.download_day)
        self._past = _PastDownloads(self, Memory())
        self._shelf = Shelf(UploadLimiter(settings.upload, day=settings.upload_day), self._may_be_announced)
        self._presence: NetworkPresence | None = None
        self._rule: NodeRule | None = None
        self._program_started = asyncio.Event()

    @property
    def word(self) -> OwnersWord | None:
        """The owner's word as this node keeps it; None where there is none: in the namespace ``rustpatcher``."""
        return None if self._rule is None else self._rule.word

    def _may_be_announced(self, info: PatchInfo) -> bool:
        return self._rule is None or self._rule.policy.may_be_announced(info)

    def note(self, event: Event) -> None:
        """Something happened to the program that its report should tell; in any thread."""
        if self._report.note(event):
            self._has_news()

    def _emit(self, event: Event) -> None:
        self.note(event)
        self._tell(event)

    def program_started(self) -> None:
        """Under ``run``: the program was started again. Its uptime begins, and its file may be another one."""
        self._program_started.set()

    async def run(self) -> None:
        """Be a node until cancelled.

        Raises:
            SettingError: a socket cannot be bound where the settings say.
        """
        self._loop = asyncio.get_running_loop()
        memory = await asyncio.to_thread(self._cache.load)
        self._past = _PastDownloads(self, memory)
        if self._config.kind != "rustpatcher":
            of = self._installation, self._namespace, self._target, self._past, self._settings
            self._rule = await asyncio.to_thread(open_rule, *of)
        async with open_network(self._namespace, self._settings, memory) as network:
            exchanges = Exchanges(
                network.endpoint,
                self._namespace,
                self._shelf,
                word=self.word,
                stall=replace(self._config.stall or DEFAULT_STALL, intake=self.intake),
                emit=self._emit,
            )
            presence = self._presence = NetworkPresence(
                network, self._settings, exchanges, self._emit, rng=self._rng, known=memory.good_peers
            )
            await self.serve()
            running = await asyncio.to_thread(self._installation.running_info)
            version = "none" if running.info is None else str(running.info.version)
            largest = self._settings.metered_size if self._settings.metered else None
            wanted = Wanted(self._installation, self._past, self._emit, self._rule or ANYTHING, largest=largest)
            updater = Updater(presence.peers, self._installation, wanted, self._settings, self._emit, rng=self._rng)
            parts = {
                "updater": lambda: self._update(updater),
                "cache": self._save_now_and_then,
                "confirmation": self._confirm,
                "owner's word": lambda: self._obey(presence.peers.census),
                "silence": lambda: notice_silence(
                    self._rule, presence.peers.census, self._report, self._conflicts, self._emit
                ),
                "looks": lambda: self._report_looks(presence.peers.census),
            }
            try:
                async with presence.at_work(version, str(self._config.mode), parts, updater):
                    await asyncio.Event().wait()
            finally:
                self.save()

    def say_failed(self, why: str) -> None:
        """It ended by a failure: say so, to ``pypatcher status`` too, unless another process is the updater."""
        self._emit(PreflightFailed(why))
        with contextlib.suppress(PatcherError, OSError), self._installation.updater_lock() as mine:
            if mine:
                self._write_report()

    async def serve(self) -> None:
        """Serve and announce the newest file that is here, and that the owner of our namespace signed."""
        if self._presence is not None:
            held = await asyncio.to_thread(self._installation.held) if self._settings.upload else ()
            own = [one for one in held if one.info.is_signed_by(self._namespace.owner)]
            self._presence.serve([one for one in own if self._is_of_use(one)])

    def _is_of_use(self, held: LocalRelease) -> bool:
        """Whether others may want it: the version before ours only where the owner names it."""
        manifest = None if self._rule is None else self._rule.policy.manifest
        is_stable = manifest is not None and held.info == manifest.terms.stable
        return held.path != self._installation.layout.path(Layout.previous) or is_stable

    async def _obey(self, census: Census) -> None:
        """Do what the owner's word says, now and whenever he says another."""
        word = self.word
        while word is not None:
            news = word.news.next
            self._conflicts.look_at_word(word.current, word.signed_twice)
            await self._arrange()
            await self.serve()
            census.news.tell()
            self._on_change()
            await news.wait()

    async def _arrange(self) -> None:
        if self._rule is not None:
            try:
                await self._rule.arrange()
            except (PatcherError, OSError) as error:
                _log.warning("the owner's word is not carried out yet: %s", error)

    async def _update(self, updater: Updater) -> None:
        """Fetch and stage for as long as we are the one process of this program that does."""
        said = False
        while True:
            with self._installation.updater_lock() as mine:
                if mine:
                    async with asyncio.TaskGroup() as tasks:
                        if not self._beside:
                            tasks.create_task(self._write_reports())
                            tasks.create_task(self._count_uptime())
                        await updater.run()
            if not said:
                _log.info("another process of %s looks for updates; this one does not", self._installation.program)
            said = True
            await asyncio.sleep(_LOCK_RETRY)

    async def _confirm(self) -> None:
        """End a trial after 5 minutes of the program's uptime; each start of the program begins them anew."""
        while True:
            self._program_started.clear()
            try:
                async with asyncio.timeout(_CONFIRM_AFTER):
                    await self._program_started.wait()
            except TimeoutError:
                if self._config.confirm_by_uptime and not self._beside and await self._may_time_confirm():
                    version = await asyncio.to_thread(self._installation.confirm)
                    if version is not None:
                        self._emit(TrialConfirmed(str(version), f"{_CONFIRM_AFTER:.0f} s of uptime"))
                        self._on_change()
                await self._program_started.wait()
            await self.serve()

    async def _may_time_confirm(self) -> bool:
        """Wait while the owner's word holds what runs; False when another program runs by then."""
        while self._rule is not None and not self._program_started.is_set():
            running = await asyncio.to_thread(self._installation.running_info)
            if running.info is None or self._rule.policy.may_be_confirmed_by_time(running.info):
                return True
            await wait_at_most(self._program_started, _LOCK_RETRY)
        return self._rule is None

    async def _count_uptime(self) -> None:
        """Hour by hour, let what failed its trial here in again once it waited long enough."""
        while True:
            await asyncio.sleep(_UPTIME_PAUSE)
            try:
                if not await asyncio.to_thread(self._installation.may_be_let_in):
                    continue
                version = await asyncio.to_thread(self._installation.count_uptime, int(_UPTIME_PAUSE))
            except (PatcherError, OSError) as error:
                _log.debug("what failed its trial stays refused: %s", error)
                continue
            if version is not None:
                _log.info("version %s failed its trial here, and gets another", version)
                self._past.unfit.clear()
                self.save()

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

    async def _report_looks(self, census: Census) -> None:
        """Have the report tell of each look for releases, and say what speaks against ours."""
        looks = answers = 0
        while True:
            news = census.news.next
            if census.answers != answers:
                answers = census.answers
                if self._report.answered():
                    self._news.set()
            if census.looks != looks:
                looks = census.looks
                running = await asyncio.to_thread(self._installation.running_info)
                self._report.looked(census.found_by_look, is_sound=running.id is not None)
                self._news.set()
            if self._shelf.info is not None:
                self._conflicts.look(self._shelf.info, census)
            await news.wait()

    def _write_report(self) -> None:
        try:
            self._report.follow(decode_report(self._installation.read_report(REPORT_LIMIT + 1)))
            self._installation.write_report(self._report.take())
        except (PatcherError, OSError) as error:
            _log.debug("no report for people beside the program: %s", error)

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY)
            self.save()

    def save(self) -> None:
        """Keep what a later run would like to know."""
        if self._presence is None:
            return
        network, past = self._presence.network, self._past
        self._cache.save(
            Memory(
                port=network.endpoint.addresses[0][1],
                dht_nodes=tuple(network.dht.nodes()),
                good_peers=tuple(past.budget.good),
                staged=dict(list(past.files.items())[-_REMEMBERED_RELEASES:]),
                unfit=dict(list(past.unfit.items())[-_REMEMBERED_RELEASES:]),
            )
        )

    async def staged(self, info: PatchInfo) -> None:
        """A release was staged: it is served to others at once, whatever the mode."""
        await self._arrange()
        await self.serve()
        # It may have taken over already: then it is the program itself.
        for held in await asyncio.to_thread(self._installation.held):
            if held.info == info:
                self._past.files[info.signature.hex()] = held.sha512.hex()
        self.save()
        self._on_change()


class _PastDownloads(PastDownloads):
    """Those of a node: kept over restarts."""

    def __init__(self, node: Node, memory: Memory) -> None:
        super().__init__(memory.staged, memory.unfit, intake=node.intake)
        self._node = node
        for peer in memory.good_peers:
            self.budget.succeeded(peer)

    def refuse(self, info: PatchInfo, reason: str) -> None:
        """Keep it at once."""
        super().refuse(info, reason)
        self._node.save()

    async def staged(self, info: PatchInfo) -> None:
        """Tell the node."""
        await self._node.staged(info)


def namespace_for(kind: NamespaceKind, target: Target, owner: OwnerKey) -> Namespace:
    """Ours for that target, or the Rust program's, which knows no targets."""
    return Namespace.rustpatcher(owner) if kind == "rustpatcher" else Namespace.ours(target.name, owner)
