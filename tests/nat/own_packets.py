"""What leaves one machine, as a capture of all its packets shows: run by ``python -m tests.nat.own_network NAME``."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import ipaddress
import platform
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from pypatcher.artifact import sign_file
from pypatcher.discovery.links import GROUPS, all_interfaces
from pypatcher.keys import KeyPair, OwnerKey
from tests.nat.own_links import add_link, run_ip
from tests.support.devices import Device, compile_app, here

__all__ = ["PACKET_TESTS"]

_EVERYTHING, _OUTGOING, _UDP, _IGMP = 0x0003, 4, 17, 2
_ROUTER_PORTS = {1900, 5350, 5351}
_SECONDS = 30.0
_ENTRY = ("10.5.0.77", 6881)
_SOCKET_CALL = {"x86_64": 41, "aarch64": 198, "armv7l": 281}
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2


class Packet(NamedTuple):
    """An IPv4 or IPv6 packet that left over an interface."""

    interface: str
    protocol: int
    source: str
    destination: str
    port: int


class Capture:
    """All packets that leave this machine, but over loopback."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_EVERYTHING)
        )
        self.packets: list[Packet] = []
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def _receive(self) -> None:
        frame, (interface, kind, direction, *_) = self._socket.recvfrom(65536)
        packet = _packet(interface, kind, frame[14:])
        if direction == _OUTGOING and interface != "lo" and packet is not None:
            self.packets.append(packet)

    async def until(self, accept: Callable[[list[Packet]], object]) -> None:
        """Wait until that is so."""
        deadline = asyncio.get_running_loop().time() + _SECONDS
        while not accept(self.packets):
            assert asyncio.get_running_loop().time() < deadline, self.packets[-40:]
            await asyncio.sleep(0.05)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


def _packet(interface: str, kind: int, data: bytes) -> Packet | None:
    if kind == 0x0800:
        header, protocol = 4 * (data[0] & 15), data[9]
        source, destination = str(ipaddress.ip_address(data[12:16])), str(ipaddress.ip_address(data[16:20]))
    elif kind == 0x86DD:
        header, protocol = 40, data[6]
        source, destination = str(ipaddress.ip_address(data[8:24])), str(ipaddress.ip_address(data[24:40]))
    else:
        return None
    port = struct.unpack_from("!H", data, header + 2)[0] if protocol == _UDP else 0
    return Packet(interface, protocol, source, destination, port)


@asynccontextmanager
async def _device(host: str) -> AsyncIterator[Device]:
    """A device with all that a node does, whose only entry point does not answer."""
    with tempfile.TemporaryDirectory() as folder:
        key, path = KeyPair.generate(), compile_app(Path(folder) / "1.0.0", "1.0.0")
        sign_file(path, key, None, here())
        device = Device(Path(folder) / "device", path, OwnerKey(key.public), (_ENTRY,), host=host)
        try:
            yield device
        finally:
            await device.stop()


def _is_multicast(packet: Packet) -> bool:
    return packet.destination in {group for group, _ in GROUPS.values()}


def _asks_router(packet: Packet) -> bool:
    return packet.protocol == _UDP and packet.port in _ROUTER_PORTS


def _asks_entry(packet: Packet) -> bool:
    return packet.destination == _ENTRY[0]


def _two_networks() -> None:
    """One that the sockets are bound to, and another with the default route and a router."""
    add_link("d0", "10.5.0.1/24")
    add_link("d1", "10.6.0.1/24")
    run_ip("route add default via 10.6.0.254 dev d1")
    for interface, neighbour in (("d0", _ENTRY[0]), ("d1", "10.6.0.254")):  # nobody answers ARP
        run_ip(f"neighbour add {neighbour} lladdr 02:00:00:00:00:01 dev {interface} nud permanent")


async def a_node_bound_to_one_address_says_nothing_elsewhere() -> None:
    _two_networks()
    capture = Capture()
    async with _device("10.5.0.1") as device:
        started = await device.wait_for("node.started")
        await capture.until(lambda seen: sum(map(_asks_entry, seen)) > 3)
        await asyncio.sleep(5.0)
    assert {host.rpartition(":")[0] for host in (*started.addresses, *started.outside)} == {"10.5.0.1"}, started
    ours = [packet for packet in capture.packets if packet.protocol in (_UDP, _IGMP)]
    wrong = [packet for packet in ours if packet.source != "10.5.0.1" or packet.interface != "d0"]
    wrong += [packet for packet in ours if _is_multicast(packet) or _asks_router(packet)]
    assert wrong == [], wrong
    async with _device("0.0.0.0") as device:  # what the capture would see
        await device.wait_for("node.started")
        await capture.until(lambda seen: {one.interface for one in filter(_is_multicast, seen)} >= {"d0", "d1"})
        await capture.until(lambda seen: any(map(_asks_router, seen)) and any(map(_asks_entry, seen)))
    capture.close()


async def a_link_that_comes_late_hears_of_us_at_once() -> None:
    """In a LAN without a default route, as of a machine that starts before its switch."""
    async with _device("0.0.0.0") as device:
        await device.wait_for("node.started")
        await asyncio.sleep(2.0)
        add_link("late", "10.9.7.1/24")
        capture = Capture()
        await capture.until(lambda seen: any(_is_multicast(one) and one.interface == "late" for one in seen))
        capture.close()


async def a_sandbox_without_netlink_has_neighbours() -> None:
    """``RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX``, as many units have it."""
    add_link("d0", "10.9.8.1/24")
    capture = Capture()
    with tempfile.TemporaryDirectory():
        forbid_netlink()
        try:
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
        except OSError as error:
            assert error.errno == errno.EAFNOSUPPORT, error
        else:
            raise AssertionError("the filter does nothing")
        assert all_interfaces() != [0]
        async with _device("0.0.0.0") as device:
            started = await device.wait_for("node.started")
            await capture.until(lambda seen: any(map(_is_multicast, seen)))
        assert any(host.startswith("0.0.0.0:") for host in started.addresses), started
    capture.close()


def forbid_netlink() -> None:
    """No socket of AF_NETLINK from now on, for this process and its children (seccomp(2)); EAFNOSUPPORT instead."""
    number = _SOCKET_CALL[platform.machine()]
    steps = [  # struct sock_filter: code, jump if true, jump if false, value
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 3, number),
        (0x20, 0, 0, 16),  # load its first argument
        (0x15, 0, 1, socket.AF_NETLINK),
        (0x06, 0, 0, 0x00050000 | errno.EAFNOSUPPORT),
        (0x06, 0, 0, 0x7FFF0000),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, ctypes.byref(described), 0, 0)):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "no seccomp filter")


PACKET_TESTS: tuple[Callable[[], Awaitable[None]], ...] = (
    a_node_bound_to_one_address_says_nothing_elsewhere,
    a_link_that_comes_late_hears_of_us_at_once,
    a_sandbox_without_netlink_has_neighbours,
)
