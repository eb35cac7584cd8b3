"""An updater on virtual time, peers that answer as told, and what became of it all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate, Candidates
from pypatcher.errors import PeerError
from pypatcher.install.layout import Layout
from pypatcher.settings import Settings
from pypatcher.transfer.peer_budget import FetchBudget
from pypatcher.update.updater import Known, Updater, Ways
from tests.support.discovery import node, release
from tests.support.node_fakes import EventLog, FakeInstallation

__all__ = ["NEW", "NEWER", "SIZE", "UpdaterWorld"]

NEW, NEWER = release("2.0.0"), release("3.0.0")
SIZE = NEW.file_size


class UpdaterWorld:
    """An updater, peers that answer as told, and what became of it all."""

    def __init__(self, folder: Path) -> None:
        self.installation = FakeInstallation(Layout(folder / "app"))
        self.heard = EventLog()
        self.known_files: dict[str, str] = {}
        self.unfit: dict[str, str] = {}
        self.peers: dict[str, Exception | None] = {}
        self.releases: dict[str, PatchInfo] = {}
        self.asked: list[tuple[float, str]] = []
        self.looks: list[float] = []
        self.staged: list[PatchInfo] = []
        self.budget = FetchBudget()
        self.look_errors = 0
        self.sends = SIZE
        self.sends_before_errors = False
        self.takes = 0.01
        self.rates: dict[str, float] = {}
        self.ways: Ways | None = None
        self.seed = 1
        self.moves_while_asked = False

    def peer(self, host: str, answer: Exception | None = None, info: PatchInfo = NEW) -> None:
        """A peer that gives its release, or raises."""
        self.peers[host] = answer
        self.releases[host] = info

    async def run(
        self,
        seconds: float,
        settings: Settings | None = None,
        beside: Callable[[Updater], Coroutine[None, None, None]] | None = None,
    ) -> UpdaterWorld:
        """Run the updater for some virtual seconds, and ``beside`` next to it."""
        clock = asyncio.get_running_loop().time
        candidates = Candidates()

        async def look() -> None:
            self.looks.append(clock())
            candidates.add(
                [Candidate(info, node(1).public, (host, 1), "a test") for host, info in self.releases.items()], clock()
            )

        async def fetch(
            candidate: Candidate, write: Callable[[bytes], None], progress: Callable[[int], None]
        ) -> PatchInfo:
            host = candidate.address[0]
            self.asked.append((clock(), host))
            await asyncio.sleep(self.takes)
            if (rate := self.rates.get(host)) is not None:
                for second in range(int(SIZE / rate)):
                    await asyncio.sleep(1.0)
                    progress(int(second * rate))
            error = self.peers[host]
            if self.moves_while_asked:
                updater.moved()
            if isinstance(error, PeerError) and not self.sends_before_errors:
                raise error
            write(bytes(self.sends))
            progress(self.sends)
            if error is not None:
                raise error
            return candidate.info

        async def on_staged(info: PatchInfo) -> None:
            self.staged.append(info)

        updater = Updater(
            look=look,
            fetch=fetch,
            destination=self.installation,  # type: ignore[arg-type]
            known=Known(self.known_files, self.unfit),
            candidates=candidates,
            budget=self.budget,
            settings=settings or Settings(),
            emit=self.heard,
            on_staged=on_staged,
            clock=clock,
            rng=random.Random(self.seed),
            ways=self.ways,
        )
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                if beside is not None:
                    tasks.create_task(beside(updater))
                await updater.run()
        assert self.installation.partials == 0
        return self

    def hosts(self) -> list[str]:
        return [host for _, host in self.asked]
