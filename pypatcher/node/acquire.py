"""The newest release, fetched to a file by somebody who has no program to update: the command ``fetch``.

For the first installation of a device, and for a look at what a fleet has. It asks until three nodes agree on what is
newest or a time is over; how sure that is, the caller says. The file appears whole and verified, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pypatcher.addresses import Address, format_address
from pypatcher.artifact import PatchInfo, verify_release
from pypatcher.errors import ArtifactError, CannotReplaceError, NotNewerError, PeerError
from pypatcher.events import Emit, FetchFailed, FetchProgress, FetchStarted, ReleaseFound
from pypatcher.node.budget import rank_addresses
from pypatcher.node.candidates import Candidate
from pypatcher.node.network import Network
from pypatcher.targets import Target
from pypatcher.version import Version

__all__ = ["ENOUGH_SOURCES", "Acquired", "Acquirer"]

ENOUGH_SOURCES = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
_PROGRESS_INTERVAL = 0.25


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


class Acquirer:
    """Fetches one release to ``out``.

    Args:
        target: what it must be for; None for any.
        at_least: the lowest version that will do.
    """

    def __init__(
        self, network: Network, out: Path, target: Target | None, at_least: Version | None, emit: Emit
    ) -> None:
        self._network = network
        self._out = out
        self._target = target
        self._at_least = at_least
        self._emit = emit

    async def from_peer(self, node_id: bytes, address: Address) -> Acquired:
        """Fetch what one named peer has.

        Raises:
            PeerError, ArtifactError: it did not deliver a release of the owner's for that target.
            NotNewerError: it has an older version than will do.
        """
        info = await self._fetch(address, node_id, None)
        return Acquired(info, f"{node_id.hex()}@{format_address(address)}", 0, 0)

    async def newest(self, patience: float) -> Acquired:
        """Find the newest release by discovery and fetch it.

        Args:
            patience: seconds to look for; three nodes that agree on the newest version end it early.

        Raises:
            PeerError: nobody was heard, or nobody delivered; with the last failure's words.
            NotNewerError: only older versions than will do were heard of.
        """
        heard = await self._look_until_sure(patience)
        if not heard:
            raise PeerError(
                f"no node that has a release was heard within {patience:.0f} s: is a device with a signed release "
                "running, and are the DHT entry points reachable (PYPATCHER_BOOTSTRAP)?"
            )
        newest = _newest(heard)
        if self._at_least is not None and newest < self._at_least:
            raise NotNewerError(f"the newest release heard of is {newest}, older than {self._at_least}")
        holders = {candidate.address: candidate for candidate in heard if candidate.info.version == newest}
        first = next(iter(holders.values()))
        self._emit(ReleaseFound(str(newest), first.node_id.hex(), first.source))
        failure: Exception = PeerError("nobody was asked")
        for address in rank_addresses(holders, ()):
            candidate = holders[address]
            try:
                # Anyone may claim any address: whoever answers there gives what was announced, or nothing.
                info = await self._fetch(address, None, candidate.info)
            except (PeerError, ArtifactError) as error:
                self._emit(FetchFailed(str(newest), format_address(address), str(error)))
                failure = error
                continue
            sources = _nodes(candidate for candidate in heard if candidate.info.version == newest)
            return Acquired(info, format_address(address), sources, _nodes(heard) - sources)
        raise PeerError(f"version {newest} was heard of, but nobody delivered it; the last failure: {failure}")

    async def _look_until_sure(self, patience: float) -> list[Candidate]:
        heard: dict[tuple[bytes, Address], Candidate] = {}
        pause = _FIRST_PAUSE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while True:
                    for candidate in await self._network.look():
                        known = heard.get((candidate.node_id, candidate.address))
                        if known is None or known.info.version <= candidate.info.version:
                            heard[candidate.node_id, candidate.address] = candidate
                    if self._is_sure(heard.values()):
                        break
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
        return list(heard.values())

    def _is_sure(self, heard: Collection[Candidate]) -> bool:
        if not heard:
            return False
        newest = _newest(heard)
        agreeing = _nodes(candidate for candidate in heard if candidate.info.version == newest)
        return agreeing >= ENOUGH_SOURCES and (self._at_least is None or newest >= self._at_least)

    async def _fetch(self, address: Address, node_id: bytes | None, expect: PatchInfo | None) -> PatchInfo:
        peer, version = format_address(address), "unknown" if expect is None else str(expect.version)
        said = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal said
            if not said:
                self._emit(FetchStarted(version, peer, total))
            if done == total or time.monotonic() - said >= _PROGRESS_INTERVAL:
                said = time.monotonic()
                self._emit(FetchProgress(version, peer, done, total))

        with _new_file(self._out) as descriptor:

            def write(data: bytes) -> None:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]

            await self._network.fetch(address, node_id, expect, write, progress)
            owner = self._network.namespace.owner
            verified = await asyncio.to_thread(verify_release, descriptor, owner, self._target, expect=expect)
            if self._at_least is not None and verified.info.version < self._at_least:
                raise NotNewerError(f"{peer} has {verified.info.version}, older than {self._at_least}")
        return verified.info


def _newest(candidates: Iterable[Candidate]) -> Version:
    return max(candidate.info.version for candidate in candidates)


def _nodes(candidates: Iterable[Candidate]) -> int:
    return len({candidate.node_id for candidate in candidates})


@contextlib.contextmanager
def _new_file(out: Path) -> Iterator[int]:
    """A descriptor of a private file that becomes ``out``, executable, at the end of the block; or nothing at all.

    Raises:
        CannotReplaceError: it cannot be written there.
    """
    temporary = out.with_name(f".{out.name[:200]}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotReplaceError(f"cannot write {out}: {error.strerror}") from None
    try:
        yield descriptor
        os.fchmod(descriptor, 0o755)
        os.fsync(descriptor)
        temporary.replace(out)
    except OSError as error:
        raise CannotReplaceError(f"cannot write {out}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        os.close(descriptor)
