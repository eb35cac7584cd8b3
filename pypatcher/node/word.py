"""A node's part in rollouts, put together: the owner's word as it is kept here, this device's number, and the rule.

Blocks, for it reads the disk. What was copied beside the program by a person (``P.manifest``) is heard first. Not here:
how a word gets about (``discovery``, ``transfer``), and what it lets a device do (``update.policy``).
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from pypatcher.artifact.beside import manifest_path, read_manifest
from pypatcher.discovery import Namespace
from pypatcher.errors import ManifestError, PatcherError
from pypatcher.install import Installation
from pypatcher.settings import Settings
from pypatcher.update.device_id import device_id, read_hardware
from pypatcher.update.policy import Place
from pypatcher.update.rule import NodeRule
from pypatcher.update.stored_word import InstallationStore
from pypatcher.update.word import OwnersWord

if TYPE_CHECKING:
    from pypatcher.update.wanted import PastDownloads

__all__ = ["open_rule"]

_log = logging.getLogger("pypatcher")


def open_rule(
    installation: Installation, namespace: Namespace, target: str, past: PastDownloads, settings: Settings
) -> NodeRule:
    """The rule of a node, with the word that is kept here or lies beside the program."""
    rule = NodeRule(
        installation,
        past,
        namespace.owner,
        device_id=settings.device_id or _own_id(installation, namespace),
        place=Place(settings.rollout_place),
        is_required=settings.rollout,
    )
    store = InstallationStore(installation, namespace.owner, rule.for_word)
    word = rule.word = OwnersWord(namespace.owner, target, store)
    _hear_beside(installation, word)
    return rule


def _own_id(installation: Installation, namespace: Namespace) -> bytes:
    stored = b""
    with contextlib.suppress(PatcherError, OSError):
        stored = installation.words.read_device()
    number, remembered = device_id(namespace.topic_hash, read_hardware(), stored)
    if remembered != stored:
        with contextlib.suppress(PatcherError, OSError):
            installation.words.write_device(remembered)
    return number


def _hear_beside(installation: Installation, word: OwnersWord) -> None:
    """What a person copied beside the program: believed of root and of the program's owner."""
    path = manifest_path(installation.program)
    try:
        found = read_manifest(path, trusted=installation.program.lstat().st_uid)
    except (ManifestError, OSError) as error:
        if not isinstance(error, FileNotFoundError):
            _log.warning("%s is not used: %s", path, error)
        return
    mine = None if found is None else found.for_target(word.target)
    if mine is not None and mine.owner == word.owner:
        word.hear_at_once(mine.encode())
