"""Arguments of the commands that are nodes: namespaces and the settings of ``settings``. No command lives here."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pypatcher.addresses import parse_addresses
from pypatcher.events import EventBus
from pypatcher.node.log import json_lines, plain_lines
from pypatcher.settings import Settings

__all__ = ["add_namespace", "add_settings", "event_bus", "read_settings"]


def add_namespace(parser: argparse.ArgumentParser) -> None:
    """``--namespace``."""
    parser.add_argument(
        "--namespace",
        choices=("pypatcher", "rustpatcher"),
        default="pypatcher",
        help="rustpatcher joins the devices of the Rust program of that name",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The settings that differ from call to call; each wins over its environment variable."""
    group = parser.add_argument_group("settings of the node (more: see README.md, Settings)")
    group.add_argument("--bootstrap", metavar="HOST:PORT,...", help="DHT entry points; empty for none")
    group.add_argument("--bind", metavar="HOST:PORT,...", help="addresses of the UDP sockets, one per family")
    group.add_argument("--state", metavar="DIR", type=Path, help="cache folder")


def read_settings(
    args: argparse.Namespace, environment: Mapping[str, str] = os.environ, *, by_hand: bool = True
) -> Settings:
    """The environment's settings, and the arguments' where given.

    Args:
        by_hand: a person waits, whose word it is that bytes may be spent on a metered device.

    Raises:
        SettingError: one of them makes no sense.
    """
    values: dict[str, object] = {}
    if by_hand:
        environment = {name: text for name, text in environment.items() if name != "PYPATCHER_METERED"}
    if args.bootstrap is not None:
        values["bootstrap"] = parse_addresses(args.bootstrap)
    if args.bind is not None:
        values["bind"] = parse_addresses(args.bind)
    if args.state is not None:
        values["state"] = args.state
    return Settings.from_environment(environment).replace(**values)


def event_bus(settings: Settings) -> EventBus:
    """Events on stderr: JSON lines if the settings say so, else plain lines."""
    bus = EventBus()
    bus.subscribe(json_lines() if settings.json_log else plain_lines(sys.stderr))
    return bus
