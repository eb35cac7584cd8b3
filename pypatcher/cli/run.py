"""``pypatcher run``: starts a program that is not Python, keeps it running, and updates it.

Arguments, and nothing else. Not here: what happens then (``app.run``).
"""

from __future__ import annotations

import argparse
import logging
import sys

from pypatcher.cli.node_options import add_namespace, add_settings, event_bus, read_settings
from pypatcher.cli.owners import add_previous_key, add_public_key, read_keys
from pypatcher.errors import NotSingleFileError, PatcherError, SettingError
from pypatcher.node.log import stderr_handler
from pypatcher.settings import Settings
from pypatcher.tasks import run_in_loop
from pypatcher.update.mode import Mode, parse_mode

__all__ = ["EXAMPLES", "HELP", "RUN_OPTIONS", "add_arguments", "add_run_options", "run", "run_options"]

HELP = "run a program, and keep its file up to date"
EXAMPLES = """\
  pypatcher run --public-key K -- ./app --its --arguments
  pypatcher run --public-key armv7=K --public-key aarch64=K --mode at=03:30 -- /opt/app/app

Ends as the program ends: the same status, or the same signal. Its own failures end with 125; a program that cannot
be executed with 126 (no permission, wrong format) or 127 (not there). It stays in the foreground: one that makes a
daemon of itself is not updated. Events go to stderr, as JSON lines if
PYPATCHER_LOG=json. PYPATCHER_UPLOAD and PYPATCHER_DOWNLOAD bound the bytes a second to and from outside the LAN,
PYPATCHER_UPLOAD_DAY and PYPATCHER_DOWNLOAD_DAY those of 24 hours."""

RUN_OPTIONS = ("--mode", "--confirm", "--ready-within", "--stop-timeout")
_DEFAULTS = {"--mode": "now", "--confirm": "uptime", "--ready-within": None, "--stop-timeout": 30.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``run``."""
    parser.usage = "pypatcher run --public-key [TARGET=]K [options] -- PROGRAM [ARGUMENT ...]"
    add_public_key(parser, required=True)
    add_previous_key(parser)
    add_run_options(parser)
    add_namespace(parser)
    add_settings(parser)
    parser.add_argument(
        "--require-manifest",
        action="store_true",
        help="take nothing before a manifest of the owner was heard: for fleets all of whose releases have one",
    )
    parser.add_argument(
        "--metered",
        action="store_true",
        help="every byte costs: ask the owner every 6 hours, serve nobody, and leave large releases to a person",
    )
    parser.add_argument("program", metavar="PROGRAM", help="the program's file")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="its arguments")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """How the program is run, for ``run`` itself and for who writes down how to call it."""
    parser.add_argument(
        "--mode", default=_DEFAULTS["--mode"], help="when a new version takes over: now, on-restart or at=HH:MM"
    )
    parser.add_argument(
        "--confirm",
        choices=("uptime", "manual"),
        default=_DEFAULTS["--confirm"],
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
        default=_DEFAULTS["--stop-timeout"],
        help="how long the program may take to stop before it is killed (default: 30)",
    )


def run_options(args: argparse.Namespace) -> tuple[str, ...]:
    """The same options, those that are not as they are by default, as arguments of ``run``.

    Raises:
        SettingError: a value makes no sense.
    """
    _check_run_options(args)
    given = zip(RUN_OPTIONS, (args.mode, args.confirm, args.ready_within, args.stop_timeout), strict=True)
    return tuple(f"{option}={value}" for option, value in given if value != _DEFAULTS[option])


def _check_run_options(args: argparse.Namespace) -> Mode:
    """The mode.

    Raises:
        SettingError: a value makes no sense.
    """
    if not 0 <= args.stop_timeout <= 3600:
        raise SettingError("--stop-timeout takes seconds, from 0 to 3600")
    if args.ready_within is not None and not 0 < args.ready_within <= 86400:
        raise SettingError("--ready-within takes seconds, up to 86400")
    return parse_mode(args.mode)


def run(args: argparse.Namespace) -> int:
    """Run the program; ends this process as the program ends.

    Raises:
        SettingError: an argument or environment variable makes no sense.
    """
    from pypatcher.app.run import RunPlan, run_program
    from pypatcher.node.config import NodeConfig
    from pypatcher.process import EXIT_OWN_FAILURE, end_like, native

    mode, keys = _check_run_options(args), read_keys(args.public_key)
    settings, obstacle = _settings(args)
    previous = read_keys(args.previous_key, "--previous-key")
    logging.basicConfig(level=logging.WARNING, handlers=[stderr_handler(as_json=settings.json_log)])
    try:
        program = native(args.program, tuple(args.arguments))
        node = NodeConfig(
            keys,
            args.namespace,
            previous,
            settings=settings.replace(rollout=args.require_manifest, metered=args.metered or settings.metered),
            mode=mode,
            confirm_by_uptime=args.confirm == "uptime",
        )
        plan = RunPlan(program, node, args.stop_timeout, args.ready_within, obstacle)
        returncode = run_in_loop(run_program(plan, event_bus(settings).emit))
    except NotSingleFileError as error:
        print(f"pypatcher run: {error}", file=sys.stderr)
        return 127
    except (PatcherError, OSError) as error:
        print(f"pypatcher run: {error}", file=sys.stderr)
        return EXIT_OWN_FAILURE
    return end_like(returncode)


def _settings(args: argparse.Namespace) -> tuple[Settings, str]:
    """What the node is told, and why there is none: whoever set this device's environment is not there to be told.

    Raises:
        SettingError: an argument makes no sense.
    """
    try:
        return read_settings(args, by_hand=False), ""
    except SettingError as error:
        return read_settings(args, environment={}), str(error)
