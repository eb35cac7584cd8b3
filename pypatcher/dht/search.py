"""Runs one lookup: sends the questions that ``Lookup`` names, and collects what was found.

Between ``Lookup``, which knows neither time nor sockets, and a node's queries. Owns no task; decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from pypatcher.addresses import Address
from pypatcher.dht import krpc
from pypatcher.dht.calls import Question
from pypatcher.dht.krpc import Response
from pypatcher.dht.lookup import Lookup
from pypatcher.dht.nodeid import Contact
from pypatcher.errors import PeerError

__all__ = ["Answers", "search"]


class Answers(NamedTuple):
    """What a lookup ended with.

    Attributes:
        nearest: the nearest nodes that answered, nearest first, with their answers.
        every: every answer, near or not, in the order in which they came.
    """

    nearest: list[tuple[Contact, Response]]
    every: list[tuple[Contact, Response]]


async def search(lookup: Lookup, ask: Callable[[Address], Question], family: int) -> Answers:
    """Run a lookup to its end.

    Args:
        lookup: where it starts, and when it stops.
        ask: puts one question.
        family: of the contacts taken from answers, 4 or 6.
    """
    asked: dict[asyncio.Future[Response], Contact] = {}
    soon: dict[asyncio.Future[None], Contact] = {}
    every: dict[Address, tuple[Contact, Response]] = {}
    try:
        while True:
            for contact in lookup.next_queries():
                question = ask(contact.address)
                asked[question.answer] = contact
                soon[question.slow] = contact
            if lookup.finished:
                near = [(contact, every[contact.address][1]) for contact in lookup.closest()]
                return Answers(near, list(every.values()))
            waited_for: list[asyncio.Future[Any]] = [*asked, *soon]
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            for answer in [future for future in asked if future.done()]:
                contact = asked.pop(answer)
                try:
                    response = answer.result()
                except PeerError:
                    lookup.failed(contact)
                    continue
                every[contact.address] = contact, response
                lookup.answered(contact, response.sender, krpc.nodes_of(response.values, family))
            for slow in [future for future in soon if future.done()]:
                lookup.slow(soon.pop(slow))
    finally:
        for answer in asked:
            answer.cancel()
