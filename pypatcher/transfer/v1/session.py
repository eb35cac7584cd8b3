"""One v1 connection: HELLO both ways, requests both ways, and when it ends. Who dialed makes no difference.

protocol.md "The v1 exchange". It reads messages, bounds them and says whose fault what is. Not here: what a
HELLO leads to and how a request is answered (``exchange``), and the bytes of a message (``messages``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Protocol

from pypatcher.artifact.postcard import encode_unsigned
from pypatcher.errors import CodecError, PatcherError, PeerBusyError, PeerError
from pypatcher.limits import Limit, WindowLimiter
from pypatcher.transfer.stall import answer_time
from pypatcher.transfer.v1.messages import MESSAGE_LIMIT, Hello, Kind, MessageReader, encode_message
from pypatcher.transport import CloseCode, Connection
from pypatcher.transport.close import refusal
from pypatcher.transport.stream import Stream
from pypatcher.waiting import News, end_of_first, wait_at_most

__all__ = ["SessionHost", "SessionV1"]

_log = logging.getLogger("pypatcher")
_PART = 4096
_HELLOS = Limit("HELLO", 10, 1.0)
_MESSAGES = Limit("any", 100, 1.0)
"""Of all types together, those that nobody knows included: each costs more than its two bytes."""
_HELLO_PAUSE = 1.0
_LOOK = 0.5
_ON_ITS_WAY = 2.0
_REQUESTS = 3
"""Of a peer that are answered at once."""
IDLE_SECONDS = 10.0
"""After which a connection without an open request ends."""
_IN_VAIN_SECONDS = 30.0
"""After which one ends on which neither side gives the other a release, whatever they ask."""
_WORTH = 1 << 14
"""Bytes of a release that count as given."""

Answer = Callable[["SessionV1", bytes, Stream], Awaitable[None]]
"""Answers one request: is given its payload, writes status and answer, and leaves the end of the stream to others."""
Attend = Callable[["SessionV1"], Awaitable[None]]
"""Does what follows from a peer's HELLO, ``session.hello``, again for each newer one."""


class SessionHost(Protocol):
    """What stands behind the connections of one node.

    Attributes:
        news: those that are told when ``hello`` may be another.
        answers: how requests are answered, by their type.
        attends: what a peer's HELLO leads to, one after the other; a newer HELLO waits for none but the first.
    """

    @property
    def news(self) -> Sequence[News]: ...
    @property
    def answers(self) -> Mapping[int, Answer]: ...
    @property
    def attends(self) -> Sequence[Attend]: ...

    def hello(self) -> Hello:
        """What we say of ourselves now."""

    def hear(self, session: SessionV1) -> None:
        """Its peer said something new; what follows from it and costs next to nothing, for it is done at once."""

    def keeps(self, session: SessionV1) -> bool:
        """Whether a connection is to stay, though nothing is asked on it just now."""


