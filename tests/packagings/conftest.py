"""One device a test; nothing of it runs on afterwards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from pypatcher.dht import Testnet
from pypatcher.keys import OwnerKey
from tests.support.devices import Device
from tests.support.packagings import PackagedDevice
from tests.support.transport import loopback
from tests.support.updates import KEY, NEW, Make, Program, build

ONEFILES = ["pyinstaller", "nuitka"] if os.environ.get("PYPATCHER_PACKAGINGS") == "all" else ["pyinstaller"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``onefile`` runs over the onefile packagings; Nuitka's only in ``make packagings``, as building takes minutes."""
    if "onefile" in metafunc.fixturenames:
        metafunc.parametrize("onefile", ONEFILES)
    if "packaging" in metafunc.fixturenames:
        metafunc.parametrize("packaging", ["zipapp", *ONEFILES])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who is the first to need a Nuitka onefile waits for it: on two quiet cores a quarter of an hour with servers."""
    for item in items:
        if "nuitka" in item.nodeid.partition("[")[2].rstrip("]").split("-"):
            item.add_marker(pytest.mark.timeout(4 * 3600))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[[str], PackagedDevice]]:
    """Makes a device for a packaging."""
    worlds: list[PackagedDevice] = []

    def make(packaging: str) -> PackagedDevice:
        worlds.append(PackagedDevice(tmp_path, packaging))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes a device at the old version, and a peer that has the new one."""
    async with Testnet(8, host=loopback()) as net:
        programs: list[Program] = []
        peers: list[Device] = []

        async def make(packaging: str) -> Program:
            built = await asyncio.to_thread(build, packaging)
            programs.append(Program(tmp_path / "device", built, net.bootstrap))
            peers.append(Device(tmp_path / "peer", built[NEW], OwnerKey(KEY.public), net.bootstrap))
            return programs[-1]

        yield make
        for program in programs:
            program.close()
        for peer in peers:
            await peer.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The matrix of restarts: seconds from the old version's last act to the new one's first, as this machine is."""
    table: dict[str, dict[str, str]] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "silence":
                program, how, seconds = value
                table.setdefault(program, {})[how] = f"{seconds:.1f}"
    columns = sorted({how for row in table.values() for how in row})
    if table:
        terminalreporter.write_line(" | ".join([" " * 16, *columns]))
    for program, row in table.items():
        seconds = [row.get(how, "").rjust(len(how)) for how in columns]
        terminalreporter.write_line(" | ".join([program.ljust(16), *seconds]))
