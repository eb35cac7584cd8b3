"""``pypatcher netcheck``: what this network lets through, in words that a person can act on.

Prints. Not here: the probes and what they mean (``netcheck``).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path

from pypatcher.cli.node_options import add_namespace, add_settings, read_settings
from pypatcher.cli.options import add_json, add_target, print_json
from pypatcher.cli.owners import add_public_key, one_owner
from pypatcher.errors import SettingError
from pypatcher.keys import OwnerKey

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say what this network lets through, and what to do about it"
EXAMPLES = """\
  pypatcher netcheck
  pypatcher netcheck --public-key K     (also: who answers)

Sends what a device sends: a few dozen packets to the DHT, questions to the router, pings to the fleet. Exit status 1:
a device here finds nobody on the Internet."""

_MARKS = {True: "ok", False: "NO", None: "--"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``netcheck``."""
    add_public_key(parser, "whose fleet to look for: its owner's public key", required=False)
    add_target(parser, "which devices of the fleet (default: this machine's target)")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=20.0,
        help="how long to wait for the first DHT node (default: 20)",
    )
    add_namespace(parser)
    add_settings(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Check, and say what was found.

    Raises:
        SettingError: an argument makes no sense.
    """
    from pypatcher.netcheck.advice import judge, router_kind, works
    from pypatcher.netcheck.probe import check_network
    from pypatcher.node.device import own_target
    from pypatcher.node.node import namespace_for

    if not 1 <= args.timeout <= 600:
        raise SettingError("--timeout takes seconds, from 1 to 600")
    interpreter = Path(sys.executable)
    # Without an owner, a namespace that nobody else is in.
    owner, target = OwnerKey(os.urandom(32)), args.target
    if args.public_key is not None:
        owner, target = one_owner(args.public_key, args.target)
    namespace = namespace_for(args.namespace, target or own_target(interpreter, interpreter), owner)
    settings = read_settings(args)
    fleet = args.public_key is not None
    findings = asyncio.run(check_network(namespace, settings, seconds=args.timeout, fleet=fleet))
    verdicts = judge(findings)
    if args.json:
        print_json(
            {"works": works(findings), "nat": router_kind(findings), **asdict(findings)}
            | {"verdicts": [asdict(verdict) for verdict in verdicts]}
        )
    else:
        for verdict in verdicts:
            print(f"{_MARKS[verdict.good]}  {verdict.topic:<10} {verdict.text}")
            for line in textwrap.wrap(verdict.advice, 100):
                print(f"{'':<15}{line}")
    return 0 if works(findings) else 1