class SessionV1:
    """One connection, whose handshake is complete.

    Args:
        patience: seconds after which it ends when neither side has an open request.

    Attributes:
        connection: what it talks over.
        hello: what the peer said of itself last; None: nothing yet.
    """

    def __init__(self, connection: Connection, host: SessionHost, *, patience: float = IDLE_SECONDS) -> None:
        self.connection = connection
        self.hello: Hello | None = None
        self._host = host
        self._patience = patience
        self._heard = News()
        self._attended: dict[int, Hello] = {}
        self._clock = asyncio.get_running_loop().time
        self._open = 0
        self._touched = self._moved_at = self._clock()
        self._moving = self._moved = 0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Talk until the connection ends.

        Raises:
            PeerError: the peer broke the protocol; the connection is closed.
        """
        attends = (self._attend(stage, attend) for stage, attend in enumerate(self._host.attends))
        try:
            await end_of_first(
                self._speak(),
                self._listen(),
                self._answer_requests(),
                self._end_when_idle(),
                self.connection.wait_closed(),
                *attends,
            )
        except CodecError as error:
            self.connection.close(CloseCode.PROTOCOL)
            raise PeerError(f"the peer's message makes no sense: {error}") from None
        except PeerError:
            # That it ended is nobody's fault; who waits for something of it is told by its streams.
            if not self.connection.is_closed:
                self.connection.close(CloseCode.PROTOCOL)
                raise
        finally:
            self.connection.close(CloseCode.DONE)

    async def attended(self) -> None:
        """Wait until a HELLO came, and the first thing that follows from it was done.

        Raises:
            PeerError: the peer says nothing, or went away.
        """
        async with answer_time():
            while not self._attended:
                news = self._heard.next
                if self.connection.is_closed:
                    raise PeerError("the peer went away before it said anything")
                await wait_at_most(news, _LOOK)

    def retire(self) -> None:
        """End once no request is open, nor on its way: there is another connection with this peer."""
        self._patience = min(self._patience, _ON_ITS_WAY)
        self._changed.set()

    @property
    def is_idle(self) -> bool:
        """Whether neither side has an open request."""
        return self._open == 0

    @contextlib.asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """During the block the connection is not idle."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self._touched = self._clock()
            self._changed.set()

    @contextlib.contextmanager
    def moving(self) -> Iterator[None]:
        """During the block one side gives the other bytes of a release, which the rules for that bound."""
        self._moving += 1
        try:
            yield
        finally:
            self._moving -= 1
            self._changed.set()

    def moved(self, count: int) -> None:
        """So many bytes of a release passed: who asks for a few now and then keeps nobody busy by that."""
        self._moved += count
        if self._moved >= _WORTH:
            self._moved, self._moved_at = 0, self._clock()

    @contextlib.asynccontextmanager
    async def request(self, kind: Kind, payload: bytes = b"", *, window: int = 0) -> AsyncIterator[Stream]:
        """Ask for something; the stream behind the status is the answer.

        Args:
            window: bytes that the peer may send ahead of us, if that is much.

        Raises:
            PeerBusyError: it serves as many as it may.
            PeerError: it refused, or went away.
        """
        async with self.busy():
            stream = await self.connection.open_stream()
            code = CloseCode.PROTOCOL
            try:
                if window:
                    stream.expect_much(window)
                async with answer_time():
                    await stream.write(encode_message(kind, payload))
                    await stream.finish()
                    (status,) = await stream.read_exactly(1)
                if status:
                    raise refusal(status)
                yield stream
                code = CloseCode.DONE
            finally:
                if not stream.done:
                    stream.reset(code)

    async def _speak(self) -> None:
        stream = await self.connection.open_uni()
        said: Hello | None = None
        while True:
            news = [asyncio.ensure_future(each.next.wait()) for each in self._host.news]
            hello = self._host.hello()
            if hello != said:
                await stream.write(encode_message(Kind.HELLO, hello.encode()))
                said = hello
            try:
                # What changes meanwhile is said together.
                await asyncio.sleep(_HELLO_PAUSE)
                await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in news:
                    waiting.cancel()

    async def _listen(self) -> None:
        async with answer_time():
            stream = await self.connection.accept_uni()
        await end_of_first(self._listen_to(stream), self._refuse_another())

    async def _refuse_another(self) -> None:
        await self.connection.accept_uni()
        raise PeerError("the peer opened a second control stream")

    async def _listen_to(self, stream: Stream) -> None:
        reader, rate = MessageReader(), WindowLimiter()
        while data := await stream.read(_PART):
            for kind, payload in reader.feed(data):
                limits = [_MESSAGES, _HELLOS] if kind == Kind.HELLO else [_MESSAGES]
                if not rate.allows(limits, self._clock()):
                    raise PeerError("the peer says more than anybody wants to hear")
                rate.count(limits, self._clock())
                if kind == Kind.HELLO:
                    self.hello = Hello.decode(payload)
                    self._host.hear(self)
                    self._heard.tell()
                elif self.hello is None:
                    raise PeerError("the peer did not say first who it is")
        raise PeerError("the peer ended its control stream")

    async def _attend(self, stage: int, attend: Attend) -> None:
        while True:
            news = self._heard.next
            hello = self._attended.get(stage - 1) if stage else self.hello
            if hello is not None and hello != self._attended.get(stage):
                await attend(self)
                self._attended[stage] = hello
                self._heard.tell()
                # Nobody is to say something new more often, and each may cost us signatures to check.
                await asyncio.sleep(_HELLO_PAUSE)
            else:
                await news.wait()

    async def _answer_requests(self) -> None:
        places = asyncio.Semaphore(_REQUESTS)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await places.acquire()
                try:
                    stream = await self.connection.accept_stream()
                except PeerError as error:
                    _log.debug("no more requests: %s", error)
                    places.release()
                    break
                tasks.create_task(self._answer(stream)).add_done_callback(lambda _: places.release())

    async def _answer(self, stream: Stream) -> None:
        async with self.busy():
            code = CloseCode.PROTOCOL
            try:
                kind, payload = await _read_request(stream)
                await self._reply(kind, payload, stream)
                await stream.finish()
                code = CloseCode.DONE
            except CodecError as error:
                _log.debug("a request that makes no sense: %s", error)
                self.connection.close(CloseCode.PROTOCOL)
            except (PatcherError, OSError) as error:
                _log.debug("a request was not answered to its end: %s", error)
                code = CloseCode.PROTOCOL if isinstance(error, PeerError) else CloseCode.UNAVAILABLE
            finally:
                if code is not CloseCode.DONE and not stream.done:
                    stream.reset(code)

    async def _reply(self, kind: int, payload: bytes, stream: Stream) -> None:
        answer = self._host.answers.get(kind)
        if answer is None:
            await stream.write(encode_unsigned(CloseCode.UNKNOWN))
            return
        try:
            await answer(self, payload, stream)
        except PeerBusyError:
            await stream.write(encode_unsigned(CloseCode.BUSY))

    async def _end_when_idle(self) -> None:
        while True:
            if self._host.keeps(self):
                self._touched = self._moved_at = self._clock()
            ends = self._clock() + IDLE_SECONDS
            if self.is_idle:
                ends = self._touched + self._patience
            if not self._moving:
                ends = min(ends, self._moved_at + _IN_VAIN_SECONDS)
            left = ends - self._clock()
            if left <= 0:
                self.connection.close(CloseCode.DONE)
                return
            self._changed.clear()
            await wait_at_most(self._changed, left)


async def _read_request(stream: Stream) -> tuple[int, bytes]:
    """Type and payload of the one message of a request.

    Raises:
        CodecError: it is none, or more than one.
        PeerError: the peer went away, or takes its time.
    """
    reader = MessageReader()
    messages: list[tuple[int, bytes]] = []
    received = 0
    async with answer_time():
        while data := await stream.read(_PART):
            received += len(data)
            messages += reader.feed(data)
            if len(messages) > 1 or received > MESSAGE_LIMIT + _PART:
                raise CodecError("a request of more than one message")
    if len(messages) != 1 or not reader.is_between:
        raise CodecError("a request that is no whole message")
    return messages[0]
