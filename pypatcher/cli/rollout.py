"""``pypatcher rollout``: the owner's next word about a release, signed on this machine; nothing is sent.

Not here: what the words mean (``artifact.rollout``), and how they get to devices (``publish``, ``seed``).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pypatcher.cli.options import add_json, report_done, warn_of_readers
from pypatcher.cli.terms import add_must, add_stable, check_stable_is_said, read_must, with_stable
from pypatcher.errors import KeyFileError, ManifestError, SettingError
from pypatcher.keys import read_key_file

if TYPE_CHECKING:
    from pypatcher.artifact.manifest import ManifestFile
    from pypatcher.artifact.rollout import Change
    from pypatcher.keys import KeyPair

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say who may take a signed release from now on, or stop it: writes the next revision of its manifest"
EXAMPLES = """\
  pypatcher rollout app.manifest --share 1% --no-stable --key-file owner.key
  pypatcher rollout app.manifest --hold --key-file owner.key           nobody goes on with it
  pypatcher rollout app.manifest --open --key-file owner.key           all may take it
  pypatcher rollout app.manifest --steps 1%,10%,50%,all --no-stable --key-file owner.key

Nothing is sent: hand the file out with `pypatcher publish` or `seed`. --share and --open end a hold; --go ends it and
keeps the share. --steps writes FILE.steps, one revision for each share, and FILE.hold, which stops the release above
all of them: `publish` opens the steps in time, and is the brake, without the key."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``rollout``."""
    parser.add_argument("manifest", metavar="FILE.manifest", type=Path, help="as `sign` or an earlier call wrote it")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--share", metavar="S", help="so many may take it: 25%%, or 'first' for devices told to be first")
    what.add_argument("--open", action="store_true", help="all may take it")
    what.add_argument("--hold", action="store_true", help="nobody fetches it, activates it, or is confirmed by time")
    what.add_argument("--recall", action="store_true", help="the same, and who is on trial of it goes back")
    what.add_argument("--go", action="store_true", help="end a hold; the share stays as it was")
    what.add_argument("--steps", metavar="S,S,...", help="shares that grow, such as 1%%,10%%,50%%,all")
    add_stable(parser)
    add_must(parser)
    parser.add_argument("--note", metavar="TEXT", help="for people, 80 bytes at most")
    parser.add_argument(
        "--above",
        metavar="SEQ",
        type=int,
        help="the seq that the network has (`lookup` says it): the new word comes above that one",
    )
    parser.add_argument("--key-file", metavar="PATH", required=True, type=Path, help="the secret key's file")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the next word, and say what held before and what holds then.

    Raises:
        SettingError: the arguments make no sense.
        ManifestError, KeyFileError: there is no such manifest, or the key is not its owner's.
        CannotReplaceError: it cannot be written; nothing was changed.
    """
    from pypatcher.artifact.beside import beside, check_steps_place, read_manifest, write_manifest, write_steps
    from pypatcher.artifact.rollout import describe, next_word, steps_and_brake

    known = read_manifest(args.manifest)
    if known is None:
        raise ManifestError(f"{args.manifest}: there is no such file")
    key = _key_of(args.key_file, known)
    change = _change(args, known)
    if args.steps is not None:
        if args.above is not None:
            raise SettingError("--steps follow the manifest as it is: bring it to the network's seq first (--above)")
        check_steps_place(beside(args.manifest, "steps"))
        steps, brake = steps_and_brake(known, key, _shares(args.steps), change, int(time.time()))
        # The brake first: where the disk is full after it, no steps are there without their own.
        write_manifest(beside(args.manifest, "hold"), brake, replace=True)
        write_steps(beside(args.manifest, "steps"), steps)
        said = [describe(step) for step in (*steps, brake)]
        files = [str(beside(args.manifest, ending)) for ending in ("steps", "hold")]
        values: dict[str, Any] = {
            "files": files,
            "before": describe(known),
            "steps": said,
            "seqs": [step.seq for step in steps],
        }
        return report_done(values, "\n".join([f"before: {describe(known)}", *said]), as_json=args.json)
    word = next_word(known, key, change, int(time.time()), args.above)
    write_manifest(args.manifest, word, replace=True)
    values = {"files": [str(args.manifest)], "before": describe(known), "after": describe(word), "seq": word.seq}
    return report_done(values, f"before: {describe(known)}\nafter:  {describe(word)}", as_json=args.json)


def _key_of(path: Path, known: ManifestFile) -> KeyPair:
    key = read_key_file(path)
    warn_of_readers(path, "rollout")
    if key.public != known.owner:
        raise KeyFileError(f"{path} is not the key that signed this manifest: its devices would take no other")
    return key


def _shares(text: str) -> list[int]:
    from pypatcher.artifact.rollout import parse_share

    return [parse_share(each) for each in text.split(",")]


def _change(args: argparse.Namespace, known: ManifestFile) -> Change:
    from pypatcher.artifact.rollout import Change, parse_share
    from pypatcher.artifact.terms import ALL, Hold

    if args.hold or args.recall:
        change = Change(hold=Hold.RECALLED if args.recall else Hold.HELD, note=args.note)
    elif args.share is not None or args.open:
        change = Change(ALL if args.open else parse_share(args.share), Hold.GO_ON, note=args.note)
    else:
        change = Change(hold=Hold.GO_ON if args.go else None, note=args.note)
    change = replace(with_stable(change, args, known.owner), must=read_must(args))
    if change == Change() and args.steps is None:
        raise SettingError(
            "say what changes: --share, --open, --hold, --recall, --go, --steps, --stable, --must or --note"
        )
    first = _shares(args.steps)[0] if args.steps is not None else change.share
    check_stable_is_said(Change(share=first, stable=change.stable), known.terms)
    return change
