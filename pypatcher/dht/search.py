"""Runs one lookup: sends the questions that ``Lookup`` names, and collects what was found.

Between ``Lookup``, which knows neither time nor sockets, and a node's queries. Owns no task; decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias

from pypatcher.addresses import Address
from pypatcher.dht import krpc
from pypatcher.dht.calls import NoAnswerError
from pypatcher.dht.krpc import Response
from pypatcher.dht.lookup import Lookup
from pypatcher.dht.nodeid import Contact

__all__ = ["OnAnswer", "search"]

OnAnswer: TypeAlias = Callable[[Contact, Response], None]


class _Ask(Protocol):
    def __call__(self, address: Address, *, on_slow: Callable[[], None]) -> asyncio.Future[Response]: ...


async def search(
    lookup: Lookup,
    ask: _Ask,
    family: int,
    *,
    on_answer: OnAnswer | None = None,
    on_silent: Callable[[Address], None],
) -> list[tuple[Contact, Response]]:
    """Run a lookup to its end; the nearest nodes that answered, nearest first, with their answers.

    Args:
        lookup: where it starts, and when it stops.
        ask: puts one question.
        family: of the contacts taken from answers, 4 or 6.
        on_answer: called with every answer, near or not.
        on_silent: called with the address of each node that did not answer.
    """
    wake = asyncio.Event()
    under_way: set[asyncio.Future[Response]] = set()
    answers: dict[Address, Response] = {}

    def done(contact: Contact, future: asyncio.Future[Response]) -> None:
        under_way.discard(future)
        wake.set()
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            lookup.failed(contact)
            if isinstance(error, NoAnswerError) and error.asked:
                on_silent(contact.address)
            return
        answer = answers[contact.address] = future.result()
        lookup.answered(contact, answer.sender, krpc.nodes_of(answer.values, family))
        if on_answer is not None:
            on_answer(contact, answer)

    def slow(contact: Contact) -> None:
        lookup.slow(contact)
        wake.set()

    try:
        while True:
            wake.clear()
            for contact in lookup.next_queries():
                future = ask(contact.address, on_slow=partial(slow, contact))
                under_way.add(future)
                future.add_done_callback(partial(done, contact))
            if lookup.finished:
                return [(contact, answers[contact.address]) for contact in lookup.closest()]
            await wake.wait()
    finally:
        for future in under_way:
            future.cancel()
