"""One UDP socket: batches, trains, a full send buffer, a kernel without the options."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pypatcher.udp import DatagramSocket, _may_answer
from tests.support.transport import loopback


class Stubborn:
    """A socket whose sends fail as a test says."""

    def __init__(self, real: Any, fail: Callable[[str], OSError | None]) -> None:
        self._real, self._fail = real, fail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def sendto(self, *arguments: Any) -> Any:
        if error := self._fail("sendto"):
            raise error
        return self._real.sendto(*arguments)

    def sendmsg(self, *arguments: Any) -> Any:
        if error := self._fail("sendmsg"):
            raise error
        return self._real.sendmsg(*arguments)


class DatagramLog:
    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.batches: list[int] = []
        self.writable = 0
        self.socket = DatagramSocket((loopback(), 0), self._datagram, self._batch_end, self._writable)

    def _datagram(self, data: bytes, _source: tuple[str, int]) -> None:
        self.datagrams.append(data)

    def _batch_end(self) -> None:
        self.batches.append(len(self.datagrams))

    def _writable(self) -> None:
        self.writable += 1

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.datagrams) < count:
                await asyncio.sleep(0.005)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[DatagramLog, DatagramLog]]:
    near, far = DatagramLog(), DatagramLog()
    yield near, far
    near.socket.close()
    far.socket.close()


def numbered(count: int, size: int) -> list[bytes]:
    return [number.to_bytes(4, "big") * (size // 4) for number in range(count)]


async def test_a_train_arrives_as_the_datagrams_it_was_made_of(ends: tuple[DatagramLog, DatagramLog]) -> None:
    near, far = ends
    there, datagrams = far.socket.address, [*numbered(50, 1200), b"short", *numbered(3, 400), b""]
    near.socket.send_all(
        [(b"".join(datagrams[:51]), 1200, there), (b"".join(datagrams[51:54]), 400, there), (b"", 0, there)]
    )
    await far.until(55)
    assert far.datagrams == datagrams
    assert len(far.batches) < 20


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP])
async def test_only_where_a_train_was_refused_they_go_one_by_one(
    ends: tuple[DatagramLog, DatagramLog], code: int
) -> None:
    """The fault: an interface with a small MTU refused one, and no peer was sent a train any more."""
    near, far = ends
    there, other = far.socket.address, near.socket.address
    sent: list[str] = []
    refuses = True

    def fail(name: str) -> OSError | None:
        sent.append(name)
        return OSError(code, "no") if name == "sendmsg" and refuses else None

    def trains() -> int:
        near.socket.send_all([(bytes(2400), 1200, there)])
        made, sent[:] = sent.count("sendmsg"), []
        return made

    near.socket._socket = Stubborn(near.socket._socket, fail)  # type: ignore[assignment]
    assert [trains(), trains()] == [1, 0]
    await far.until(4)
    assert far.datagrams == [bytes(1200)] * 4
    refuses = False
    near.socket.send_all([(bytes(2000), 1000, there), (bytes(2400), 1200, other)])
    assert sent == ["sendmsg"] * 2
    sent.clear()
    assert sum(trains() for _ in range(300)) > 1
    assert len(near.socket._refused) <= 1


@pytest.mark.parametrize(("code", "asked"), [(errno.ENOBUFS, 2), (errno.ENOPROTOOPT, 1)])
async def test_options_without_memory_at_the_start_are_set_later(
    monkeypatch: pytest.MonkeyPatch, code: int, asked: int
) -> None:
    options: list[tuple[int, int]] = []

    def refuse(_socket: socket.socket, level: int, option: int, _value: int) -> None:
        options.append((level, option))
        if level in (socket.IPPROTO_UDP, socket.IPPROTO_IP):
            raise OSError(code, "not now")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "setsockopt", refuse)
        udp = DatagramSocket(("0.0.0.0", 0), lambda _data, _address: None)
    wanted = [option for option in options if option[0] != socket.SOL_SOCKET]
    assert len(wanted) == 4
    try:
        assert not udp._segments
        monkeypatch.setattr(socket.socket, "setsockopt", lambda _socket, *option: options.append(option[:2]))
        for _ in range(2):
            udp.send(b"news", ("127.0.0.1", udp.address[1]))
            await asyncio.sleep(0.05)
        assert [options.count(option) for option in wanted] == [asked] * 4
        assert udp._segments == (asked > 1)
    finally:
        udp.close()


async def test_a_full_send_buffer_keeps_the_order_and_says_when_it_has_room(
    ends: tuple[DatagramLog, DatagramLog],
) -> None:
    near, far = ends
    full = True
    near.socket._socket = Stubborn(  # type: ignore[assignment]
        near.socket._socket, lambda _name: BlockingIOError() if full else None
    )
    datagrams, there = numbered(10, 400), far.socket.address
    near.socket.send_all([(b"".join(datagrams[:5]), 400, there)])
    assert near.socket.blocked
    near.socket.send_all([(b"".join(datagrams[5:9]), 400, there)])
    near.socket.send(datagrams[9], there)
    for _ in range(2000):
        near.socket.send(b"flood", far.socket.address)
    assert len(near.socket._queue) == 512
    full = False
    await far.until(512)
    assert far.datagrams[:10] == datagrams
    assert not near.socket.blocked
    assert near.writable == 1


async def test_what_no_network_would_carry_is_lost_without_a_word(ends: tuple[DatagramLog, DatagramLog]) -> None:
    near, far = ends
    near.socket.send(bytes(70_000), far.socket.address)
    near.socket.send(b"x", (far.socket.address[0], 0))
    near.socket.send_all([(bytes(131_000), 65_500, far.socket.address), (b"y", 1, far.socket.address)])
    await far.until(3)
    assert far.datagrams[-1] == b"y"


async def test_only_answers_leave_from_the_address_that_was_asked() -> None:
    """The attack: one byte from a forged source decided from where our own questions to that address left."""
    loop, told = asyncio.get_running_loop(), asyncio.Queue[bytes]()
    opened = DatagramSocket(("0.0.0.0", 0), lambda _data, source: told.put_nowait(opened.asked_by(source)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.sendto(b"\0", ("127.0.0.9", opened.address[1]))
        async with asyncio.timeout(5):
            asked = await told.get()
            assert (opened.host_of(asked), opened.asked_by(peer.getsockname())) == ("127.0.0.9", b"")
            for source, host in ((asked, "127.0.0.9"), (b"", "127.0.0.1"), (asked, "127.0.0.9")):
                opened.send(b"one", peer.getsockname(), source=source)
                opened.send_all([(b"traintrain", 5, peer.getsockname())], source=source)
                assert [(await loop.sock_recvfrom(peer, 100))[1][0] for _ in range(3)] == [host] * 3
    opened.close()


@pytest.mark.parametrize(
    ("ours", "theirs", "may"),
    [
        ("192.168.1.2", "203.0.113.7", True),
        ("127.0.0.9", "127.0.0.1", True),
        ("127.0.0.9", "192.168.1.2", False),
        ("169.254.1.2", "169.254.1.3", True),
        ("169.254.1.2", "192.168.1.2", False),
        ("fe80::1", "fe80::2%eth0", True),
        ("fe80::1", "fd00::2", False),
        ("::1", "2001:4860::1", False),
        ("fd00::1", "2001:4860::1", True),
    ],
)
def test_nobody_beyond_a_link_is_answered_from_its_address(ours: str, theirs: str, may: bool) -> None:
    assert _may_answer(ours, theirs) is may


async def test_a_fork_that_lives_on_keeps_no_port() -> None:
    log = DatagramLog()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"forked")
        signal.pause()
    try:
        os.read(reader, 6)
        address = log.socket.address
        await _sends_and_hears(log)
        log.socket.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as next_start:
            next_start.bind(address)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


async def _sends_and_hears(log: DatagramLog) -> None:
    log.socket.send(b"to itself", log.socket.address)
    await log.until(1)
