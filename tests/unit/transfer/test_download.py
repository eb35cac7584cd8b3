"""What a delivery that fails leaves of the download that it was to go on with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import ContentMismatchError, PeerBusyError, PeerError
from pypatcher.install import Installation
from pypatcher.transfer.download import Delivery
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.hedging import Runner
from tests.support.node_fakes import EventLog
from tests.support.text_programs import program, release_of, verify_program, write_program

INFO = release_of(program("2.0.0")).info
LEFT = program("2.0.0")[:-5]


def begun(folder: Path) -> Installation:
    """A device, and what a killed process left of a download."""
    device = Installation(write_program(folder / "app", "1.0.0"), verify_program, kind=lambda _: "ext4")
    device.settle("run")
    partial = device.new_partial(INFO)
    partial.write(LEFT)
    partial.leave()
    return device


async def fail(device: Installation, error: BaseException, came: bytes = b"") -> None:
    async def fetch(_candidate: Candidate, sink: Sink) -> PatchInfo:
        if came:
            sink.write(came)
        raise error

    told = Candidate(INFO, bytes(32), ("20.1.0.1", 1), "a test")
    delivery = Delivery(told, fetch, Runner(INFO.version, INFO.file_size, 0.0))
    with pytest.raises(type(error)):
        await delivery.run(device, EventLog(), asyncio.get_running_loop().time)


@pytest.mark.parametrize("error", [PeerError("nobody answers"), PeerBusyError("busy"), asyncio.CancelledError()])
async def test_who_gives_nothing_takes_nothing_of_what_is_left(error: BaseException, tmp_path: Path) -> None:
    device = begun(tmp_path)
    await fail(device, error)
    with device.new_partial(INFO) as partial:
        assert partial.read(1 << 20, 0) == LEFT


async def test_junk_spoils_no_more_of_what_is_left_than_it_has_bytes(tmp_path: Path) -> None:
    device = begun(tmp_path)
    await fail(device, PeerError("it went away"), came=b"junk")
    with device.new_partial(INFO) as partial:
        assert partial.read(1 << 20, 4) == LEFT[4:]


async def test_a_whole_that_is_wrong_is_not_left(tmp_path: Path) -> None:
    device = begun(tmp_path)
    await fail(device, ContentMismatchError("another file"), came=bytes(len(LEFT) + 5))
    with device.new_partial(INFO) as partial:
        assert partial.size == 0
