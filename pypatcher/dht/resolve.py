"""Names of entry points to addresses, without blocking the loop or its end.

A resolver without network can hang for most of a minute. The loop's own executor would make the program wait for that
when it ends, so each name is resolved in a daemon thread; a name that is still being resolved is not asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import partial

from pypatcher.addresses import Address
from pypatcher.shortage import start_thread

__all__ = ["Resolver"]

_ADDRESSES = 4


class Resolver:
    """Resolves for one family, 4 or 6."""

    def __init__(self, family: int) -> None:
        self._kind = socket.AF_INET if family == 4 else socket.AF_INET6
        self._pending: dict[Address, asyncio.Future[list[Address]]] = {}

    async def resolve(self, name: Address) -> list[Address]:
        """Up to 4 addresses of a host name and port; none if the name has none or resolving failed."""
        pending = self._pending.get(name)
        if pending is None:
            loop = asyncio.get_running_loop()
            pending = self._pending[name] = loop.create_future()
            pending.add_done_callback(lambda _: self._pending.pop(name))
            try:
                start_thread(partial(self._ask, name, loop, pending), "pypatcher-dns")
            except RuntimeError:
                pending.set_result([])  # to be asked for again, as every name that has no address now
        return await asyncio.shield(pending)

    def _ask(self, name: Address, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[Address]]) -> None:
        try:
            infos = socket.getaddrinfo(*name, family=self._kind, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            infos = []
        found = [(str(info[4][0]), int(info[4][1])) for info in infos[:_ADDRESSES]]

        def tell() -> None:
            if not answer.done():
                answer.set_result(found)

        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(tell)
