"""``pypatcher run``: self-update for a program that is not Python."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from pypatcher.cli.node_options import add_namespace, add_settings, event_bus, read_keys, read_settings
from pypatcher.errors import NotSingleFileError, PatcherError, SettingError
from pypatcher.node.schedule import parse_mode

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "run a program, and keep its file up to date"
EXAMPLES = """\
  pypatcher run --public-key xg4icmwxh3kx1odasrjqtkcmw6eb9bj4h4k57i9yhqeozmer131y -- ./app --its --arguments
  pypatcher run --public-key armv7=K --public-key aarch64=K --mode at=03:30 -- /opt/app/app

Ends as the program ends: the same status, or the same signal. Its own failures end with 125; a program that cannot
be executed with 126 (no permission, wrong format) or 127 (not there). Events go to stderr, as JSON lines if
PYPATCHER_LOG=json."""

_OWN_FAILURE = 125


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``run``."""
    parser.usage = "pypatcher run --public-key [TARGET=]K [options] -- PROGRAM [ARGUMENT ...]"
    parser.add_argument(
        "--public-key",
        metavar="[TARGET=]K",
        action="append",
        required=True,
        help="the owner's public key; once, or once a target",
    )
    parser.add_argument("--mode", default="now", help="when a new version takes over: now, on-restart or at=HH:MM")
    parser.add_argument(
        "--confirm",
        choices=("uptime", "manual"),
        default="uptime",
        help="what ends the trial of a new version besides READY=1 to NOTIFY_SOCKET: 5 minutes of uptime, or nothing",
    )
    parser.add_argument(
        "--ready-within",
        metavar="SECONDS",
        type=float,
        help="a version on trial that has not said READY=1 so long after its start counts as one that failed: for "
        "programs that say it, against releases that hang (default: no limit)",
    )
    parser.add_argument(
        "--stop-timeout",
        metavar="SECONDS",
        type=float,
        default=30.0,
        help="how long the program may take to stop before it is killed (default: 30)",
    )
    add_namespace(parser)
    add_settings(parser)
    parser.add_argument("program", metavar="PROGRAM", help="the program's file")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="its arguments")


def run(args: argparse.Namespace) -> int:
    """Run the program; ends this process as the program ends.

    Raises:
        SettingError: an argument or environment variable makes no sense.
    """
    from pypatcher.node.runner import RunPlan, run_program
    from pypatcher.process import end_like, native

    if not 0 <= args.stop_timeout <= 3600:
        raise SettingError("--stop-timeout takes seconds, from 0 to 3600")
    if args.ready_within is not None and not 0 < args.ready_within <= 86400:
        raise SettingError("--ready-within takes seconds, up to 86400")
    mode, keys, settings = parse_mode(args.mode), read_keys(args.public_key), read_settings(args)
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        program = native(args.program, tuple(args.arguments))
        plan = RunPlan(
            program,
            keys,
            args.namespace,
            mode,
            args.confirm == "uptime",
            args.stop_timeout,
            settings,
            args.ready_within,
        )
        returncode = asyncio.run(run_program(plan, event_bus(settings).emit))
    except NotSingleFileError as error:
        print(f"pypatcher run: {error}", file=sys.stderr)
        return 127
    except (PatcherError, OSError) as error:
        print(f"pypatcher run: {error}", file=sys.stderr)
        return _OWN_FAILURE
    return end_like(returncode)
