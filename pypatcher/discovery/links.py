"""The links of this machine, and sockets that hear the multicast groups of BEP 14 on them. Linux's own calls live here.

A socket is bound to the group's address, so that only what was sent to the group arrives; packets travel one hop. Not
here: what is said and heard (``sources.lan``).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pypatcher.addresses import Address
from pypatcher.forks import keep_from_forks

__all__ = ["GROUPS", "Link", "address_on", "all_interfaces", "choose", "open_group"]

_log = logging.getLogger("pypatcher")

GROUPS: dict[int, Address] = {4: ("239.192.152.143", 6771), 6: ("ff15::efc0:988f", 6771)}
"""The multicast groups of BEP 14, by address family."""

_MOST = 256
_INTERFACES = Path("/proc/net/dev")
_SIOCGIFFLAGS = 0x8913
_LOOPBACK, _UP_AND_RUNNING = 0x8, 0x41
_IP_ALL, _IPV6_ALL = 49, 29  # IP_MULTICAST_ALL, IPV6_MULTICAST_ALL


@dataclass(frozen=True, slots=True)
class Link:
    """An interface that can send, and our address on it."""

    family: int
    index: int
    host: str


def all_interfaces() -> list[int]:
    """The indices of this machine's interfaces with a link, but for loopback; 0, the kernel's choice, if none can tell.

    Not by netlink, as ``if_nameindex`` asks: a sandbox may allow no such socket.
    """
    try:
        lines = _INTERFACES.read_text(encoding="ascii").splitlines()[2:]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            return sorted(_working(probe, [line.partition(":")[0].strip() for line in lines]))[:_MOST]
    except (OSError, UnicodeDecodeError):
        return [0]


def _working(probe: socket.socket, names: Iterable[str]) -> Iterator[int]:
    for name in names:
        with contextlib.suppress(OSError):
            answer = fcntl.ioctl(probe, _SIOCGIFFLAGS, struct.pack("16sh14x", name.encode("ascii"), 0))
            if struct.unpack_from("=h", answer, 16)[0] & (_UP_AND_RUNNING | _LOOPBACK) == _UP_AND_RUNNING:
                yield socket.if_nametoindex(name)


def address_on(family: int, index: int) -> str | None:
    """Our address from which something would leave for the group over that interface; None if nothing would."""
    try:
        with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            choose(probe, family, index)
            probe.connect(GROUPS[family])
            return str(probe.getsockname()[0])
    except OSError:
        return None


def open_group(family: int, interfaces: Iterable[int]) -> socket.socket | None:
    """A socket that hears the group on these interfaces; None if there can be none."""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    try:
        opened = keep_from_forks(socket.socket(kind, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK))
    except OSError as error:
        _log.debug("no multicast over IPv%d: %s", family, error.strerror)
        return None
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == 6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        else:
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        with contextlib.suppress(OSError):  # kernels before 4.20: what others joined is heard here too, to no harm
            level, option = (socket.IPPROTO_IPV6, _IPV6_ALL) if family == 6 else (socket.IPPROTO_IP, _IP_ALL)
            opened.setsockopt(level, option, 0)
        opened.bind(GROUPS[family])
        for index in interfaces:
            _join(opened, family, index)
    except OSError as error:
        _log.debug("no multicast over IPv%d: %s", family, error.strerror)
        opened.close()
        return None
    return opened


def _join(opened: socket.socket, family: int, index: int) -> None:
    packed = socket.inet_pton(opened.family, GROUPS[family][0])
    if family == 6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + struct.pack("@I", index))
    else:
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, packed + struct.pack("=4si", bytes(4), index))


def choose(opened: socket.socket, family: int, index: int) -> None:
    """Have a socket send to its group over that interface.

    Raises:
        OSError: it cannot.
    """
    if family == 6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        choice = struct.pack("=4s4si", bytes(4), bytes(4), index)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, choice)
