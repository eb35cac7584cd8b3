"""The newest release, fetched to a file by somebody who has no program to update: the command ``fetch``.

For the first installation of a device, and for a look at what a fleet has. It meets the others as a node does (slots,
swarm, LAN, offers), and asks until three nodes agree on what is newest or a time is over; how sure that is, the caller
says. The file appears whole and verified, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pypatcher.addresses import Address, format_address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate, Candidates
from pypatcher.errors import CannotReplaceError, NotNewerError, PeerError
from pypatcher.events import (
    Emit,
    Event,
    FetchFailed,
    FetchProgress,
    FetchStarted,
    PreflightFailed,
    ReleaseRefused,
    ReleaseStaged,
)
from pypatcher.node.network import Network
from pypatcher.node.peers import Fleet
from pypatcher.node.wiring import keep_looking, keep_port_open, network_updater
from pypatcher.settings import Settings
from pypatcher.tasks import at_work
from pypatcher.transfer.peer_budget import FetchBudget
from pypatcher.transport import Connection
from pypatcher.update.outfile import OutFile
from pypatcher.update.updater import Updater
from pypatcher.version import Version

__all__ = ["ENOUGH_SOURCES", "Acquired", "Acquirer", "Newest", "hear_newest"]

ENOUGH_SOURCES = 3
_LOOK_INTERVAL = 10.0
_PERSEVERANCE = 8
_PROGRESS_INTERVAL = 0.25
_VOICES = 4096
_TASK_PAUSES = (1.0, 30.0)


@dataclass(frozen=True, slots=True)
class Acquired:
    """What was fetched.

    Attributes:
        peer: the address that it came from; with its node id where that was asked for.
        sources: nodes that said that this is the newest; 0 when a named peer was asked.
        others: nodes heard that had something older.
    """

    info: PatchInfo
    peer: str
    sources: int
    others: int


@dataclass(frozen=True, slots=True)
class Newest:
    """What is newest by what others say; the owner signed it, nobody has seen the file.

    Attributes:
        sources: nodes that said so.
        others: nodes heard that have something older.
    """

    info: PatchInfo
    sources: int
    others: int


class Acquirer:
    """Fetches one release to ``out``, which the caller then keeps."""

    def __init__(self, network: Network, out: OutFile, settings: Settings, emit: Emit) -> None:
        self._network = network
        self._out = out
        self._settings = _eager(settings)
        self._emit = emit
        self._heard = _Heard()
        self._peer = ""
        self._failure = "nobody was asked"
        self._blocked: str | None = None
        self._hopeless = False

    async def from_peer(self, node_id: bytes, address: Address) -> Acquired:
        """Fetch what one named peer has.

        Raises:
            PeerError, ArtifactError: it did not deliver a release of the owner's for that target.
            NotNewerError: it has an older version than will do.
            CannotReplaceError: it cannot be kept.
        """
        peer, said = format_address(address), 0.0

        def progress(done: int, total: int) -> None:
            nonlocal said
            if not said:
                self._emit(FetchStarted("unknown", peer, total))
            if done == total or time.monotonic() - said >= _PROGRESS_INTERVAL:
                said = time.monotonic()
                self._emit(FetchProgress("unknown", peer, done, total))

        download = self._out.new_partial()
        try:
            await self._network.fetch(address, node_id, None, download.write, progress)
            info = await asyncio.to_thread(self._out.stage, download, None)
        except OSError as error:
            raise CannotReplaceError(f"cannot write {self._out.staged_path}: {error.strerror or error}") from None
        finally:
            download.discard()
        return Acquired(info, f"{node_id.hex()}@{peer}", 0, 0)

    async def newest(self, patience: float) -> Acquired:
        """Find the newest release by discovery and fetch it.

        Args:
            patience: seconds to look for; three nodes that agree on the newest version end it early. While somebody is
                known who may have it and was not reached yet, it goes on up to 8 times as long: nodes behind routers
                look at the swarm every 5 minutes, and no way opens before both sides know of each other.

        Raises:
            PeerError: nobody was heard, or nobody delivered; with the last failure's words.
            NotNewerError: only older versions than will do were heard of.
            CannotReplaceError: it cannot be kept.
        """
        network, settings, rng = self._network, self._settings, random.Random()  # noqa: S311 - jitter
        fleet = _fleet(network, settings, self._heard, rng)
        updater = network_updater(
            network,
            fleet,
            self._heard,
            self._out,
            settings,
            emit=self._note,
            budget=FetchBudget(),
            on_staged=self._staged,
            rng=rng,
            stranger_jitter=0.0,
        )
        parts = {"fetch": updater.run, "port mapping": lambda: keep_port_open(network, fleet, settings, self._emit)}
        if fleet is not None:
            fleet.updated_by(updater)
            parts["fleet"] = fleet.run
        begin = time.monotonic()
        async with at_work(parts, _TASK_PAUSES):
            await self._wait(self._is_sure, patience, updater)
            if self._may_come(fleet):
                await self._wait(self._is_here, (_PERSEVERANCE - 1) * patience, updater)
        return self._result(time.monotonic() - begin)

    async def _wait(self, reached: Callable[[], bool], seconds: float, updater: Updater) -> None:
        """Wait for that, so many seconds at most, and then for the end of a transfer that is under way."""
        await self._heard.until(lambda: reached() or self._blocked is not None, seconds)
        await updater.settled()

    def _is_here(self) -> bool:
        """Whether we have the newest release of all that were heard of."""
        return self._out.info is not None and self._out.info.version >= self._heard.newest

    def _is_sure(self) -> bool:
        return self._is_here() and self._heard.enough()

    def _may_come(self, fleet: Fleet | None) -> bool:
        """Whether there is somebody left who may deliver what we do not have."""
        if self._is_here() or self._blocked is not None or self._hopeless:
            return False
        if self._heard.voices:
            return self._out.would_do(self._heard.newest)
        return fleet is not None and fleet.ways.known > 0

    def _result(self, seconds: float) -> Acquired:
        newest, heard = self._heard.newest, self._heard
        if self._blocked is not None:
            raise CannotReplaceError(self._blocked)
        if not heard.voices:
            raise _nobody(seconds)
        if not self._out.would_do(newest):
            raise NotNewerError(f"the newest release heard of is {newest}, older than {self._out.at_least}")
        if self._out.info is None or not self._is_here():
            raise PeerError(
                f"version {newest} was heard of, but nobody delivered it; the last failure: {self._failure}"
            )
        sources = heard.count(newest)
        return Acquired(self._out.info, self._peer, sources, len(heard.voices) - sources)

    async def _staged(self, _info: PatchInfo) -> None:
        self._heard.changed.set()

    def _note(self, event: Event) -> None:
        match event:
            case FetchStarted(peer=peer):
                self._peer = peer
            case FetchFailed(reason=reason):
                self._failure = reason
            case ReleaseRefused(reason=reason):
                self._failure, self._hopeless = reason, True
            case PreflightFailed(reason=reason):
                self._blocked = reason
            case ReleaseStaged():
                return  # not before it is the newest
        self._heard.changed.set()
        self._emit(event)


async def hear_newest(network: Network, settings: Settings, patience: float, emit: Emit) -> Newest:
    """Look for what is newest as ``Acquirer.newest`` does, and fetch nothing.

    Args:
        patience: seconds to look for; three nodes that agree end it early. While nobody was heard and somebody is known
            who was not reached yet, it goes on up to 8 times as long.

    Raises:
        PeerError: nobody was heard.
    """
    settings, rng, heard = _eager(settings), random.Random(), _Heard()  # noqa: S311 - jitter
    fleet = _fleet(network, settings, heard, rng)
    parts = {
        "look": lambda: keep_looking(network, fleet, heard, settings, rng),
        "port mapping": lambda: keep_port_open(network, fleet, settings, emit),
    }
    if fleet is not None:
        parts["fleet"] = fleet.run
    begin = time.monotonic()
    async with at_work(parts, _TASK_PAUSES):
        await heard.until(heard.enough, patience)
        if fleet is not None and not heard.voices and fleet.ways.known > 0:
            await heard.until(lambda: bool(heard.voices), (_PERSEVERANCE - 1) * patience)
    if not heard.voices:
        raise _nobody(time.monotonic() - begin)
    named = Counter(info for info in heard.voices.values() if info.version == heard.newest)
    return Newest(named.most_common(1)[0][0], named.total(), len(heard.voices) - named.total())


def _fleet(network: Network, settings: Settings, candidates: Candidates, rng: random.Random) -> Fleet | None:
    alpn = network.namespace.offer_alpn
    if alpn is None:
        return None
    return Fleet(network, alpn, settings, served=_Nothing(), candidates=candidates, known=(), rng=rng)


def _eager(settings: Settings) -> Settings:
    """Somebody waits for the answer."""
    return settings.replace(look_interval=settings.look_interval or _LOOK_INTERVAL)


def _nobody(seconds: float) -> PeerError:
    return PeerError(
        f"no node that has a release was heard within {seconds:.0f} s: is a device with a signed release running, and "
        "are the DHT entry points reachable (PYPATCHER_BOOTSTRAP)? `pypatcher netcheck` tells more"
    )


class _Heard(Candidates):
    """Who is said to hold what, and every node's own word, whether its address is of use or not."""

    def __init__(self) -> None:
        super().__init__()
        self.voices: dict[bytes, PatchInfo] = {}
        self.changed = asyncio.Event()

    def add(self, candidates: Iterable[Candidate], now: float) -> None:
        """Hear of them; a node's word is the newest version that it named."""
        heard = list(candidates)
        super().add(heard, now)
        for each in heard:
            if len(self.voices) < _VOICES or each.node_id in self.voices or each.info.version > self.newest:
                before = self.voices.get(each.node_id, each.info)
                self.voices[each.node_id] = max(each.info, before, key=lambda info: info.version)
        self.changed.set()

    @property
    def newest(self) -> Version:
        """The newest version that anybody named; 0.0.0 if nobody did."""
        return max((info.version for info in self.voices.values()), default=Version(0, 0, 0))

    def count(self, version: Version) -> int:
        """How many nodes named it as their newest."""
        return sum(info.version == version for info in self.voices.values())

    def enough(self) -> bool:
        """Whether so many nodes named the newest version that it hardly is not the newest."""
        return self.count(self.newest) >= ENOUGH_SOURCES

    async def until(self, reached: Callable[[], bool], seconds: float) -> None:
        """Wait for that, which must change with what is heard, so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not reached():
                    self.changed.clear()
                    await self.changed.wait()


class _Nothing:
    """What is served here."""

    info: PatchInfo | None = None

    async def give(self, connection: Connection, began: Callable[[], None]) -> bool:
        """Nobody asks who was offered nothing."""
        connection.close()
        return False
