"""What a node remembers over a restart: DHT nodes, its port, good peers, hashes of releases that it knows.

design.md "Caches": losing it costs time, nothing else. So reading never fails (a damaged file is an empty one), writing
never raises, and nothing in it is trusted: each hint is checked again when it is used. A cloned card brings a copy
along, which does no harm: no identity is in it. Not here: the state of the installation (``install``).
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pypatcher.addresses import Address, format_address, is_literal, parse_address
from pypatcher.errors import SettingError
from pypatcher.regular_file import read_regular

__all__ = ["Cache", "Memory", "cache_folder"]

_log = logging.getLogger("pypatcher")
_FILE_LIMIT = 256 * 1024
_LIST_LIMIT = 200
_REASON_LIMIT = 300


@dataclass(frozen=True, slots=True)
class Memory:
    """Hints from the last run.

    Attributes:
        port: the UDP port, 0 if unknown.
        dht_nodes: DHT nodes that answered.
        good_peers: peers that delivered a release.
        staged: a release's signature -> SHA-512 of the whole file, both hex, of releases staged here.
        unfit: a release's signature, hex -> why this device does not take it, as its download showed.
    """

    port: int = 0
    dht_nodes: tuple[Address, ...] = ()
    good_peers: tuple[Address, ...] = ()
    staged: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)


def cache_folder(setting: Path | None, environment: Mapping[str, str], namespace: str) -> Path | None:
    """Where this namespace's cache lives, or None when this user has no place for it."""
    if setting is None:
        if text := environment.get("STATE_DIRECTORY"):
            setting = Path(text.split(":")[0])
        elif text := environment.get("XDG_STATE_HOME"):
            setting = Path(text)
        elif text := environment.get("HOME"):
            setting = Path(text) / ".local" / "state"
        else:
            return None
    return setting / "pypatcher" / namespace


class Cache:
    """One file, ``node.json``, in a namespace's cache folder; None is a cache that forgets."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._warned = False

    def load(self) -> Memory:
        """What was saved last; empty when there is nothing, or nothing readable."""
        if self._folder is None:
            return Memory()
        try:
            table = json.loads(read_regular(self._folder / "node.json", _FILE_LIMIT))
            port = table["port"]
            return Memory(
                port=port if type(port) is int and 0 <= port <= 65535 else 0,
                dht_nodes=_addresses(table["dht_nodes"]),
                good_peers=_addresses(table["good_peers"]),
                staged=_hashes(table["staged"]),
                unfit=_reasons(table.get("unfit", {})),
            )
        except FileNotFoundError:
            return Memory()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            _log.warning("cache %s is unreadable and starts empty: %s", self._folder, error)
            return Memory()

    def save(self, memory: Memory) -> None:
        """Replace the file as a whole; a failure is said once and costs nothing else."""
        if self._folder is None:
            return
        table = asdict(memory)
        table["dht_nodes"] = [format_address(address) for address in memory.dht_nodes[:_LIST_LIMIT]]
        table["good_peers"] = [format_address(address) for address in memory.good_peers[-_LIST_LIMIT:]]
        table["staged"], table["unfit"] = dict(memory.staged), dict(memory.unfit)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, name = tempfile.mkstemp(prefix="node.", dir=self._folder)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    json.dump(table, file)
                Path(name).replace(self._folder / "node.json")
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            if not self._warned:
                _log.warning("cannot keep the cache %s (updates still work): %s", self._folder, error.strerror)
            self._warned = True


def _addresses(items: object) -> tuple[Address, ...]:
    if not isinstance(items, list):
        raise TypeError("a list of addresses was expected")
    found = []
    for item in items[:_LIST_LIMIT]:
        try:
            address = parse_address(str(item))
        except SettingError:
            continue
        if is_literal(address) and address[1]:
            found.append(address)
    return tuple(found)


def _hashes(table: object) -> dict[str, str]:
    if not isinstance(table, dict):
        raise TypeError("a table of hashes was expected")
    return {bytes.fromhex(key).hex(): bytes.fromhex(value).hex() for key, value in list(table.items())[-_LIST_LIMIT:]}


def _reasons(table: object) -> dict[str, str]:
    if not isinstance(table, dict):
        raise TypeError("a table of reasons was expected")
    texts = {bytes.fromhex(key).hex(): str(value) for key, value in list(table.items())[-_LIST_LIMIT:]}
    return {key: text[:_REASON_LIMIT] for key, text in texts.items() if text.isprintable()}
