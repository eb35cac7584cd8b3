"""Runs one lookup: sends the questions that ``Lookup`` names, and collects what was found.

Between ``Lookup``, which knows neither time nor sockets, and a node's queries. Owns no task; decides nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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
    asked: set[asyncio.Future[Response]] = set()
    ended: deque[tuple[Contact, asyncio.Future[Response]]] = deque()
    slow: deque[Contact] = deque()
    every: dict[Address, tuple[Contact, Response]] = {}
    news = asyncio.Event()

    def note_end(contact: Contact, answer: asyncio.Future[Response]) -> None:
        ended.append((contact, answer))
        news.set()

    def note_slow(contact: Contact, _: asyncio.Future[None]) -> None:
        slow.append(contact)
        news.set()

    try:
        while True:
            for contact in lookup.next_queries():
                question = ask(contact.address)
                asked.add(question.answer)
                question.answer.add_done_callback(partial(note_end, contact))
                question.slow.add_done_callback(partial(note_slow, contact))
            if lookup.finished:
                near = [(contact, every[contact.address][1]) for contact in lookup.closest()]
                return Answers(near, list(every.values()))
            await news.wait()
            news.clear()
            while ended:
                contact, answer = ended.popleft()
                asked.discard(answer)
                try:
                    response = answer.result()
                except PeerError:
                    lookup.failed(contact)
                    continue
                every[contact.address] = contact, response
                lookup.answered(contact, response.sender, krpc.nodes_of(response.values, family))
            while slow:
                lookup.slow(slow.popleft())
    finally:
        for answer in asked:
            answer.cancel()
