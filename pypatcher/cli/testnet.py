"""``pypatcher testnet``: a private DHT on this machine, until it is stopped. Not here: its nodes (``dht.testnet``)."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from pypatcher.addresses import format_address, parse_address
from pypatcher.cli.options import add_json, print_json

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "run a private DHT on this machine and print its entry points"

EXAMPLES = """\
  pypatcher testnet --nodes 30
  pypatcher testnet --bind 192.168.7.1:6881
  PYPATCHER_BOOTSTRAP=127.0.0.1:6881 ./app      (a device that uses it)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``testnet``."""
    parser.add_argument("--nodes", type=int, default=30, metavar="N", help="how many nodes, 1 to 500 (default: 30)")
    parser.add_argument(
        "--bind",
        default="127.0.0.1:0",
        metavar="HOST:PORT",
        help="the first node's address, as devices reach it; the others use free ports (default: 127.0.0.1:0)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM; status 0.

    Raises:
        SettingError: the address or the number of nodes makes no sense, or the address cannot be bound.
    """
    host, port = parse_address(args.bind)
    asyncio.run(_serve(args.nodes, host, port, as_json=args.json))
    return 0


async def _serve(nodes: int, host: str, port: int, *, as_json: bool) -> None:
    from pypatcher.dht.testnet import Testnet

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with Testnet(nodes, host=host, port=port) as net:
        entries = ",".join(format_address(address) for address in net.bootstrap)
        if as_json:
            print_json({"bootstrap": entries.split(","), "nodes": nodes})
        else:
            print(f"{nodes} nodes are up; devices join with\nPYPATCHER_BOOTSTRAP={entries}")
        sys.stdout.flush()
        await stopped.wait()
