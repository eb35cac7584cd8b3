"""Our queries under way: which answer belongs to which question, when to ask again, when to give up.

A thin shell over the running loop's timers; it owns no task and no socket. An answer counts only from the very
address that was asked, with the random 4-byte transaction id of the question (Rust nodes answer no other length). The
first wait follows the round-trip times seen so far, each further one is twice as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from pypatcher.addresses import Address, format_address
from pypatcher.bencode import Value
from pypatcher.dht import krpc
from pypatcher.dht.crowd import Near
from pypatcher.dht.krpc import Failure, RemoteError, Response
from pypatcher.errors import PeerError
from pypatcher.limits import RateLimiter

__all__ = ["Calls", "NoAnswerError", "Question", "RoundTrip"]

_MAX_OUTSTANDING = 1024
_FIRST_WAIT = 1.0
_SHORTEST_WAIT, _LONGEST_WAIT = 0.4, 2.0
_QUERIES_EACH, _QUERIES_EACH_NEAR = (1.5, 20.0), (50.0, 200.0)


class NoAnswerError(PeerError):
    """A node did not answer, or was not asked: it has been asked too often, or we stopped.

    Attributes:
        asked: False if nothing was sent.
    """

    def __init__(self, address: Address, *, asked: bool) -> None:
        super().__init__(f"no DHT answer from {format_address(address)}" + ("" if asked else " (not asked)"))
        self.asked = asked


class RoundTrip:
    """How long to wait for an answer, from the round-trip times seen (RFC 6298)."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self._deviation = 0.0

    def observe(self, seconds: float) -> None:
        """Count an answer that took ``seconds``."""
        if self._mean is None:
            self._mean, self._deviation = seconds, seconds / 2
            return
        self._deviation += (abs(seconds - self._mean) - self._deviation) / 4
        self._mean += (seconds - self._mean) / 8

    @property
    def wait(self) -> float:
        """Seconds to wait before asking once more: 0.4 to 2."""
        if self._mean is None:
            return _FIRST_WAIT
        return min(_LONGEST_WAIT, max(_SHORTEST_WAIT, self._mean + 4 * self._deviation))


class Question(NamedTuple):
    """A query under way.

    Attributes:
        answer: ends with the answer, RemoteError or NoAnswerError; cancelling it forgets the question.
        slow: ends when the first wait is over without an answer, if it is asked again.
    """

    answer: asyncio.Future[Response]
    slow: asyncio.Future[None]


@dataclass(slots=True)
class _Call:
    address: Address
    packet: bytes
    answer: asyncio.Future[Response]
    wait: float
    tries: int
    sent: float
    slow: asyncio.Future[None]
    is_knock: bool
    timer: asyncio.TimerHandle | None = None
    repeated: bool = False


class Calls:
    """The queries of one node."""

    def __init__(
        self,
        send: Callable[[bytes, Address], None],
        clock: Callable[[], float],
        random: Random,
        near: Near | None = None,
    ) -> None:
        self._send = send
        self._is_near = near or Near()
        self._clock = clock
        self._random = random
        self._calls: dict[bytes, _Call] = {}
        self._round_trip = RoundTrip()
        self._is_closed = False
        self._far = RateLimiter(*_QUERIES_EACH)
        self._near = RateLimiter(*_QUERIES_EACH_NEAR)

    def __len__(self) -> int:
        return len(self._calls)

    def query(
        self,
        address: Address,
        method: bytes,
        sender: bytes,
        arguments: Mapping[bytes, Value],
        *,
        read_only: bool = False,
        tries: int = 2,
        knock_wait: float | None = None,
    ) -> Question:
        """Ask, at most ``tries`` times.

        Args:
            knock_wait: seconds of the first wait, where it is a knock: who answers that is no acquaintance. How many
                questions a host was asked keeps none from it: knocks have limits of their own, and their moments.
        """
        loop = asyncio.get_running_loop()
        question = Question(loop.create_future(), loop.create_future())
        is_knock, may_send = knock_wait is not None, self._may_send(address)
        if self._is_closed or len(self._calls) >= _MAX_OUTSTANDING or not (may_send or is_knock):
            question.answer.set_exception(NoAnswerError(address, asked=False))
            return question
        transaction = self._random.randbytes(4)
        while transaction in self._calls:
            transaction = self._random.randbytes(4)
        packet = krpc.encode_query(transaction, method, sender, arguments, read_only=read_only)
        wait = knock_wait or self._round_trip.wait
        call = _Call(address, packet, question.answer, wait, tries, self._clock(), question.slow, is_knock)
        self._calls[transaction] = call
        question.answer.add_done_callback(lambda _: self._forget(transaction))
        self._await_once_more(call)
        self._send(packet, address)
        return question

    def received(self, message: Response | Failure, source: Address) -> bool:
        """Give an answer to its question; False if nobody asked ``source`` that, or only knocked."""
        call = self._calls.get(message.transaction)
        if call is None or call.address != source or call.answer.done():
            return False
        if not call.repeated and not call.is_knock:
            self._round_trip.observe(self._clock() - call.sent)
        if isinstance(message, Failure):
            call.answer.set_exception(RemoteError(message.code, message.text))
        else:
            call.answer.set_result(message)
        return not call.is_knock

    def close(self) -> None:
        """End every question under way as unanswered, and ask nothing any more."""
        self._is_closed = True
        for call in list(self._calls.values()):
            if not call.answer.done():
                call.answer.set_exception(NoAnswerError(call.address, asked=False))

    def _await_once_more(self, call: _Call) -> None:
        call.tries -= 1
        call.timer = asyncio.get_running_loop().call_later(call.wait, self._expire, call)
        call.wait *= 2

    def _may_send(self, address: Address) -> bool:
        limiter = self._near if self._is_near(address) else self._far
        return limiter.allow(self._is_near.host_of(address), self._clock())

    def _expire(self, call: _Call) -> None:
        if call.answer.done():
            return
        if call.tries == 0:
            call.answer.set_exception(NoAnswerError(call.address, asked=True))
            return
        if not call.slow.done():
            call.slow.set_result(None)
        call.repeated = True
        self._await_once_more(call)
        if self._may_send(call.address):
            self._send(call.packet, call.address)

    def _forget(self, transaction: bytes) -> None:
        call = self._calls.pop(transaction)
        if call.timer is not None:
            call.timer.cancel()
