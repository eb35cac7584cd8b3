"""Real processes that fetch one release by its tree from several others, and are disturbed: killed, refused, cut off.

    with Holders(kit, 3, rate=2_000_000) as holders:
        program = kit.install(folder)
        status = run(lambda: holders.fetch(program), notes, Disturbance(7, "before"))

What is at a program's path is an installation on a real disk. Every byte that any of them sends counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo, sign_file
from pypatcher.artifact.manifest import Manifest
from pypatcher.artifact.tree import Tree, build_tree
from pypatcher.budgets import UploadLimiter
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import PeerError
from pypatcher.install import Installation, LocalRelease, owner_verifies
from pypatcher.transfer.download import Delivery
from pypatcher.transfer.hedging import Runner
from pypatcher.udp import DatagramSocket
from tests.support.devices import compile_app, here
from tests.support.manifests import OWNER, OWNER_KEY, word_of
from tests.support.node_fakes import EventLog
from tests.support.one_update import Disturbance, child
from tests.support.v1_nodes import Speaker, open_speaker

__all__ = ["Builds", "Holders", "run"]

STATE = ".app.pypatcher"
_SAYS = 200
"""A descriptor of a holder, to which it writes where it is."""


def run(work: Callable[[], str], notes: Path, disturbance: Disturbance | None = None) -> int:
    """The exit status of ``work`` in a process of its own; ``notes`` has its calls, or what it complained of."""
    with child(work, disturbance, notes) as pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@dataclass(frozen=True)
class Builds:
    """An old program, and a release in the midst of whose bytes ``new_bytes`` are new."""

    old: Path
    new: Path
    info: PatchInfo

    @staticmethod
    def make(folder: Path, new_bytes: int) -> Builds:
        old, new = compile_app(folder / "old", "1.0.0"), compile_app(folder / "new", "2.0.0")
        packed, more = random.Random(1).randbytes(500_000), random.Random(2).randbytes(new_bytes)
        for path, behind in ((old, packed), (new, packed[:300_000] + more + packed[300_000:])):
            path.write_bytes(path.read_bytes() + behind)
        sign_file(old, OWNER, None, here())
        return Builds(old, new, sign_file(new, OWNER, None, here()))

    @cached_property
    def tree(self) -> Tree:
        return tree_of(self.new)

    @cached_property
    def word(self) -> Manifest:
        """The owner's, which states the tree."""
        tree = bytes([self.tree.parameters.number]) + self.tree.root
        return word_of({b"i": self.info.to_postcard(), b"tree": tree}, "2.0.0")

    @cached_property
    def _new(self) -> list[tuple[int, bytes]]:
        """Offset and bytes of each chunk that the old program has not."""
        known, data = {chunk.id for chunk in tree_of(self.old).chunks()}, self.new.read_bytes()
        chunks = [chunk for chunk in self.tree.chunks() if chunk.id not in known]
        return [(chunk.offset, data[chunk.offset : chunk.offset + chunk.size]) for chunk in chunks]

    def install(self, folder: Path) -> Path:
        """The old program, alone in its folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        program = Path(shutil.copy(self.old, folder / "app"))
        Installation(program, owner_verifies(OWNER_KEY, here())).settle("run")
        return program

    def missing(self, program: Path) -> int:
        """Bytes of the release that are neither in the old program nor, where they belong, in what was left."""
        left = next(iter(program.parent.glob(f"{STATE}/partial-2*")), None)
        there = b"" if left is None else left.read_bytes()
        return sum(len(data) for offset, data in self._new if there[offset : offset + len(data)] != data)

    def wrong_with(self, program: Path, *, is_done: bool) -> str:
        """What is wrong with a device that was disturbed, or, ``is_done``, fetched to the end; or empty."""
        if program.read_bytes() != self.old.read_bytes():
            return "the program is another one"
        state = program.parent / STATE
        staged, left = state / "staged", list(state.glob("partial-*"))
        if staged.exists() and staged.read_bytes() != self.new.read_bytes():
            return "what is staged is not the release"
        if any(path.stat().st_mode & 0o177 and path.read_bytes() != self.new.read_bytes() for path in left):
            return "others may read or start what is left of a download"
        if is_done and (not staged.exists() or left):
            return "it did not go on to the end"
        return "" if len(left) < 2 else f"{len(left)} downloads are left"


def tree_of(path: Path) -> Tree:
    with path.open("rb") as file:
        return build_tree(file.fileno(), path.stat().st_size)


class Holders:
    """Processes that give a release, until the end of the block.

    Args:
        count: how many hold all of it.
        rate: bytes a second that each of them gives.
    """

    def __init__(self, kit: Builds, count: int, *, rate: int = 1 << 24) -> None:
        self._kit, self._count, self._rate = kit, count, rate
        self._stack = contextlib.ExitStack()
        self._addresses: list[Address] = []
        # Every process that is forked from here has a number of its own in it; devices, one after the other, share one.
        self._memory = mmap.mmap(-1, 8 * (count + 1))
        self._numbers = memoryview(self._memory).cast("Q")

    @property
    def sent(self) -> int:
        """Bytes of all datagrams that holders and devices sent each other."""
        return sum(self._numbers)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for number in range(self._count):
                self._addresses.append(stack.enter_context(self._process(number + 1)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def fetch(self, program: Path) -> str:
        """In a process of its own: stage the release; the file ``came`` says how many bytes came."""
        (program.parent / "came").write_text(str(asyncio.run(self._take(program))))
        return ""

    async def _take(self, program: Path) -> int:
        self._count_datagrams(0)
        info = self._kit.info
        installation = Installation(program, owner_verifies(OWNER_KEY, here()))
        async with open_speaker(self._kit.word, limiter=UploadLimiter(1 << 24)) as taker:
            runner = Runner(info.version, info.file_size, 0.0)
            helping = [asyncio.create_task(self._let_help(taker, self._at(address))) for address in self._addresses[1:]]
            delivery = Delivery(self._at(self._addresses[0]), taker.exchange.fetch, runner)
            try:
                await delivery.run(installation, EventLog(), asyncio.get_running_loop().time)
            finally:
                for task in helping:
                    task.cancel()
                await asyncio.gather(*helping, return_exceptions=True)
            return runner.came

    def _at(self, address: Address) -> Candidate:
        return Candidate(self._kit.info, bytes(32), address, "a test", speaks_v1=True)

    async def _let_help(self, taker: Speaker, candidate: Candidate) -> None:
        await self._begun(taker)
        with contextlib.suppress(PeerError):
            await taker.exchange.help(candidate)

    async def _begun(self, taker: Speaker) -> None:
        while not taker.exchange.swarms.is_fetching(self._kit.info):
            await asyncio.sleep(0.01)

    @contextlib.contextmanager
    def _process(self, number: int) -> Iterator[Address]:
        read, write = os.pipe()

        async def work() -> None:
            self._count_datagrams(number)
            os.dup2(write, _SAYS)
            await self._hold()

        with child(lambda: asyncio.run(work()) or "") as pid:
            try:
                host, port = os.read(read, 100).split()
                yield host.decode(), int(port)
            finally:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                os.close(read)
                os.close(write)

    async def _hold(self) -> None:
        held = LocalRelease(self._kit.new, self._kit.info, bytes(64))
        limiter = UploadLimiter(self._rate, daily_factor=1000)
        async with open_speaker(self._kit.word, [(held, self._kit.new)], limiter=limiter) as speaker:
            await _live_on(speaker)

    def _count_datagrams(self, number: int) -> None:
        now, train = DatagramSocket._send_now, DatagramSocket._send_train

        def send_now(udp: DatagramSocket, data: bytes, address: Address, source: bytes) -> bool:
            self._numbers[number] += len(data)
            return now(udp, data, address, source)

        def send_train(udp: DatagramSocket, data: bytes, size: int, address: Address, source: bytes) -> bool:
            self._numbers[number] += len(data)
            return train(udp, data, size, address, source)

        DatagramSocket._send_now, DatagramSocket._send_train = send_now, send_train  # type: ignore[method-assign]


async def _live_on(speaker: Speaker) -> None:
    host, port = speaker.address
    os.write(_SAYS, f"{host} {port}\n".encode())
    await asyncio.sleep(3600)
