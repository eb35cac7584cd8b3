"""A fleet of ten, real ``pypatcher run`` processes, and one release: all have it, though its first holder is gone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pypatcher.dht import Testnet
from pypatcher.keys import encode_key
from tests.support.packagings import wait_until
from tests.support.transport import loopback
from tests.support.updates import KEY, NEW, OLD, Program, build

pytestmark = pytest.mark.timeout(300)
FIRST = 3


@dataclass
class Member:
    """A device of the fleet."""

    program: Program
    process: subprocess.Popen[bytes]

    def events(self, name: str) -> list[dict[str, Any]]:
        """What its node said under that name."""
        lines = (line for line in self.program.text("errors").splitlines() if line.startswith("{"))
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def versions(self) -> list[str]:
        """The versions of its starts."""
        return [line.split()[0] for line in self.program.text("log").splitlines()]

    @property
    def addresses(self) -> list[str]:
        """Where its node listens."""
        return list(self.events("node.started")[0]["addresses"])

    def is_up(self) -> bool:
        """Whether its node has said that it started, and looked into the network."""
        return bool(self.events("record.published"))


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[[str], Member]]:
    """Starts a device that has that version."""
    built = await asyncio.to_thread(build, "elf")
    members: list[Member] = []
    async with Testnet(10, host=loopback()) as net:

        def make(version: str) -> Member:
            program = Program(tmp_path / f"device-{len(members)}", built, net.bootstrap, version)
            run = [sys.executable, "-m", "pypatcher", "run", "--public-key", encode_key(KEY.public), "--"]
            process = program.start(*run, "./app", "stay", PYPATCHER_LOG="json")
            members.append(Member(program, process))
            return members[-1]

        yield make
        for member in members:
            member.program.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what)


async def test_all_have_the_release_though_its_holder_is_gone(start: Callable[[str], Member]) -> None:
    fleet = [start(OLD) for _ in range(10)]
    await until(lambda: all(member.versions() == [OLD] and member.events("node.started") for member in fleet), "ten")
    first, last = fleet[:FIRST], fleet[FIRST:]
    for member in last:
        os.kill(member.process.pid, signal.SIGSTOP)
    holder = start(NEW)
    await until(lambda: all(member.versions() == [OLD, NEW] for member in first), "the first ones")
    holder.process.terminate()
    assert await asyncio.to_thread(holder.process.wait, 30) == -signal.SIGTERM
    holders_addresses = holder.addresses
    for member in last:
        os.kill(member.process.pid, signal.SIGCONT)
    await until(lambda: all(member.versions() == [OLD, NEW] for member in fleet), "the whole fleet")
    others = {address for member in fleet for address in member.addresses}
    for member in fleet:
        assert member.program.path.read_bytes() == member.program.built[NEW]
        (staged,) = member.events("release.staged")
        assert staged["version"] == NEW
    for member in last:
        peer = member.events("fetch.started")[-1]["peer"]
        assert peer in others - set(member.addresses)
        assert peer not in holders_addresses
    for member in fleet:
        member.process.terminate()
    for member in fleet:
        assert await asyncio.to_thread(member.process.wait, 30) == -signal.SIGTERM
        assert member.program.processes() == []
        assert "Traceback" not in member.program.text("errors")
