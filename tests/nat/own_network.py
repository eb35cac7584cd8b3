"""What one machine does with its own addresses and interfaces: ``python -m tests.nat.own_network NAME``.

Each runs in a network namespace of its own, which ends with the process, and fails with a traceback. Needs root.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pypatcher.addresses import Address
from pypatcher.artifact import sign_file
from pypatcher.dht import MutableItem, Testnet, UdpDht
from pypatcher.discovery.links import all_interfaces
from pypatcher.discovery.sources.lan import Lan
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.transport import Connection, Endpoint, endpoint, internet_source
from pypatcher.udp import DatagramSocket
from tests.nat.own_links import add_link, run_ip
from tests.nat.own_packets import PACKET_TESTS
from tests.support.devices import Device, compile_app, here

_CLONE_NEWNET = 0x40000000
_SECONDS = 30.0


async def answers_leave_from_the_address_that_was_asked() -> None:
    add_link("d0", "10.5.0.1/24", "10.5.0.2/24", "10.5.0.9/24")
    run_ip(*(f"address add fd05::{number}/64 dev d0 nodad" for number in (1, 2, 9)))
    await _ask("0.0.0.0", "10.5.0.2", "10.5.0.9", 24)
    await _ask("::", "fd05::2", "fd05::9", 64)


async def _ask(bind: str, asked: str, asker: str, bits: int) -> None:
    """Ask at ``asked``, then once more after that is taken away."""
    loop = asyncio.get_running_loop()

    from_where = b""

    def answer(data: bytes, source: Address) -> None:
        nonlocal from_where
        from_where = opened.asked_by(source)
        opened.send(data, source, source=from_where)
        opened.send_all([(bytes(250), 100, source)], source=from_where)

    opened = DatagramSocket((bind, 0), answer)
    with socket.socket(opened.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as peer:
        peer.bind((asker, 0))
        peer.sendto(b"hello", (asked, opened.address[1]))
        for _ in range(4):
            _, source = await asyncio.wait_for(loop.sock_recvfrom(peer, 2000), _SECONDS)
            assert source[0] == asked, source
        run_ip(f"address delete {asked}/{bits} dev d0")
        opened.send(b"still here", peer.getsockname()[:2], source=from_where)
        _, source = await asyncio.wait_for(loop.sock_recvfrom(peer, 2000), _SECONDS)
        assert source[0] != asked, source
    opened.close()


async def a_transfer_survives_a_new_temporary_address() -> None:
    add_link("d0")
    run_ip("address add fd05::1/64 dev d0 nodad", "address add fd05::9/64 dev d0 nodad")
    run_ip("route add ::/0 dev d0")
    # To a peer on this machine the kernel takes no preferred address; to others it would.
    preferred = ["fd05::1"]
    endpoint.source_for = lambda _destination: preferred[0]  # type: ignore[assignment]
    giver = await Endpoint.open(KeyPair.generate(), [("::", 0)])
    taker = await Endpoint.open(KeyPair.generate(), [("fd05::9", 0)])
    go_on = asyncio.Event()

    async def give(connection: Connection) -> None:
        stream = await connection.open_uni()
        await stream.write(b"first")
        await go_on.wait()
        await stream.write(b"second")
        await stream.finish()
        await connection.wait_closed()

    giver.serve("a-test", give)
    connection = await taker.connect(("fd05::1", giver.addresses[0][1]), node_id=None, alpn="a-test")
    stream = await connection.accept_uni()
    assert await stream.read_exactly(5) == b"first"
    # A newer address, which new packets leave from; the one before is still valid.
    run_ip("address add fd05::2/64 dev d0 nodad", "address change fd05::1/64 dev d0 preferred_lft 0")
    preferred[0] = "fd05::2"
    giver.address_changed()
    go_on.set()
    assert await asyncio.wait_for(stream.read_exactly(6), _SECONDS) == b"second"
    connection.close()
    await taker.close()
    await giver.close()


async def no_packet_is_cut_in_two_on_the_way() -> None:
    """The fault: full packets did arrive at an interface that carries 1280 bytes, each of them in two parts."""
    run_ip("link set lo mtu 1280", "address add fd06::1/64 dev lo nodad")
    for host, fits in (("127.0.0.1", 1280 - 28), ("fd06::1", 1280 - 48)):
        cut = _cut_packets()
        giver, taker = [await Endpoint.open(KeyPair.generate(), [(host, 0)]) for _ in range(2)]
        await _give_much(giver, taker, fits)
        (udp,) = giver._sockets.values()
        udp.send_all([(b"\x40" + bytes(1399), 1400, taker.addresses[0])])  # what another way did carry
        assert _cut_packets() == cut, host
        # A datagram of the DHT has no smaller one to be tried instead of it, and is cut.
        giver.send_krpc(b"d" + bytes(1399), taker.addresses[0])
        assert _cut_packets() != cut, host
        await taker.close()
        await giver.close()


async def _give_much(giver: Endpoint, taker: Endpoint, fits: int) -> None:
    """Many trains, until both sides found that datagrams of so many bytes fit."""
    given: list[Connection] = []

    async def give(connection: Connection) -> None:
        given.append(connection)
        stream = await connection.open_uni()
        await stream.write(bytes(1_000_000))
        await stream.finish()
        await connection.wait_closed()

    giver.serve("a-test", give)
    connection = await taker.connect(giver.addresses[0], node_id=None, alpn="a-test")
    stream = await connection.accept_uni()
    stream.expect_much(1 << 20)
    async with asyncio.timeout(_SECONDS):
        await stream.read_exactly(1_000_000)
        while any(each._quic.datagram_size != fits for each in (connection, *given)):
            await asyncio.sleep(0.01)
    connection.close()


def _cut_packets() -> int:
    """Parts that this namespace made of IP packets, of both families."""
    names, numbers = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines()[:2])
    other = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    return int(numbers[names.index("FragCreates")]) + int(other["Ip6FragCreates"])


async def an_address_that_comes_later_is_used_when_it_comes() -> None:
    heard = asyncio.Event()
    opened = DatagramSocket(("10.6.0.1", 0), lambda _data, _source: heard.set())
    add_link("d0", "10.6.0.1/24")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"hello", opened.address)
    await asyncio.wait_for(heard.wait(), _SECONDS)
    opened.close()


async def a_null_route_for_documentation_is_no_missing_internet() -> None:
    assert internet_source(4) is None
    add_link("d0", "10.7.0.1/24")
    run_ip("route add default dev d0", "route add blackhole 192.0.2.0/24")
    assert internet_source(4) == "10.7.0.1"


class _Listener:
    def __init__(self) -> None:
        self.heard = asyncio.Event()

    def hear(self, _found: object) -> None:
        self.heard.set()


def _lan(port: int) -> Lan:
    return Lan(bytes(20), {4: port}, clock=time.monotonic, rng=random.Random(port))


async def any_of_forty_interfaces_has_neighbours() -> None:
    for number in range(40):
        add_link(f"v{number}", f"10.8.{number}.1/24")
    assert len(all_interfaces()) == 80  # both ends of each
    # The last one alone has a neighbour, in another namespace.
    await _meet("v39", "10.8.39.2/24", _lan(1000))


async def interfaces_that_come_and_go_leave_room_for_others() -> None:
    listener, lan = _Listener(), _lan(1000)
    running = asyncio.create_task(lan.run(listener))
    for _ in range(25):
        add_link("gone", "10.9.1.1/24")
        lan.address_changed()
        await asyncio.sleep(0.05)
        run_ip("link delete gone")
    running.cancel()
    add_link("late", "10.9.0.1/24")
    await _meet("late", "10.9.0.2/24", lan)


async def _meet(name: str, address: str, lan: Lan) -> None:
    """A neighbour at the other end of a link, once that is up, hears us within two politely spaced words, or we it."""
    listener = _Listener()
    running = asyncio.create_task(lan.run(listener))
    await asyncio.sleep(0)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.nat.own_network", "neighbour", address,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    run_ip(f"link set {name}p netns {process.pid}")
    process.stdin.close()
    try:
        await asyncio.wait_for(listener.heard.wait(), _SECONDS)
    finally:
        running.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def neighbour(address: str) -> None:
    """The other end: waits for its interface, and announces itself there."""
    print("in a network of its own", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    name = next(name for _, name in socket.if_nameindex() if name != "lo")
    run_ip(f"link set {name} up", f"address add {address} dev {name}")
    await _lan(2000).run(_Listener())


async def a_testnet_is_whole_at_private_addresses() -> None:
    await _use_testnet("192.168.7.1", "192.168.7.2", "192.168.7.3", "/24")


async def a_testnet_is_whole_behind_a_carriers_router() -> None:
    await _use_testnet("100.64.7.1", "100.64.7.2", "100.64.7.3", "/24")


async def a_testnet_is_whole_at_global_addresses() -> None:
    await _use_testnet("8.8.4.1", "8.8.4.2", "8.8.4.3", "/24")


async def a_testnet_is_whole_at_unique_local_ipv6() -> None:
    await _use_testnet("fd05::1", "fd05::2", "fd05::3", "/64 nodad")


async def a_testnet_is_whole_at_global_ipv6() -> None:
    await _use_testnet("2001:470:1::1", "2001:470:1::2", "2001:470:1::3", "/64 nodad")


async def _use_testnet(net_host: str, holder_host: str, device_host: str, bits: str) -> None:
    """Records are on as many nodes as anywhere, peers see their addresses, and a device takes another's release."""
    add_link("d0")
    size, _, option = bits.partition(" ")
    run_ip(*(f"address add {host}{size} dev d0 {option}" for host in (net_host, holder_host, device_host)))
    item = MutableItem.sign(KeyPair.from_seed(bytes(32)), b"salt", 1, b"v" * 900)
    async with Testnet(30, host=net_host) as net:
        async with UdpDht((device_host, 0), bootstrap=net.bootstrap) as dht:
            await dht.joined()
            assert await dht.put_mutable(item) >= 15
            assert (await dht.get_mutable(item.public_key, b"salt")).items == (item,)
            assert await dht.announce_peer(bytes(20)) >= 15
            assert dht.external_address == dht.address
        with tempfile.TemporaryDirectory() as folder:
            await _find_release(net, Path(folder), holder_host, device_host)


