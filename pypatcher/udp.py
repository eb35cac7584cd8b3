"""The UDP socket of a node, of the DHT and of QUIC: many datagrams per wake-up in, many per system call out.

Knows nothing of what they carry. design.md "Transport and transfer": the socket is read until it is empty or 64 reads
were made, and the owner is then told once that the batch is over. Linux joins datagrams of one sender for us
(``UDP_GRO``) and takes a train of equal ones in one call (``UDP_SEGMENT``); both are used where the kernel has them.
A socket that is bound to every address tells which one a datagram asked (``IP_PKTINFO``), so that its owner can answer
from there: who asked a second address, or one that IPv6 has changed since, knows no other. Nothing of it is remembered
here: anybody can forge a datagram's source, and can send it to any address of ours. What has no such source leaves from
the address that the routing table chooses.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable

from pypatcher.addresses import Address, socket_family
from pypatcher.forks import keep_from_forks

__all__ = ["DatagramSocket"]

_log = logging.getLogger("pypatcher")
_UDP_SEGMENT, _UDP_GRO = 103, 104
_READS_PER_WAKE_UP, _BYTES_PER_WAKE_UP = 64, 1 << 18
"""What comes with more is read in the next turn of the loop: whoever sends is to hear of what came meanwhile."""
_BUFFER = 1 << 21
_QUEUE = 512
_FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}
_LARGEST = 65536
_SURE = 1200
"""Bytes that every path carries whole; a single datagram of more is cut by the system where it has to be."""
_WHOLE = {
    socket.AF_INET: ((socket.IPPROTO_IP, 10, 3),),  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
    socket.AF_INET6: ((socket.IPPROTO_IPV6, 23, 3), (socket.IPPROTO_IPV6, 62, 1)),  # and IPV6_DONTFRAG
}
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50
_ANCILLARY = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(20)
_NO_MEMORY = frozenset((errno.ENOBUFS, errno.ENOMEM))
_NO_TRAINS = frozenset((errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT))
_MOST_REFUSED, _APART = 64, 256


class DatagramSocket:
    """A bound, non-blocking UDP socket in the running loop."""

    def __init__(
        self,
        bind: Address,
        on_datagram: Callable[[bytes, Address], None],
        on_batch_end: Callable[[], None] = lambda: None,
        on_writable: Callable[[], None] = lambda: None,
        on_train: Callable[[bytes, int, Address], None] | None = None,
    ) -> None:
        """Bind; an IPv6 socket is for IPv6 alone.

        Args:
            bind: its address.
            on_datagram: takes a datagram, and where it came from.
            on_batch_end: is told when no more came with them.
            on_writable: is told when the system takes more again.
            on_train: takes datagrams of one sender, joined: all of them have so many bytes, or the last one fewer.
                Default: they go to ``on_datagram``.

        Raises:
            OSError: the address cannot be bound.
        """
        self.family = socket_family(bind)
        self._on_datagram, self._on_batch_end, self._on_writable = on_datagram, on_batch_end, on_writable
        self._on_train = on_train or self._take_apart
        self._queue: deque[tuple[bytes, Address, bytes]] = deque()
        self._delivering: tuple[Address, bytes] | None = None
        """Whose datagram, and pktinfo of the address of ours that it asked."""
        self._segments = False
        self._refused: dict[Address, list[int]] = {}
        """Where no trains go: of datagrams from which size on, and for how many more that is taken for true."""
        self._wanted = [
            (socket.IPPROTO_UDP, _UDP_SEGMENT, 0), (socket.IPPROTO_UDP, _UDP_GRO, 1), *_WHOLE[self.family],
        ]  # fmt: skip
        """Options that are not set yet, of those that not every system has."""
        self._loop = asyncio.get_running_loop()
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = keep_from_forks(socket.socket(self.family, kind))
        try:
            if self.family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            if ipaddress.ip_address(bind[0]).is_unspecified:
                v6 = self.family == socket.AF_INET6
                self._wanted.append(
                    (socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1) if v6 else (socket.IPPROTO_IP, _IP_PKTINFO, 1)
                )
            self._set_wanted()
            self._bind(bind)
        except OSError:
            self._socket.close()
            raise
        host, port = self._socket.getsockname()[:2]
        self.address: Address = (host, port)
        self._loop.add_reader(self._socket, self._read)

    @property
    def blocked(self) -> bool:
        """Whether the system takes no more for now; ``on_writable`` tells when it does again."""
        return bool(self._queue)

    def asked_by(self, address: Address) -> bytes:
        """Which address of ours ``address`` asked, if its datagram is being delivered now: a ``source`` to answer from.

        Empty if that is not known, or if nothing could be answered from there.
        """
        if self._delivering is None or self._delivering[0] != address:
            return b""
        asked = self._delivering[1]
        return asked if asked and _may_answer(self.host_of(asked), address[0]) else b""

    def host_of(self, source: bytes) -> str:
        """The address that `asked_by` told."""
        return socket.inet_ntop(self.family, source[:16] if self.family == socket.AF_INET6 else source[4:8])

    def send(self, data: bytes, address: Address, *, source: bytes = b"") -> None:
        """Send one datagram, in parts where it is too large; one that cannot be sent is lost, as on any network.

        Args:
            source: the address of ours that it leaves from while that is ours, as `asked_by` told; else, and if it is
                empty, where the routing table says.
        """
        if len(data) <= _SURE:
            self._send_one(data, address, source)
            return
        for level, option, _ in _WHOLE[self.family]:
            self._set(level, option, 0)
        self._send_one(data, address, source)
        for each in _WHOLE[self.family]:
            self._set(*each)

    def send_all(self, trains: Iterable[tuple[bytes, int, Address]], *, source: bytes = b"") -> None:
        """Send datagrams in their order, each train of them in one system call, and none in parts: who sends them finds
        out what the way carries (RFC 9000 section 14).

        Args:
            trains: joined datagrams, the size of each, of which the last may have less, and where they go; of no more
                than the system takes at once.
        """
        for data, size, address in trains:
            if len(data) <= size or not self._segments or self._queue or self._is_refused(size, address):
                self._send_apart(data, size, address, source)
            elif not self._send_train(data, size, address, source):
                self._wait(_apart(data, size, address), source)

    def close(self) -> None:
        """Stop reading and close; what is still queued is lost."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._queue.clear()

    def _bind(self, bind: Address) -> None:
        """Where the address is none of this machine's yet, as before a VPN is up, the socket waits for it."""
        try:
            self._socket.bind(bind)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            self._socket.setsockopt(*_FREEBIND[self.family], 1)
            self._socket.bind(bind)
            _log.warning("%s is no address of this machine now; it is used from when it is one", bind[0])

    def _set(self, level: int, option: int, value: int) -> None:
        with contextlib.suppress(OSError):  # a system that does not know it
            self._socket.setsockopt(level, option, value)

    def _set_wanted(self) -> None:
        """What the system lacks is given up; what it had no memory for stays wanted."""
        wanted, self._wanted = self._wanted, []
        for level, option, value in wanted:
            try:
                self._socket.setsockopt(level, option, value)
                self._segments = self._segments or option == _UDP_SEGMENT
            except OSError as error:
                if error.errno in _NO_MEMORY:
                    self._wanted.append((level, option, value))

    def _read(self) -> None:
        receive, deliver = self._socket.recvmsg, self._on_datagram
        left = _BYTES_PER_WAKE_UP
        for _ in range(_READS_PER_WAKE_UP):
            if left <= 0:
                break
            try:
                data, ancillary, _, source = receive(_LARGEST, _ANCILLARY)
            except BlockingIOError:
                break
            except OSError:
                # An ICMP error about something we sent earlier; the socket itself is fine.
                continue
            left -= len(data)
            address = (source[0], source[1])
            size, asked = 0, b""
            for level, kind, content in ancillary:
                if level == socket.IPPROTO_UDP and kind == _UDP_GRO:
                    size = struct.unpack_from("=i", content)[0]
                else:
                    asked = asked or _answer_from(level, kind, content)
            self._delivering = address, asked
            if 0 < size < len(data):
                self._on_train(data, size, address)
            else:
                deliver(data, address)
            if self._socket.fileno() < 0:
                return
        self._delivering = None
        if self._wanted:
            self._set_wanted()
        self._on_batch_end()

    def _take_apart(self, data: bytes, size: int, address: Address) -> None:
        for each, source in _apart(data, size, address):
            self._on_datagram(each, source)

    def _from(self, source: bytes) -> list[tuple[int, int, bytes]]:
        v6 = self.family == socket.AF_INET6
        return [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, source) if v6 else (socket.IPPROTO_IP, _IP_PKTINFO, source)]

    def _send_now(self, data: bytes, address: Address, source: bytes) -> bool:
        try:
            if source:
                try:
                    self._socket.sendmsg((data,), self._from(source), 0, address)
                except BlockingIOError:
                    raise
                except OSError:
                    pass  # that address is ours no more, perhaps
                else:
                    return True
            self._socket.sendto(data, address)
        except BlockingIOError:
            return False
        except OSError:
            # Too large for the route, no route, forbidden, a forged port 0: lost on the way.
            pass
        return True

    def _send_train(self, data: bytes, size: int, address: Address, source: bytes) -> bool:
        control = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size))]
        try:
            self._socket.sendmsg((data,), [*control, *(self._from(source) if source else ())], 0, address)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _NO_TRAINS:
                while len(self._refused) >= _MOST_REFUSED:
                    del self._refused[next(iter(self._refused))]
                self._refused[address] = [size, _APART]
            self._send_apart(data, size, address, source)
        return True

    def _is_refused(self, size: int, address: Address) -> bool:
        """Whether no train of datagrams of that size goes there, or none did when it was tried last.

        That is the way's own: its interface carries less (EINVAL), or encrypts (EIO). Other ways take trains.
        """
        refused = self._refused.get(address)
        if refused is None or size < refused[0]:
            return False
        refused[1] -= 1
        if refused[1] < 0:
            del self._refused[address]
            return False
        return True

    def _send_apart(self, data: bytes, size: int, address: Address, source: bytes) -> None:
        for each, _ in [(data, address)] if len(data) <= size else _apart(data, size, address):
            self._send_one(each, address, source)

    def _send_one(self, data: bytes, address: Address, source: bytes) -> None:
        if self._queue:
            if len(self._queue) < _QUEUE:
                self._queue.append((data, address, source))
        elif not self._send_now(data, address, source):
            self._wait(((data, address),), source)

    def _wait(self, datagrams: Iterable[tuple[bytes, Address]], source: bytes) -> None:
        self._queue.extend((data, address, source) for data, address in datagrams)
        if self._queue:
            self._loop.add_writer(self._socket, self._drain)

    def _drain(self) -> None:
        while self._queue:
            if not self._send_now(*self._queue[0]):
                return
            self._queue.popleft()
        self._loop.remove_writer(self._socket)
        self._on_writable()


def _answer_from(level: int, kind: int, content: bytes) -> bytes:
    """Pktinfo of what arrived as pktinfo of an answer: from the same address, over whatever interface leads there."""
    if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
        return bytes(4) + content[4:8] + bytes(4)
    if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO) and content[0] != 0xFF:
        is_link_local = content[0] == 0xFE and content[1] & 0xC0 == 0x80
        return content[:16] + (content[16:20] if is_link_local else bytes(4))
    return b""


@functools.lru_cache(256)
def _may_answer(ours: str, theirs: str) -> bool:
    """From loopback and a link nothing reaches who is not there, too: whoever asks from beyond is forged."""
    source, destination = (ipaddress.ip_address(host.partition("%")[0]) for host in (ours, theirs))
    return source.is_loopback <= destination.is_loopback and source.is_link_local <= destination.is_link_local


def _apart(data: bytes, size: int, address: Address) -> list[tuple[bytes, Address]]:
    """Each datagram of a train."""
    return [(data[start : start + size], address) for start in range(0, len(data), size)]
