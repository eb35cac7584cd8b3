"""Devices of today's code beside devices of the code before manifests: real ``pypatcher run`` processes on one machine.

    async with open_mixed(folder, old=10, new=10) as fleet:
        fleet.hold(NEW, is_old=False, word=fleet.word(Change(share=100)))  # has the next version
        await until(lambda: fleet.updated() == fleet.names, "all of them")

The older code comes out of the repository's own history, so this needs a clone and not an unpacked archive of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pypatcher.addresses import format_address
from pypatcher.artifact import PatchInfo, check_release
from pypatcher.artifact.beside import manifest_path, write_manifest
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.dht import Testnet
from pypatcher.keys import OwnerKey, encode_key
from pypatcher.update.orders import word_name
from pypatcher.update.policy import draw
from tests.support.devices import here
from tests.support.packagings import REPOSITORY, wait_until
from tests.support.transport import loopback
from tests.support.updates import KEY, NEW, OLD, Program, build

__all__ = ["FIRST", "MixedFleet", "has_history", "older_code", "open_mixed", "until"]

_FIRST_OF_MANIFESTS = "pypatcher/artifact/manifest.py"
FIRST = {"PYPATCHER_ROLLOUT": "first"}
"""What tells a device to try releases first."""
RUN = [sys.executable, "-m", "pypatcher", "run", "--public-key", encode_key(KEY.public), "--", "./app", "stay"]


def has_history() -> bool:
    """Whether this clone has more than its last commits."""
    return _git("rev-parse", "--is-shallow-repository").split() == [b"false"]


@cache
def older_code() -> Path:
    """A folder with the package as it was before it knew manifests."""
    added = _git("log", "--diff-filter=A", "--format=%H", "--", _FIRST_OF_MANIFESTS).decode().split()
    if not added:
        raise RuntimeError(f"no commit of this clone adds {_FIRST_OF_MANIFESTS}: fetch the whole history")
    before = _git("rev-parse", f"{added[-1]}^").decode().strip()
    folder = REPOSITORY / ".cache" / "older" / before
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            packed = _git("archive", "--format=zip", before, "pypatcher", "targets")
            with zipfile.ZipFile(io.BytesIO(packed)) as archive:
                archive.extractall(partial)
            partial.rename(folder)
    return folder


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True).stdout


class MixedFleet:
    """Devices that run the old version, and whoever is to have the new one.

    Use ``open_mixed``.

    Args:
        told: variables of the environment of some devices, by their names.
        variables: of the environment of every process.

    Attributes:
        desk: the owner's folder.
        devices: by name, ``old-0`` and so on.
        info: the next release.
    """

    def __init__(
        self,
        folder: Path,
        built: dict[str, Path],
        net: Testnet,
        *,
        old: int,
        new: int,
        told: Mapping[str, Mapping[str, str]] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._folder, self._built, self._net = folder, built, net
        self.desk = folder / "desk"
        self.desk.mkdir()
        self._variables, self._told = variables or {}, told or {}
        self.holders: list[Program] = []
        with built[NEW].open("rb") as file:
            self.info: PatchInfo = check_release(file.fileno(), OwnerKey(KEY.public), here()).info
        self.ids = {f"new-{number}": bytes([number + 1]) * 16 for number in range(new)}
        self.devices: dict[str, Program] = {}
        for name in (*(f"old-{number}" for number in range(old)), *self.ids):
            number = {"PYPATCHER_DEVICE_ID": self.ids[name].hex()} if name in self.ids else {}
            program = self._program(name, OLD)
            self.devices[name] = self._run(program, is_old=not number, **{**number, **self._told.get(name, {})})

    @property
    def names(self) -> set[str]:
        """Of all devices."""
        return set(self.devices)

    def named(self, share: int) -> set[str]:
        """Those that the formula names at that share of 10,000; the older code knows none."""
        drawn = {name for name, device_id in self.ids.items() if draw(device_id, self.info.release_id) < share}
        return drawn | {name for name, told in self._told.items() if share and told == FIRST}

    def word(self, change: Change) -> ManifestFile:
        """The owner's first word about the next release."""
        return first_word(KEY, self.info, [here().name], change)

    def hold(self, version: str, *, is_old: bool, word: ManifestFile | None = None) -> Program:
        """Start one more device, which has that version, with a word beside it."""
        name = f"holder-{len(self.holders)}"
        program = self._program(name, version)
        if word is not None:
            write_manifest(manifest_path(program.path), word, replace=True)
        self.holders.append(program)
        return self._run(program, is_old=is_old)

    def publish(self, word: ManifestFile) -> None:
        """Put a word into the network, from the owner's desk."""
        path = self.desk / "app.manifest"
        write_manifest(path, word, replace=True)
        done = subprocess.run(self.publish_command(path), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)

    def publish_command(self, path: Path, *options: str) -> list[str]:
        """What puts a file with words into the network."""
        bootstrap = ",".join(map(format_address, self._net.bootstrap))
        own = ("--bind", f"{loopback()}:0", "--bootstrap", bootstrap)
        return [sys.executable, "-m", "pypatcher", "publish", str(path), *own, *options]

    def updated(self) -> set[str]:
        """The devices whose last start was one of the new version."""
        return {name for name, device in self.devices.items() if _last_start(device) == NEW}

    def know(self, word: ManifestFile) -> bool:
        """Whether all of the new code have stored that word."""
        name = f".app.pypatcher/manifest-{word_name(word.owner)}.seen"
        files = [self.devices[each].path.parent / name for each in self.ids]
        return all(file.exists() and int(file.read_text()) == word.seq for file in files)

    def said(self, name: str, event: str) -> int:
        """How often a device said that."""
        return self.devices[name].text("errors").count(f'"{event}"')

    def close(self) -> None:
        """End all of them."""
        for program in (*self.devices.values(), *self.holders):
            program.close()

    def _program(self, name: str, version: str) -> Program:
        return Program(self._folder / name, self._built, self._net.bootstrap, version)

    def _run(self, program: Program, *, is_old: bool, **more: str) -> Program:
        code = {"PYTHONPATH": str(older_code())} if is_old else {}
        program.start(*RUN, **{"PYPATCHER_LOG": "json", **code, **self._variables, **more})
        return program


@contextlib.asynccontextmanager
async def open_mixed(folder: Path, **options: Any) -> AsyncIterator[MixedFleet]:
    """Such a fleet with a DHT of its own, until the end of the block."""
    built = await asyncio.to_thread(build, "elf")
    async with Testnet(10, host=loopback()) as net:
        fleet = MixedFleet(folder, built, net, **options)
        try:
            yield fleet
        finally:
            fleet.close()


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that the processes do."""
    await asyncio.to_thread(wait_until, condition, what)


def _last_start(device: Program) -> str:
    lines = device.text("log").splitlines()
    return lines[-1].split()[0] if lines else ""
