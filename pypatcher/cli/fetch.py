"""``pypatcher fetch``: the newest verified release, from the network to a file, or with ``--check`` only its version.

Installs nothing. Not here: how holders are found and asked (``node.fetch_newest``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pypatcher.addresses import Address, family, parse_address
from pypatcher.cli.node_options import add_namespace, add_settings, event_bus, read_settings
from pypatcher.cli.options import add_json, add_target, print_json, report_done, version
from pypatcher.cli.owners import add_public_key, one_owner
from pypatcher.cli.progress import progress_bar
from pypatcher.errors import PeerError, SettingError

if TYPE_CHECKING:
    from pypatcher.node.fetch_newest import Acquired, Newest
    from pypatcher.settings import Settings
    from pypatcher.targets import Target

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "fetch the newest release of an owner to a file"
EXAMPLES = """\
  pypatcher fetch --public-key K --out app
  pypatcher fetch --public-key ... --target armv7 --min-version 1.4.0 --out app
  pypatcher fetch --public-key ... --peer NODEID@192.0.2.7:6881 --out app
  pypatcher fetch --public-key ... --check --min-version 1.4.0 && echo "somebody has it"

The file is written whole and verified, or not at all; --check writes nothing and only says what is newest. Exit
status 1: nobody has such a release. It is fetched from the first node that is heard to have it; then fetch waits
until three agree that it is the newest, or for --timeout: so with a small fleet, say --timeout 10."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``fetch``."""
    add_public_key(parser, required=True)
    add_target(parser, "whose releases (default: this machine's target)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--out", metavar="FILE", type=Path, help="where to write it, over nothing but a release of this owner's"
    )
    what.add_argument("--check", action="store_true", help="fetch nothing: say which release is the newest")
    parser.add_argument("--peer", metavar="NODEID@HOST:PORT", help="ask this node alone, without discovery")
    parser.add_argument(
        "--from",
        dest="old",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="an older file of the program: only what it does not have is fetched, where the release has a manifest; "
        "may be given several times (what is at --out is used anyhow)",
    )
    parser.add_argument("--min-version", metavar="X.Y.Z", type=version, help="the lowest version that will do")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="how long to look for what is newest; three nodes that agree end it early; while somebody may have it who "
        "was not reached yet, up to 8 times as long (default: 60)",
    )
    add_namespace(parser)
    add_settings(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Fetch, or only look, and say what and how sure.

    Raises:
        PatcherError: nobody has, or nobody delivered, such a release.
    """
    if not 1 <= args.timeout <= 86400:
        raise SettingError("--timeout takes seconds, from 1 to 86400")
    settings = read_settings(args)
    if missing := next((path for path in args.old if not path.is_file()), None):
        raise SettingError(f"--from {missing}: there is no such file")
    if args.check:
        return _check(args, settings)
    if args.peer is not None and args.old:
        raise SettingError("--from needs the owner's word, which --peer does not ask for: give one of them")
    peer = None if args.peer is None else _read_peer(args.peer, settings)
    acquired = asyncio.run(_fetch(args, peer, settings))
    values = {
        "version": str(acquired.info.version),
        "size": acquired.info.file_size,
        "out": str(args.out),
        "peer": acquired.peer,
        "sources": acquired.sources,
        "older": acquired.others,
    }
    alone = f"from {acquired.peer}; nobody else was asked, so there may be a newer one"
    sure = _how_sure(acquired.sources, acquired.others) if acquired.sources else alone
    return report_done(values, f"{args.out}: version {acquired.info.version}, verified; {sure}", as_json=args.json)


def _check(args: argparse.Namespace, settings: Settings) -> int:
    if args.peer is not None:
        raise SettingError("--check asks all whom it finds, --peer one alone: give one of them")
    newest = asyncio.run(_look(args, settings))
    info, error = newest.info, None
    if args.min_version is not None and info.version < args.min_version:
        error = f"the newest release heard of is {info.version}, older than {args.min_version}"
    if args.json:
        found = {
            "version": str(info.version),
            "size": info.file_size,
            "sources": newest.sources,
            "older": newest.others,
        }
        print_json(found if error is None else found | {"error": error})
    else:
        print(f"version {info.version}, {info.file_size} bytes; {_how_sure(newest.sources, newest.others)}")
    if error is not None:
        print(f"pypatcher fetch: {error}", file=sys.stderr)
    return 0 if error is None else 1


async def _look(args: argparse.Namespace, settings: Settings) -> Newest:
    from pypatcher.node.cache import Memory
    from pypatcher.node.fetch_newest import hear_newest
    from pypatcher.node.network import open_network
    from pypatcher.node.node import namespace_for

    owner, named = one_owner(args.public_key, args.target)
    namespace = namespace_for(args.namespace, named or _own_target(), owner)
    async with open_network(namespace, settings, Memory()) as network:
        return await hear_newest(network, settings, args.timeout, event_bus(settings).emit)


async def _fetch(args: argparse.Namespace, peer: tuple[bytes, Address] | None, settings: Settings) -> Acquired:
    from pypatcher.artifact.beside import add_word, check_manifest_place, manifest_path
    from pypatcher.node.cache import Memory
    from pypatcher.node.fetch_newest import Acquirer
    from pypatcher.node.network import open_network
    from pypatcher.node.node import namespace_for
    from pypatcher.update.outfile import OutFile

    bus = event_bus(settings)
    owner, named = one_owner(args.public_key, args.target)
    target = named or _own_target()
    checked = None if args.namespace == "rustpatcher" and named is None else target
    namespace = namespace_for(args.namespace, target, owner)
    with OutFile(args.out, owner, checked, args.min_version, args.old) as out:
        check_manifest_place(manifest_path(args.out))
        async with open_network(namespace, settings, Memory()) as network:
            with progress_bar(bus):
                acquirer = Acquirer(network, out, settings, bus.emit, _say(settings))
                acquired = await (acquirer.newest(args.timeout) if peer is None else acquirer.from_peer(*peer))
            out.keep()
    word = acquirer.word
    if word is not None and word.current is not None and word.current.terms.info == acquired.info:
        add_word(manifest_path(args.out), word.current)
    return acquired


def _say(settings: Settings) -> Callable[[str], None]:
    """Where a person reads what is waited for: beside the events, in their form."""

    def say(line: str) -> None:
        event = json.dumps({"event": "log", "level": "info", "message": line}) if settings.json_log else line
        print(event, file=sys.stderr, flush=True)

    return say


def _own_target() -> Target:
    from pypatcher.node.device import own_target

    interpreter = Path(sys.executable)
    return own_target(interpreter, interpreter)


def _read_peer(text: str, settings: Settings) -> tuple[bytes, Address]:
    node_id, at, address = text.partition("@")
    try:
        key = bytes.fromhex(node_id)
    except ValueError:
        key = b""
    if not at or len(key) != 32 or len(node_id) != 64:
        raise SettingError(f"--peer {text!r}: write NODEID@HOST:PORT, with the 64 hex digits that node.started shows")
    host, port = parse_address(address)
    if not port:
        raise SettingError(f"--peer {text!r}: give the port that its node listens at, as node.started shows")
    return key, _resolve(host, port, {family(bound) for bound in settings.bind})


def _resolve(host: str, port: int, families: set[int]) -> Address:
    """The first address of a host in a family that we have a socket of."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise PeerError(f"{host} cannot be found: {error.strerror}") from None
    for *_, (address, *_rest) in found:
        if family((str(address), port)) in families:
            return str(address), port
    raise PeerError(f"{host} has no address of a family that is bound here")


def _how_sure(sources: int, others: int) -> str:
    from pypatcher.node.fetch_newest import ENOUGH_SOURCES

    nodes = "1 node says" if sources == 1 else f"{sources} nodes say"
    sure = "" if sources >= ENOUGH_SOURCES else "; fewer than three, so there may be a newer one"
    return f"{nodes} that it is the newest, {others} had an older one{sure}"
