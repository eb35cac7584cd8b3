"""``pypatcher publish``: hands the owner's words to the network, in time if they are steps.

Arguments and printed words; no key and no program is needed. Not here: the pointer (``node.publish``).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pypatcher.cli.node_options import add_settings, read_settings
from pypatcher.cli.options import add_json, print_json
from pypatcher.errors import ManifestError, SettingError

if TYPE_CHECKING:
    from pypatcher.artifact.manifest import ManifestFile
    from pypatcher.node.publish import Keepers
    from pypatcher.settings import Settings

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "put a manifest into the network: a release's, the steps of a rollout in time, or its brake"
EXAMPLES = """\
  pypatcher publish app.manifest
  pypatcher publish app.steps --each 24h       opens one step a day, on any machine, without the key
  pypatcher publish app.hold                   stops the release, at night, without the key

It looks first, and refuses where the network shows a newer word of the owner's. DHT nodes forget it in two hours
unless a device or `seed` knows it by then and keeps it alive. Exit status 1: nobody answers, or the network shows
another word; steps end so, too, when the brake was published."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PAUSE = 30.0
_MOST = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``publish``."""
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="FILE.manifest, FILE.hold, or one FILE.steps"
    )
    parser.add_argument("--each", metavar="TIME", help="from one step to the next, such as 24h, 90m or 2d")
    parser.add_argument(
        "--until",
        metavar="N",
        type=int,
        help="go on until N nodes keep each of its four places, 20 at most (default: once)",
    )
    add_settings(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Publish, and say who keeps it.

    Raises:
        SettingError: the arguments make no sense.
        ManifestError: a file is no manifest, or the network shows another word.
        PeerError: nobody answers.
    """
    from pypatcher.artifact.beside import read_manifest, read_steps

    steps = [path for path in args.files if path.suffix == ".steps"]
    if (args.each is not None) != bool(steps) or (steps and len(args.files) > 1):
        raise SettingError("--each and one FILE.steps belong together: pypatcher publish app.steps --each 24h")
    if args.until is not None and not 1 <= args.until <= _MOST:
        raise SettingError(f"--until takes a number of nodes, from 1 to {_MOST}")
    settings = read_settings(args)
    if steps:
        asyncio.run(_open_steps(read_steps(steps[0]), steps[0], _seconds(args.each), settings, args.json))
        return 0
    words = []
    for path in args.files:
        word = read_manifest(path)
        if word is None:
            raise ManifestError(f"{path}: there is no such file")
        words.append(word)
    asyncio.run(_publish(words, settings, args.until, args.json))
    return 0


async def _publish(words: list[ManifestFile], settings: Settings, until: int | None, as_json: bool) -> None:
    from pypatcher.node.network import open_desk
    from pypatcher.node.publish import publish_word

    async with open_desk(words[0].owner, settings) as dht:
        for word in words:
            kept = await publish_word(dht, word)
            while until is not None and min(each.nodes for each in kept.values()) < until:
                await asyncio.sleep(_PAUSE)
                kept = await publish_word(dht, word)
            _say(word, kept, as_json)


async def _open_steps(steps: list[ManifestFile], path: Path, each: float, settings: Settings, as_json: bool) -> None:
    from pypatcher.node.network import open_desk
    from pypatcher.node.publish import Steps

    state = path.with_name(f"{path.name}.opened")
    async with open_desk(steps[0].owner, settings) as dht:
        await Steps(steps, state, each, time.time, lambda word, kept: _say(word, kept, as_json)).run(dht)


def _say(word: ManifestFile, kept: Mapping[str, Keepers], as_json: bool) -> None:
    from pypatcher.artifact.rollout import describe

    if as_json:
        places = {target: {"nodes": each.nodes, "networks": each.networks} for target, each in kept.items()}
        print_json({"version": str(word.terms.info.version), "seq": word.seq, "says": describe(word), "kept": places})
        return
    print(describe(word))
    for target, each in kept.items():
        print(f"  {target}: kept by {each.nodes} nodes or more at each of its places, in {each.networks} networks")
    print("  it fades in two hours unless a device or `pypatcher seed` takes it up")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None or not int(match[1]):
        raise SettingError(f"--each {text}: give a time such as 24h, 90m or 2d")
    return float(int(match[1]) * _UNITS[match[2]])
