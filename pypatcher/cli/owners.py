"""``--public-key`` as every command takes it: a key, a key for one target, or the file that ``gen`` wrote beside it.

No command lives here, and no secret key is read here.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from pypatcher.errors import KeyFileError, SettingError
from pypatcher.keys import ANY_TARGET, OwnerKey, encode_key, parse_public_key, read_public_file
from pypatcher.targets import Target, find_target

__all__ = ["add_previous_key", "add_public_key", "key_arguments", "one_owner", "read_keys"]


def add_public_key(parser: argparse.ArgumentParser, what: str = "the owner's public key", *, required: bool) -> None:
    """``--public-key``, which may be given once a target."""
    parser.add_argument(
        "--public-key",
        metavar="[TARGET=]K",
        action="append",
        required=required,
        help=f"{what}, or its file KEY.pub; once, or once a target",
    )


def add_previous_key(parser: argparse.ArgumentParser) -> None:
    """``--previous-key``, likewise."""
    parser.add_argument(
        "--previous-key",
        metavar="[TARGET=]K",
        action="append",
        default=[],
        help="the owner's key before; it counts too until a release of --public-key is the program",
    )


def read_keys(texts: Sequence[str], option: str = "--public-key") -> dict[str | None, OwnerKey]:
    """Read the arguments; None stands for every target.

    Raises:
        SettingError: one of them is no key, names no target, or is given twice.
    """
    keys: dict[str | None, OwnerKey] = {}
    for text in texts:
        try:
            target, key = _read(text)
        except KeyFileError as error:
            raise SettingError(f"{option}: {error}") from None
        if target in keys:
            raise SettingError(f"{option} is given twice for {target or 'every target'}")
        keys[target] = key
    return keys


def one_owner(texts: Sequence[str], target: Target | None) -> tuple[OwnerKey, Target | None]:
    """The one key that is meant, and its target; None where neither it nor ``--target`` names one.

    Raises:
        SettingError: as `read_keys`, or the keys and the target do not say which.
    """
    keys = read_keys(texts)
    if target is not None:
        key = keys.get(target.name, keys.get(None))
        if key is None:
            raise SettingError(f"--public-key: none of the keys is for target {target.name}")
        return key, target
    if len(keys) > 1:
        raise SettingError("--public-key is given for several targets: say by --target which is meant")
    [(name, key)] = keys.items()
    return key, None if name is None else find_target(name)


def key_arguments(keys: Mapping[str | None, OwnerKey]) -> tuple[str, ...]:
    """``[TARGET=]K`` for each, as another command takes them wherever it is run."""
    return tuple(encode_key(key) if name is None else f"{name}={encode_key(key)}" for name, key in keys.items())


def _read(text: str) -> tuple[str | None, OwnerKey]:
    name, equals, rest = text.partition("=")
    if not equals or "/" in name:
        name, equals, rest = "", "", text
    named = find_target(name).name if equals else None
    if not rest.endswith(".pub") and Path(f"{rest}.pub").is_file():
        raise KeyFileError(f"{rest} is a secret key's file, whose public key is in {rest}.pub: give that one")
    if not (rest.endswith(".pub") or "/" in rest):
        return named, parse_public_key(rest)
    of_file, key = read_public_file(Path(rest))
    target = None if of_file == ANY_TARGET else find_target(of_file).name
    if named is not None and target not in (None, named):
        raise KeyFileError(f"{rest} is the key for target {target}, not {named}")
    return named or target, key