async def _find_release(net: Testnet, folder: Path, holder_host: str, device_host: str) -> None:
    key, devices = KeyPair.generate(), []
    for version, host in (("2.0.0", holder_host), ("1.0.0", device_host)):
        path = compile_app(folder / version, version)
        sign_file(path, key, None, here())
        devices.append(Device(folder / f"at-{version}", path, OwnerKey(key.public), net.bootstrap, host=host))
    published = await devices[0].wait_for("record.published")
    assert published.stored >= 15, published
    # Away from the LAN a fetch waits for a moment that both share, which comes within 40 s.
    await devices[1].wait_for("release.staged", seconds=90)
    for device in devices:
        await device.stop()


TESTS: tuple[Callable[[], Awaitable[None]], ...] = (
    answers_leave_from_the_address_that_was_asked,
    a_transfer_survives_a_new_temporary_address,
    no_packet_is_cut_in_two_on_the_way,
    an_address_that_comes_later_is_used_when_it_comes,
    a_null_route_for_documentation_is_no_missing_internet,
    any_of_forty_interfaces_has_neighbours,
    interfaces_that_come_and_go_leave_room_for_others,
    a_testnet_is_whole_at_private_addresses,
    a_testnet_is_whole_behind_a_carriers_router,
    a_testnet_is_whole_at_global_addresses,
    a_testnet_is_whole_at_unique_local_ipv6,
    a_testnet_is_whole_at_global_ipv6,
    *PACKET_TESTS,
)


def main() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace")
    run_ip("link set lo up")
    tests = {test.__name__: test for test in TESTS}
    test = tests.get(sys.argv[1])
    asyncio.run(neighbour(sys.argv[2]) if test is None else test())  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
