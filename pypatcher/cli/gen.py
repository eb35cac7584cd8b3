"""``pypatcher gen``: makes owner keys. The only command that does, and never over an existing file."""

from __future__ import annotations

import argparse
from pathlib import Path

from pypatcher.cli.options import add_json, add_target, report_done
from pypatcher.errors import CannotReplaceError, KeyFileError
from pypatcher.keys import ANY_TARGET, KeyPair, encode_key, public_key_path, write_key_file
from pypatcher.targets import load_targets

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "make the owner key of one program, or one for each target"
EXAMPLES = """\
  pypatcher gen owner.key                       one key, for a program whose devices are all of one target
  pypatcher gen armv7.key --target armv7        a key whose files must be for armv7
  pypatcher gen keys/ --all-targets             keys/x86_64.key, keys/aarch64.key, ...

PATH holds the secret (mode 0600): keep it off devices and out of repositories.
PATH.pub holds the target and the public key, which goes into the program.
A key is for ONE program: under one key, B 2.0 would be a valid update of A 1.0. And for one target: under a shared
key, devices hear of releases for the others, which they cannot take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``gen``."""
    parser.add_argument("path", metavar="PATH", type=Path, help="the key file, or the folder with --all-targets")
    which = parser.add_mutually_exclusive_group()
    add_target(which, "the only target that the key may sign for")
    which.add_argument("--all-targets", action="store_true", help="one key for each target, into the folder PATH")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Make the keys and say what to paste.

    Raises:
        KeyFileError: a key is there already, cannot be written, or would have a public one's name.
    """
    if args.all_targets:
        wanted = {name: args.path / f"{name}.key" for name in load_targets()}
        try:
            args.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CannotReplaceError(f"cannot make the folder {args.path}: {error.strerror}") from None
    else:
        wanted = {args.target.name if args.target else ANY_TARGET: args.path}
    for path in wanted.values():
        if path.suffix == ".pub":
            raise KeyFileError(f"{path} is a public key's name, and secret ones are kept: choose a name without .pub")
        if path.exists() or public_key_path(path).exists():
            raise KeyFileError(f"{path} or {path}.pub exists and is never overwritten: choose another name")
    keys: dict[str, str] = {}
    try:
        for name, path in wanted.items():
            pair = KeyPair.generate()
            write_key_file(path, pair, name)
            keys[name] = encode_key(pair.public)
    except KeyFileError:
        # All or nothing: half a set of keys would be taken for a whole one.
        for name in keys:
            wanted[name].unlink(missing_ok=True)
            public_key_path(wanted[name]).unlink(missing_ok=True)
        raise
    paste = _decorator(keys)
    made = [{"target": name, "public_key": key, "path": str(wanted[name])} for name, key in keys.items()]
    lines = []
    for name, key in keys.items():
        what = f"{wanted[name]}: secret key, target {name}; keep it safe, and for this one program only"
        lines += [what, f"public key: {key}"]
    if ANY_TARGET in keys:
        lines.append(
            "it is for devices of ONE target: where there are several, make a key for each (gen FOLDER --all-targets)"
        )
    lines.append(f"paste into the program: {paste}")
    return report_done({"keys": made, "paste": paste}, "\n".join(lines), as_json=args.json)


def _decorator(keys: dict[str, str]) -> str:
    if list(keys) == [ANY_TARGET]:
        return f'@pypatcher.public_key("{next(iter(keys.values()))}")'
    arguments = ", ".join(f'{name}="{key}"' for name, key in keys.items())
    return f"@pypatcher.public_key({arguments})"
