"""The testnet and the standalone node on real sockets, loopback only."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable

import pytest

from pypatcher.addresses import Address, parse_address
from pypatcher.cli import testnet as command
from pypatcher.dht import MutableItem, Testnet, UdpDht
from pypatcher.errors import SettingError
from pypatcher.keys import KeyPair

_PAIR = KeyPair.from_seed(bytes(32))
_ITEM = MutableItem.sign(_PAIR, b"salt", 1, b"v" * 996)


async def test_a_testnet_of_thirty_is_up_and_usable_within_a_second_or_so() -> None:
    started = time.monotonic()
    async with Testnet(30, host="127.81.0.1") as net:
        assert len(net.bootstrap) == 3
        async with (
            UdpDht(("127.81.0.2", 0), bootstrap=net.bootstrap) as writer,
            UdpDht(("127.81.0.3", 0), bootstrap=net.bootstrap[1:]) as reader,
        ):
            await writer.joined()
            await reader.joined()
            assert await writer.put_mutable(_ITEM) >= 15
            assert (await reader.get_mutable(_PAIR.public, b"salt")).items == (_ITEM,)
            assert await writer.announce_peer(b"\x01" * 20) >= 15
            assert await reader.get_peers(b"\x01" * 20) == [writer.address]
            assert writer.external_address == writer.address
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("nodes", [1, 2, 3])
async def test_a_handful_of_nodes_is_enough(nodes: int) -> None:
    async with (
        Testnet(nodes, host="127.82.0.1") as net,
        UdpDht(("127.82.0.2", 0), bootstrap=net.bootstrap) as writer,
        UdpDht(("127.82.0.3", 0), bootstrap=net.bootstrap) as reader,
    ):
        await writer.joined()
        await reader.joined()
        assert await writer.put_mutable(_ITEM) >= nodes
        assert (await reader.get_mutable(_PAIR.public, b"salt")).items == (_ITEM,)


async def test_a_forged_packet_chooses_no_source_for_our_questions() -> None:
    """The attack: one byte in a node's name, to an address of ours that it cannot answer."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as node:
        node.bind(("127.0.0.1", 0))
        async with UdpDht(("0.0.0.0", 0), bootstrap=[node.getsockname()]) as dht, asyncio.timeout(10):
            for _ in range(3):
                node.sendto(b"d", ("127.0.0.9", dht.address[1]))
                assert (await loop.sock_recvfrom(node, 2000))[1][0] == "127.0.0.1"


async def test_both_families_are_used_where_there_are_two() -> None:
    async with (
        UdpDht([("127.83.0.1", 0), ("::1", 0)]) as first,
        UdpDht([("127.83.0.2", 0), ("::1", 0)], bootstrap=first.addresses) as second,
    ):
        async with asyncio.timeout(5):
            await second.joined()
            while len(second.nodes()) < 2:
                await asyncio.sleep(0.01)
        assert await second.put_mutable(_ITEM) == 2
        assert (await second.get_mutable(_PAIR.public, b"salt")).items == (_ITEM,)


async def test_an_address_in_use_is_one_clear_error() -> None:
    async with UdpDht(("127.84.0.1", 0)) as dht:
        with pytest.raises(SettingError, match=r"cannot bind 127\.84\.0\.1"):
            await UdpDht(dht.address).open()
        with pytest.raises(SettingError, match="cannot bind"):
            await Testnet(3, host=dht.address[0], port=dht.address[1]).start()


@pytest.mark.parametrize(("nodes", "host"), [(0, "127.0.0.1"), (501, "127.0.0.1"), (3, "0.0.0.0"), (3, "localhost")])
def test_numbers_and_hosts_that_make_no_sense_are_refused(nodes: int, host: str) -> None:
    with pytest.raises(SettingError):
        Testnet(nodes, host=host)


async def test_garbage_from_the_network_stops_nobody() -> None:
    async with Testnet(2, host="127.85.0.1") as net:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hostile:
            hostile.bind(("127.85.0.9", 0))
            for data in (b"", b"d1:", b"\xff" * 60_000, b"d" * 5000, b"d2:ip6:aaaaaa1:rdee"):
                hostile.sendto(data, net.bootstrap[0])
        async with UdpDht(("127.85.0.2", 0), bootstrap=net.bootstrap[:1]) as dht:
            await dht.joined()
            assert await dht.ping(net.bootstrap[0])


async def test_a_closed_dht_leaves_no_task_and_no_socket() -> None:
    async with Testnet(5, host="127.86.0.1") as net:
        address = net.bootstrap[0]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(address)


_PROGRAM = """
import argparse, sys
from pypatcher.cli import testnet
parser = argparse.ArgumentParser()
testnet.add_arguments(parser)
sys.exit(testnet.run(parser.parse_args()))
"""


async def _with_command(*arguments: str, use: Callable[[list[str]], Awaitable[None]], stop: signal.Signals) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            lines = [(await process.stdout.readline()).decode()]
            while "127." not in lines[-1]:
                lines.append((await process.stdout.readline()).decode())
            await use(lines)
            process.send_signal(stop)
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _use(entries: list[Address]) -> None:
    async with UdpDht(("127.87.0.2", 0), bootstrap=entries) as dht:
        await dht.joined()
        assert await dht.put_mutable(_ITEM) >= 5


async def test_the_command_prints_entry_points_and_ends_when_told() -> None:
    async def plain(lines: list[str]) -> None:
        variable, _, entries = lines[-1].strip().partition("=")
        assert variable == "PYPATCHER_BOOTSTRAP"
        await _use([parse_address(entry) for entry in entries.split(",")])

    assert await _with_command("--nodes", "8", "--bind", "127.87.0.1:0", use=plain, stop=signal.SIGTERM) == 0


async def test_the_command_speaks_json_to_scripts() -> None:
    async def use(lines: list[str]) -> None:
        told = json.loads(lines[0])
        assert told["nodes"] == 5
        await _use([parse_address(entry) for entry in told["bootstrap"]])

    assert await _with_command("--nodes", "5", "--bind", "127.88.0.1:0", "--json", use=use, stop=signal.SIGINT) == 0


def test_the_command_refuses_an_address_that_is_none() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    for wrong in ("127.0.0.1", "0.0.0.0:0"):
        with pytest.raises(SettingError):
            command.run(parser.parse_args(["--bind", wrong]))
