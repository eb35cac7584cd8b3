"""``pypatcher seed``: offers signed releases from a machine that does not run them.

Arguments, and nothing else. Not here: the nodes (``node.seed``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from pypatcher.cli.node_options import add_namespace, add_settings, event_bus, read_settings
from pypatcher.cli.options import target
from pypatcher.cli.owners import add_public_key, read_keys
from pypatcher.errors import SettingError
from pypatcher.node.log import stderr_handler
from pypatcher.tasks import Threads, run_in_loop

if TYPE_CHECKING:
    from pypatcher.node.seedfile import SeedFile
    from pypatcher.settings import Settings

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "offer signed releases to the fleet, without installing or running them"
EXAMPLES = """\
  pypatcher seed app --public-key K
  pypatcher seed app-armv7 app-aarch64 --public-key armv7=K1 --public-key aarch64=K2
  pypatcher seed app.pyz --target armv7 --target aarch64 --public-key any.pub --for 86400

One file per target, of whatever machine. Each is verified before anything is announced, and no longer offered once it
is changed or replaced, until it verifies again. Runs until it is stopped, with status 0. PYPATCHER_UPLOAD
(bytes a second) and PYPATCHER_UPLOAD_DAY bound all files together; with ports in --bind, the second file takes the next
port. Exit status 1: a file does not verify."""

_LONGEST = 366 * 86400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``seed``."""
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a signed release")
    add_public_key(parser, required=True)
    parser.add_argument(
        "--target",
        metavar="T",
        action="append",
        type=target,
        default=[],
        help="which devices a file is for that fits several, such as a zipapp; once, or several times",
    )
    parser.add_argument(
        "--for", metavar="SECONDS", dest="seconds", type=float, help="end after that time (default: when stopped)"
    )
    parser.add_argument(
        "--without-manifest",
        action="store_true",
        help="offer a file without FILE.manifest beside it though manifests of the owner are known: no device that "
        "knows one takes it",
    )
    add_namespace(parser)
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Offer the files until SIGINT, SIGTERM or the end of the time; status 0.

    Raises:
        SettingError: the arguments make no sense, or a socket cannot be bound.
        ArtifactError: a file is not what its owner signed; nothing was announced.
    """
    from pypatcher.node.seedfile import choose_files

    if args.seconds is not None and not 1 <= args.seconds <= _LONGEST:
        raise SettingError(f"--for takes seconds, from 1 to {_LONGEST}")
    settings = read_settings(args)
    if not settings.upload:
        raise SettingError("PYPATCHER_UPLOAD=0 serves nobody: give bytes a second, such as 1048576")
    logging.basicConfig(level=logging.WARNING, handlers=[stderr_handler(as_json=settings.json_log)])
    files = choose_files(args.files, read_keys(args.public_key), args.target, args.namespace)
    run_in_loop(_seed(files, settings, args.seconds, args.without_manifest))
    return 0


async def _seed(files: list[SeedFile], settings: Settings, seconds: float | None, without_manifest: bool) -> None:
    from pypatcher.node.seed import seed_files

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    asyncio.get_running_loop().set_default_executor(Threads())
    emit = event_bus(settings).emit

    seeding = asyncio.create_task(seed_files(files, settings, emit, without_manifest=without_manifest))
    stop = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({seeding, stop}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        seeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await seeding
