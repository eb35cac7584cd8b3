"""``pypatcher lookup``: what the network shows of an owner: his word, who announces releases, who is in the swarm.

Arguments and printed words. Not here: the pointer (``node.publish``), slots and swarm (``discovery``).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pypatcher.cli.node_options import add_settings, read_settings
from pypatcher.cli.options import add_json, add_target, print_json
from pypatcher.cli.owners import add_public_key, read_keys
from pypatcher.errors import PeerError
from pypatcher.targets import load_targets

if TYPE_CHECKING:
    from pypatcher.artifact.manifest import Manifest
    from pypatcher.keys import OwnerKey
    from pypatcher.settings import Settings

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "show what the network has of an owner: the newest manifest, and who announces which release"
EXAMPLES = """\
  pypatcher lookup --public-key K
  pypatcher lookup --public-key K --save app.manifest

Looks at the manifest's places, the slots and the swarm of each target. --save keeps the manifest that was found, with
the signatures of each target. Exit status 1: no DHT node answers, or there is nothing to save."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lookup``."""
    add_public_key(parser, required=True)
    add_target(parser, "which devices (default: all targets)")
    parser.add_argument("--save", metavar="FILE.manifest", type=Path, help="keep the manifest that was found there")
    add_settings(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Look, and print what is there.

    Raises:
        SettingError: an argument makes no sense.
        PeerError: no node answers, or there is nothing to save.
        ManifestError, CannotReplaceError: the manifest cannot be written, or something else is there.
    """
    from pypatcher.artifact.beside import add_word, check_manifest_place

    if args.save is not None:
        check_manifest_place(args.save)
    keys = read_keys(args.public_key)
    names = [args.target.name] if args.target is not None else sorted(load_targets())
    wanted = {name: key for name in names if (key := keys.get(name, keys.get(None))) is not None}
    found = asyncio.run(_look(wanted, read_settings(args)))
    words = [word for word, _ in found.values() if word is not None]
    if args.save is not None:
        if not words:
            raise PeerError("no manifest of the owner's was found: there is nothing to save")
        newest = max(word.seq for word in words)
        for word in words:
            if word.seq == newest:
                add_word(args.save, word)
    if args.json:
        print_json({name: values for name, (_, values) in found.items()})
    else:
        for name, (_, values) in found.items():
            _print(name, values)
    return 0


async def _look(wanted: dict[str, OwnerKey], settings: Settings) -> dict[str, tuple[Manifest | None, dict[str, Any]]]:
    return {name: await _look_at(name, key, settings) for name, key in wanted.items()}


async def _look_at(target: str, key: OwnerKey, settings: Settings) -> tuple[Manifest | None, dict[str, Any]]:
    from pypatcher.artifact.rollout import describe
    from pypatcher.discovery import Namespace
    from pypatcher.discovery.sources import Surroundings
    from pypatcher.discovery.sources.slots import slot_source
    from pypatcher.discovery.sources.swarm import swarm_source
    from pypatcher.node.cache import Memory
    from pypatcher.node.network import open_network
    from pypatcher.node.publish import view_pointer

    async with open_network(Namespace.ours(target, key), settings, Memory()) as network:
        await network.joined()
        view = await view_pointer(network.dht, key, target)
        around = Surroundings(network, settings, lambda _: None, random.Random(), time.monotonic)  # noqa: S311 - jitter
        slots = await slot_source(around).look()
        swarm = swarm_source(around)
        peers = () if swarm is None else (await swarm.look()).addresses
    named: dict[str, int] = {}
    for version, _ in {(str(each.info.version), each.node_id) for each in slots.candidates}:
        named[version] = named.get(version, 0) + 1
    values: dict[str, Any] = {"manifest": None, "slots": named, "swarm": len(peers)}
    if view.newest is not None:
        kept = view.kept(view.newest)
        values["manifest"] = {
            "version": str(view.newest.terms.info.version),
            "seq": view.newest.seq,
            "says": describe(view.newest),
            "nodes": kept.nodes,
            "networks": kept.networks,
        }
    return view.newest, values


def _print(target: str, values: dict[str, Any]) -> None:
    word = values["manifest"]
    print(f"{target}:")
    if word is None:
        print("  manifest: none")
    else:
        print(f"  manifest: {word['says']} (seq {word['seq']})")
        print(f"            kept by {word['nodes']} nodes or more at each place, in {word['networks']} networks")
    named = ", ".join(f"{version} by {count}" for version, count in sorted(values["slots"].items())) or "nothing"
    print(f"  slots:    {named}")
    print(f"  swarm:    {values['swarm']} addresses")
