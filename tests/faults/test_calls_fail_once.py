"""Real ``run`` and ``seed`` processes, of which the kernel refuses one call (strace): updates arrive all the same.

A call of the main thread is refused at its first, second or third time; ``PYPATCHER_FAULTS=all`` tries every one.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.dht import Testnet
from pypatcher.keys import OwnerKey, encode_key
from tests.support.devices import Device
from tests.support.packagings import REPOSITORY, wait_until
from tests.support.transport import loopback
from tests.support.updates import KEY, NEW, OLD, Program, build

_CALLS = (
    "bind:EADDRNOTAVAIL", "bind:ENFILE", "socket:ENFILE", "socket:EAFNOSUPPORT", "setsockopt:ENOBUFS",
    "getsockname:ENOBUFS", "sendmsg:ENOBUFS", "sendto:EPERM", "recvmsg:ENOMEM", "clone3:EAGAIN", "flock:ENOLCK",
    "fsync:EIO", "epoll_ctl:ENOSPC",
)  # fmt: skip
_EVERY = [f"{call}:{time}" for call in _CALLS for time in (1, 2, 3)]


def _chosen(sample: int, salt: int) -> list[str]:
    if os.environ.get("PYPATCHER_FAULTS") == "all":
        return _EVERY
    return random.Random(sys.version_info.minor + salt).sample(_EVERY, sample)


def strace(fault: str) -> list[str]:
    """The words before a command. strace counts calls by thread: other threads would be refused theirs, each once."""
    call, error, time = fault.split(":")
    options = ["-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    return ["strace", *options, "-e", f"inject={call}:error={error}:when={time}"]


def pypatcher(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.quick_run", *arguments]


class Place:
    """A private DHT, a program at its old version, and what else is in the network."""

    def __init__(self, folder: Path, net: Testnet, built: dict[str, Path]) -> None:
        self.program = Program(folder / "device", built, net.bootstrap)
        self._folder, self._net, self._built = folder, net, built
        self._devices: list[Device] = []

    def device(self, version: str) -> Device:
        """A node of this process."""
        owner = OwnerKey(KEY.public)
        self._devices.append(Device(self._folder / version, self._built[version], owner, self._net.bootstrap))
        return self._devices[-1]

    async def close(self) -> None:
        self.program.close()
        for device in self._devices:
            await device.stop()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """With a testnet of its own."""
    async with Testnet(8, host=loopback()) as net:
        made = Place(tmp_path, net, await asyncio.to_thread(build, "elf"))
        yield made
        await made.close()


@pytest.mark.parametrize("fault", _chosen(4, 0))
async def test_run_updates_though_a_call_is_refused_once(place: Place, fault: str) -> None:
    place.device(NEW)
    command = pypatcher("run", "--public-key", encode_key(KEY.public), "--", "./app", "stay")
    process = place.program.start(*strace(fault), *command, PYTHONPATH=str(REPOSITORY))

    def started() -> list[str]:
        return [line.split()[0] for line in place.program.text("log").splitlines()]

    await asyncio.to_thread(wait_until, lambda: NEW in started() or process.poll() is not None, "the new version")
    said = place.program.text("errors")
    assert process.poll() is None, said
    assert started()[0] == OLD


@pytest.mark.parametrize("fault", _chosen(3, 100))
async def test_seed_gives_though_a_call_is_refused_once(place: Place, fault: str) -> None:
    release = place.program.path.with_name("release")
    release.write_bytes(place.program.built[NEW])
    command = pypatcher("seed", str(release), "--public-key", encode_key(KEY.public))
    process = place.program.start(*strace(fault), *command, PYTHONPATH=str(REPOSITORY))
    await place.device(OLD).wait_for("release.staged")
    assert process.poll() is None, place.program.text("errors")
