"""``pypatcher sign``: signs a program with a key from a file or the environment; never makes one."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from pypatcher.cli.options import (
    add_any,
    add_file,
    add_json,
    add_out,
    add_target,
    report_done,
    version,
    warn_of_readers,
)
from pypatcher.cli.owners import add_public_key, one_owner
from pypatcher.cli.terms import add_must, add_stable
from pypatcher.errors import ArtifactError, KeyFileError, SettingError, WrongTargetError
from pypatcher.keys import ANY_TARGET, KeyPair, check_secret, decode_key, encode_key, read_secret_file
from pypatcher.targets import Target, find_target

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "sign a program that carries a region"
EXAMPLES = """\
  pypatcher sign app --key-file armv7.key                     the version that the build put into it
  pypatcher sign app --key-file armv7.key --version 1.4.0
  RELEASE_KEY=... pypatcher sign app --key-env RELEASE_KEY --target armv7

The file is replaced by one rename, with mode, owner and attributes kept; signing twice changes nothing.
Beside it FILE.manifest says who may take the release: all as soon as it runs anywhere, unless told otherwise. It
must be for the target that KEY.pub, beside the key file, or --target says."""

_LOOKS_LIKE_KEY = re.compile(r"[A-Za-z0-9]{50,54}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``sign``."""
    add_file(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--key-file", metavar="PATH", help="the secret key's file, as 'pypatcher gen' wrote it")
    source.add_argument("--key-env", metavar="VAR", help="the environment variable that holds the secret key")
    add_public_key(parser, "sign only if the secret key is that of this one", required=False)
    parser.add_argument("--version", metavar="X.Y.Z", type=version, help="the version, instead of the one built in")
    add_target(parser, "the target that the file must be for, if KEY.pub does not say it")
    add_any(parser)
    add_out(parser)
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--share", metavar="S", help="so many devices may take it: 25%%, or 'first' (default: all)")
    who.add_argument("--hold", action="store_true", help="nobody may take it yet: `pypatcher rollout` opens it")
    who.add_argument("--no-manifest", action="store_true", help="write none: devices that know one take none without")
    add_stable(parser)
    add_must(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Sign the file and say what was signed.

    Raises:
        SettingError, KeyFileError: there is no such key, or it is for another target.
        ArtifactError: the file cannot be signed; nothing was changed.
    """
    from pypatcher.artifact.rollout import describe
    from pypatcher.artifact.sign import signing
    from pypatcher.cli.first_word import plan_word, read_terms

    key, target = _key_and_target(args)
    change = read_terms(args, key)
    file = args.out or args.file
    try:
        with signing(args.file, key, args.version, target, out=args.out, any_machine=args.any) as (signed, fd):
            planned = None if change is None else plan_word(fd, file, key, signed, change, target=target)
    except ArtifactError as error:
        raise type(error)(f"{args.file} is not signed: {error}") from None
    if planned is not None:
        planned.write()
    info, fits = signed.info, signed.fits
    checked = target.name if target else ANY_TARGET
    values = {
        "file": str(file),
        "version": str(info.version),
        "target": checked,
        "fits": list(fits),
        "hash": info.hash.hex(),
        "size": info.size,
        "public_key": encode_key(key.public),
    }
    says = [] if planned is None else [describe(planned.word)]
    values |= {"manifest": says[0] if says else None}
    hint = "" if target else f" (the file fits {', '.join(fits) or 'none'})"
    said = f"version {info.version}, target {checked}{hint}, signed by {encode_key(key.public)}"
    return report_done(values, "\n".join([f"{file}: {said}", *says]), as_json=args.json)


def _key_and_target(args: argparse.Namespace) -> tuple[KeyPair, Target | None]:
    if _LOOKS_LIKE_KEY.fullmatch(args.key_file or args.key_env):
        raise SettingError("a key never goes on the command line: give the name of its file or environment variable")
    if args.key_env:
        text = os.environ.get(args.key_env)
        if text is None:
            raise SettingError(f"environment variable {args.key_env} is not set: put the secret key into it")
        where = f"environment variable {args.key_env}"
        key = KeyPair.from_seed(decode_key(text.strip(), where))
        if args.public_key is None:
            check_secret(key, where)
        _check_expected(key, args)
        return key, args.target
    path = Path(args.key_file)
    key, name = read_secret_file(path, is_checked=args.public_key is not None)
    warn_of_readers(path, "sign")
    _check_expected(key, args)
    if name in ("", ANY_TARGET):
        return key, args.target
    if args.target is not None and args.target.name != name:
        raise WrongTargetError(f"{path} is the key for target {name}, not {args.target.name}: use the other key")
    return key, find_target(name)


def _check_expected(key: KeyPair, args: argparse.Namespace) -> None:
    if args.public_key is not None and one_owner(args.public_key, args.target)[0] != key.public:
        raise KeyFileError("the secret key is not that of --public-key: programs that trust that one would refuse it")
