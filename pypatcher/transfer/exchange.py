"""What every transfer protocol is: one way of moving a release between two devices, both sides of it.

A protocol adds itself in ``exchanges``. The limits that hold for all of them are elsewhere, once: ``shelf`` and
``budgets`` (both sides), ``hedging`` and ``download`` (fetching).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import PeerError
from pypatcher.transport import Connection

__all__ = ["Exchange", "NobodyLeftError", "Parts", "Sink"]


class NobodyLeftError(PeerError):
    """Each of several peers failed, which was said of each; what came of it is no one's fault more."""


class Parts(Protocol):
    """A download that may be filled in any order; called in worker threads.

    All raise OSError: it cannot be kept; the fetch ends with that.
    """

    @property
    def size(self) -> int:
        """Bytes that are there, of an earlier download; nothing is known of them."""

    def read(self, size: int, offset: int) -> bytes:
        """``size`` of those from ``offset`` on, fewer at the end."""

    def open_again(self) -> int:
        """A descriptor of the same file, for reading alone; the caller closes it."""

    def sync(self) -> object:
        """What was written outlives a power cut."""

    def write_part(self, data: bytes, offset: int) -> object:
        """Write where it belongs, or behind the file what helps who goes on with it."""

    def cut(self, size: int) -> object:
        """Nothing is behind the first ``size`` bytes any more."""

    def copy_part(self, source: int, start: int, offset: int, size: int) -> object:
        """``size`` bytes of an open file from ``start`` on, to where they belong."""

    def old_files(self) -> AbstractContextManager[Sequence[tuple[int, int]]]:
        """Descriptors and sizes of what is here already, and may have parts of it; nothing is known of them."""


class Sink(Protocol):
    """Where a release goes while it comes."""

    @property
    def parts(self) -> Parts:
        """The same, for who does not write it in order."""

    def write(self, data: bytes) -> object:
        """Take what comes next, up to 256 KiB; called in a worker thread, never twice at once.

        Raises:
            OSError: it cannot be kept; the fetch ends with that.
        """

    def received(self, count: int, total: int, came: int | None = None) -> None:
        """So many bytes of the file are here, of ``total``; called in the event loop.

        Args:
            came: bytes that the peer sent; all of ``count`` unless told.
        """

    def follows_tree(self, drop: Callable[[], None]) -> None:
        """Every chunk is what a tree says: if the whole is another file the tree is wrong, not the peer.

        Args:
            drop: to be called then.
        """

    def peer_ended(self, address: Address, came: int, error: PeerError | None, wasted: int) -> None:
        """One of several peers is asked no more; called in the event loop.

        Args:
            came: bytes that it sent.
            error: what it did wrong, if it did.
            wasted: how many of those were of no use.
        """


class Exchange(Protocol):
    """One transfer protocol, in one namespace."""

    @property
    def alpn(self) -> str:
        """By which it is known in a handshake."""

    def suits(self, candidate: Candidate) -> bool:
        """Whether that node, as far as we know, speaks it."""

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        """Dial a candidate and fetch its release; see ``Fetch``."""

    async def answer(self, connection: Connection) -> None:
        """Serve somebody who dialed us; what goes wrong with it is its peer's loss alone."""
