"""What is here of a release that is still being fetched, for others to take: only chunks that are right.

Not here: who may have how much of it (``giving``), and how it comes here (``swarm``).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from pypatcher.artifact import PatchInfo
from pypatcher.errors import PatcherError
from pypatcher.transfer.v1.plan import Plan

__all__ = ["OpenPart", "PartHeld"]


class PartHeld:
    """One download's, as long as it is under way.

    Args:
        nodes: of the tree, by their ids.
        plan: which parts are there.
        descriptor: of the file, for reading alone; it is closed with this.
    """

    def __init__(self, info: PatchInfo, root: bytes, nodes: Mapping[bytes, bytes], plan: Plan, descriptor: int) -> None:
        self.info, self.root, self.nodes, self.plan = info, root, nodes, plan
        self._descriptor = descriptor
        # Also when its node ends, with its loop and all that is timed in it.
        self._close = weakref.finalize(self, os.close, descriptor)

    def open(self) -> OpenPart:
        """For one answer: it reads on when the download is over, from the same file."""
        return OpenPart(self.info, self.plan, os.dup(self._descriptor))

    def close(self) -> None:
        """It is nothing to give any more."""
        self._close()


class OpenPart:
    """See ``OpenRelease``."""

    def __init__(self, info: PatchInfo, plan: Plan, descriptor: int) -> None:
        self.info = info
        self._plan = plan
        self._descriptor = descriptor

    def has(self, size: int, offset: int) -> bool:
        """Whether these bytes are there."""
        return self._plan.has(offset, size)

    def cost(self, _size: int, _offset: int) -> int:
        """What reading them costs beside their own bytes."""
        return 0

    def whole(self, size: int, offset: int) -> bytes:
        """All of the ``size`` bytes from there, which are there; blocks.

        Raises:
            PatcherError: the file was changed.
        """
        data = b""
        while len(data) < size:
            part = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not part:
                raise PatcherError("a download was cut while it was served")
            data += part
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
