"""Fetches the newest release to a file, for somebody who has no program to update: the command ``fetch``.

For the first installation of a device, and for a look at what a fleet has. It finds others as a node does (slots,
swarm, LAN, offers), and asks until enough nodes agree on what is newest or a time is over. The file appears whole and
verified, or not at all. Nothing is installed, and nothing is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from pypatcher.addresses import Address, format_address
from pypatcher.artifact import PatchInfo
from pypatcher.budgets import UploadLimiter
from pypatcher.budgets.intake import Intake
from pypatcher.discovery.census import Census
from pypatcher.errors import CannotReplaceError, NotNewerError, PeerError
from pypatcher.events import (
    Emit,
    Event,
    FetchFailed,
    FetchStarted,
    PreflightFailed,
    ReleaseRefused,
    ReleaseStaged,
)
from pypatcher.node.network import Network
from pypatcher.node.peers import Peers, Role
from pypatcher.settings import Settings
from pypatcher.tasks import at_work
from pypatcher.transfer import StallRule, fetch_from
from pypatcher.transfer.download import Arrival
from pypatcher.transfer.exchanges import Exchanges
from pypatcher.transfer.gate import NOBODY
from pypatcher.transfer.shelf import Shelf
from pypatcher.update.outfile import OutFile
from pypatcher.update.rule import OpenRule
from pypatcher.update.updater import Updater
from pypatcher.update.wanted import PastDownloads, Wanted
from pypatcher.update.word import NoStore, OwnersWord

__all__ = ["ENOUGH_SOURCES", "Acquired", "Acquirer", "Newest", "follow_word", "hear_newest", "is_newest"]

ENOUGH_SOURCES = 3
_LOOK_INTERVAL = 10.0
_PERSEVERANCE = 8
_REMIND = 20.0
_LOOK_AT_WORDS = 0.5
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
    """Fetches one release to ``out``, which the caller then keeps; ``say`` is told in words what it waits for."""

    def __init__(
        self,
        network: Network,
        out: OutFile,
        settings: Settings,
        emit: Emit,
        say: Callable[[str], None],
    ) -> None:
        self._say = say
        self._until = 0.0
        self._network = network
        self._out = out
        self._settings = _eager(settings)
        self._emit = emit
        shelf = Shelf(UploadLimiter(0))
        self.word = _no_word(network)
        self._rule = OpenRule(self.word)
        self._stall = StallRule(intake=Intake(settings.download))
        self._exchanges = Exchanges(network.endpoint, network.namespace, shelf, word=self.word, stall=self._stall)
        self._rng = random.Random()  # noqa: S311 - jitter
        self._peers = Peers(network, self._settings, emit, self._exchanges, rng=self._rng, role=Role.FETCH)
        self._census = self._peers.census
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
        download = self._out.new_partial()
        try:
            network = self._network
            await fetch_from(
                network.endpoint,
                address,
                Arrival(download, self._emit, "unknown", format_address(address)),
                node_id=node_id,
                alpn=network.namespace.alpn,
                owner=network.namespace.owner,
                expect=None,
                stall=self._stall,
            )
            info = await asyncio.to_thread(self._out.stage, download, None)
        except OSError as error:
            raise CannotReplaceError(f"cannot write {self._out.staged_path}: {error.strerror or error}") from None
        finally:
            download.discard()
        return Acquired(info, f"{node_id.hex()}@{format_address(address)}", 0, 0)

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
        updater = Updater(
            self._peers,
            self._out,
            Wanted(self._out, PastDownloads(), self._note, self._rule),
            self._settings,
            self._note,
            rng=self._rng,
        )
        parts = {
            "fetch": updater.run,
            "words": self._say_what_is_awaited,
            "owner's word": lambda: follow_word(self.word, self._census, self._drop_what_is_held),
            **self._peers.parts(),
            **self._peers.meetings(updater),
        }
        begin = time.monotonic()
        async with at_work(parts, _TASK_PAUSES):
            await self._wait(self._is_sure, patience, updater)
            if self._may_come():
                await self._wait(self._is_here, (_PERSEVERANCE - 1) * patience, updater)
        return self._result(time.monotonic() - begin)

    def _drop_what_is_held(self) -> None:
        """The owner names another release now, which may be an older one."""
        if self._rule.is_known and self._out.info is not None and self._out.info != self._rule.named:
            self._out.forget()

    async def _wait(self, reached: Callable[[], bool], seconds: float, updater: Updater) -> None:
        """Wait for that, so many seconds at most, and then for the end of a transfer that is under way."""
        self._until = time.monotonic() + seconds
        await _until(self._census, lambda: reached() or self._blocked is not None, seconds)
        await updater.settled()

    async def _say_what_is_awaited(self) -> None:
        """Say it when it changes, and now and then."""
        before, said = "", 0.0
        while True:
            words, now = self._awaited(), time.monotonic()
            if words != before or now - said >= _REMIND:
                self._say(f"{words} ({max(0.0, self._until - now):.0f} s at most; --timeout)")
                before, said = words, now
            await asyncio.sleep(_LOOK_AT_WORDS)

    def _awaited(self) -> str:
        newest, goal = self._census.newest_version, self._rule.named
        count = self._census.met(newest).total()
        if goal is not None and not self._is_here():
            return f"version {goal.version} is what the owner says; fetching it, or waiting for one that can be reached"
        if not self._census.voices:
            return "waiting for a node that has a release"
        nodes = "1 node" if count == 1 else f"{count} nodes"
        if not self._is_here():
            return f"version {newest} is what {nodes} said to have; fetching it, or waiting for one that can be reached"
        return (
            f"version {newest} is here and verified; {nodes} said that it is the newest, waiting for "
            f"{max(0, ENOUGH_SOURCES - count)} more that agree, in other networks"
        )

    def _is_here(self) -> bool:
        """Whether we have what the owner says, or the newest release of all that were heard of."""
        if self._rule.is_known:
            return self._out.info is not None and self._out.info == self._rule.named
        return self._out.info is not None and self._out.info.version >= self._census.newest_version

    def _is_sure(self) -> bool:
        return self._is_here() and is_newest(self._rule, self._census)

    def _may_come(self) -> bool:
        """Whether there is somebody left who may deliver what we do not have."""
        if self._is_here() or self._blocked is not None or self._hopeless:
            return False
        if self._census.voices:
            return self._out.would_do(self._census.newest_version)
        return bool(self._census.heard)

    def _result(self, seconds: float) -> Acquired:
        newest, census = self._census.newest_version, self._census
        if self._blocked is not None:
            raise CannotReplaceError(self._blocked)
        if not census.voices and not self._rule.is_known:
            raise _nobody(seconds)
        if self._rule.is_known and self._rule.named is None:
            raise NotNewerError("the owner holds his newest release, and names no other: nothing is to be had now")
        newest = newest if self._rule.named is None else self._rule.named.version
        if not self._out.would_do(newest):
            raise NotNewerError(f"the newest release heard of is {newest}, older than {self._out.at_least}")
        if self._out.info is None or not self._is_here():
            raise PeerError(
                f"version {newest} was heard of, but nobody delivered it; the last failure: {self._failure}"
            )
        sources = census.met(newest).total()
        return Acquired(self._out.info, self._peer, sources, max(0, census.voices - census.named(newest).total()))

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
                self._drop_what_is_held()
                self._census.news.tell()
                return  # it is said when it is the newest
        self._census.news.tell()
        self._emit(event)


async def hear_newest(network: Network, settings: Settings, patience: float, emit: Emit) -> Newest:
    """Look for what is newest as ``Acquirer.newest`` does, and fetch nothing.

    Args:
        patience: seconds to look for; three nodes that agree end it early. While nobody was heard and somebody is known
            who was not reached yet, it goes on up to 8 times as long.

    Raises:
        PeerError: nobody was heard.
    """
    word = _no_word(network)
    rule = OpenRule(word)
    exchanges = Exchanges(network.endpoint, network.namespace, Shelf(UploadLimiter(0)), word=word)
    rng = random.Random()  # noqa: S311 - jitter
    peers = Peers(network, _eager(settings), emit, exchanges, rng=rng, role=Role.FETCH)
    census = peers.census
    parts = {**peers.parts(), **peers.meetings(NOBODY), "owner's word": lambda: follow_word(word, census)}
    peers.want(())
    begin = time.monotonic()
    async with at_work(parts, _TASK_PAUSES):
        await _until(census, lambda: is_newest(rule, census), patience)
        if not census.voices and census.heard:
            await _until(census, lambda: census.voices > 0, (_PERSEVERANCE - 1) * patience)
    if not census.voices and rule.named is None:
        raise _nobody(time.monotonic() - begin)
    newest = census.newest_version if rule.named is None else rule.named.version
    named = census.named(newest)
    info = rule.named or named.most_common(1)[0][0]
    return Newest(info, census.met(newest).total(), max(0, census.voices - named.total()))


def _eager(settings: Settings) -> Settings:
    """Somebody waits for the answer."""
    return settings.replace(look_interval=settings.look_interval or _LOOK_INTERVAL)


def _nobody(seconds: float) -> PeerError:
    return PeerError(
        f"no node that has a release was heard within {seconds:.0f} s: is a device with a signed release running, and "
        "are the DHT entry points reachable (PYPATCHER_BOOTSTRAP)? `pypatcher netcheck` tells more"
    )


async def _until(census: Census, reached: Callable[[], bool], seconds: float) -> None:
    """Wait for that, which must change with what the census says, so many seconds at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                news = census.news.next
                if reached():
                    return
                await news.wait()


def is_newest(rule: OpenRule, census: Census) -> bool:
    """Whether what is named is the newest, as far as can be told: by the owner's word, else by enough who agree.

    The first word that is heard may be an old one, from whoever is near and wants it to be the last.
    """
    return rule.is_settled if rule.named is not None else _is_agreed(census)


def _is_agreed(census: Census) -> bool:
    """Whether nodes of so many networks, all met, hold the newest version that it hardly is not the newest.

    Records name it as well, and anybody can write those under as many ids as he likes.
    """
    return census.met(census.newest_version).total() >= ENOUGH_SOURCES


def _no_word(network: Network) -> OwnersWord | None:
    """The owner's word, as it will be heard."""
    namespace = network.namespace
    return None if namespace.target_name is None else OwnersWord(namespace.owner, namespace.target_name, NoStore())


async def follow_word(word: OwnersWord | None, census: Census, obey: Callable[[], None] = lambda: None) -> None:
    """Whoever waits for what the census says waits for the owner's word, too."""
    while word is not None:
        news = word.news.next
        obey()
        census.news.tell()
        await news.wait()
