"""A restart looks like a stop to the application: what it does at a stop runs, and nothing of the old one lives on.

The matrix is program x packaging x launcher; whole in ``make packagings``. What CI runs everywhere is the programs that
need nothing but Python, and the servers of the extra ``test`` as zipapps.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from pypatcher.dht import Testnet
from pypatcher.keys import OwnerKey, encode_key
from tests.support.devices import Device
from tests.support.packagings import DEADLINE, REPOSITORY, wait_until
from tests.support.transport import loopback
from tests.support.updates import ENDING_APP, KEY, NEW, OLD, WHOLE, Program, build

pytestmark = pytest.mark.timeout(2400)

OWN = ["sigwait", "forker", "deaf-forker", "thread", "drain", "loop-in-thread"]
OWN += ["asyncio-signals", "spawn-pool", "forkserver-pool", "ignores-stop", "c-forker"]
SERVERS = ["twisted", "uvicorn", "uvicorn-workers", "gunicorn"]
if WHOLE:
    SERVERS += ["gunicorn-preload", "aiohttp", "flask", "waitress", "cherrypy", "tornado"]
ALIKE = {"asyncio-signals", "forkserver-pool", "ignores-stop"}
"""They end in a onefile as in a zipapp, and are tried there in the whole matrix."""
LISTENING = {*SERVERS, "forker", "deaf-forker"}
HANDLES_NO_STOP = {"deaf-forker", "thread", "drain", "loop-in-thread", "spawn-pool", "forkserver-pool", "c-forker"}
HANDLES_NO_STOP |= {"flask", "waitress", "tornado", "ignores-stop", "daemon"}
"""Under ``run`` they are stopped as by systemd, which none of their code sees."""

UNIT_RULES = str(REPOSITORY / "tests" / "support" / "unit_rules.py")
Make = Callable[[str], Awaitable[tuple[Program, Callable[[], None]]]]


def cells() -> list[tuple[str, str, str]]:
    """Program, packaging, launcher."""
    onefiles = ["pyinstaller", "nuitka"] if WHOLE else ["pyinstaller"]
    if WHOLE:
        programs, packed, launchers = [*OWN, *SERVERS], ["zipapp", *onefiles], ["shell", "unit", "run"]
        daemons = [*itertools.product(["daemon"], packed, ["run"]), ("old-daemon", "zipapp", "shell")]
        return [*itertools.product(programs, packed, launchers), *daemons]
    return [
        *itertools.product([*OWN, *SERVERS], ["zipapp"], ["shell"]),
        *itertools.product([one for one in OWN if one not in ALIKE], onefiles, ["shell"]),
        *itertools.product(["forker"], ["zipapp", *onefiles], ["unit", "run"]),
        *itertools.product(["daemon"], ["zipapp", *onefiles], ["run"]),
        ("old-daemon", "zipapp", "shell"),
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "launcher" in metafunc.fixturenames:
        metafunc.parametrize(("program", "packed", "launcher"), cells())


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes a device at the old version, and what lets a peer have the new one."""
    async with Testnet(8, host=loopback()) as net:
        programs: list[Program] = []
        peers: list[Device] = []

        async def make(packaging: str) -> tuple[Program, Callable[[], None]]:
            built = await asyncio.to_thread(build, packaging, ENDING_APP)
            programs.append(Program(tmp_path / "device", built, net.bootstrap))

            def offer() -> None:
                peers.append(Device(tmp_path / "peer", built[NEW], OwnerKey(KEY.public), net.bootstrap))

            return programs[-1], offer

        yield make
        for program in programs:
            program.close()
        for peer in peers:
            await peer.stop()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def command(packed: str, launcher: str, program: str, port: int) -> list[str]:
    """As a shell starts it, or systemd by the rules of our unit, or ``pypatcher run``."""
    words = ["./app", program, str(port)]
    if launcher == "run":
        return [sys.executable, "-m", "pypatcher", "run", "--public-key", encode_key(KEY.public), "--", *words]
    words = [*([sys.executable] if packed == "zipapp" else []), *words]
    return words if launcher == "shell" else [sys.executable, UNIT_RULES, encode_key(KEY.public), "./app", *words]


async def test_a_restart_is_a_stop_to_the_program(
    fleet: Make, program: str, packed: str, launcher: str, record_property: Callable[[str, object], None]
) -> None:
    device, offer = await fleet(packed)
    port = free_port()
    device.start(*command(packed, launcher, program, port))
    await asyncio.to_thread(device.wait_for, "starts")
    offer()
    new = await asyncio.to_thread(
        wait_until, lambda: [one for one in device.said("starts") if one["by"] == NEW], lambda: told(device)
    )
    stops = [one for one in device.said("notes") if (one["by"], one["text"]) == (OLD, "stopped")]
    assert stops or (launcher == "run" and program in HANDLES_NO_STOP), told(device)
    if stops and program != "thread":  # which notes it when main returns, and works on
        record_property("silence", (program, f"{packed}, {launcher}", new[0]["time"] - stops[-1]["time"]))
    assert "by force" not in device.text("errors"), told(device)
    assert "Traceback" not in device.text("errors"), told(device)
    old, new = (
        {one["pid"] for one in device.said("starts") + device.said("notes") if one["by"] == by} for by in (OLD, NEW)
    )
    await asyncio.to_thread(wait_until, lambda: not (old - new) & set(device.processes()), "the end of the old version")
    if program in LISTENING:
        await asyncio.to_thread(wait_until, lambda: is_open(port), "the new version's port")


async def test_a_onefile_that_makes_a_daemon_of_itself_is_told(fleet: Make) -> None:
    device, _ = await fleet("pyinstaller")
    device.start("./app", "old-daemon", "0")
    said = await asyncio.to_thread(device.wait_for_event, "preflight.failed")
    assert "start it in the foreground" in said["reason"]
    await asyncio.to_thread(device.wait_for, "starts")  # and the application runs on
    assert "Traceback" not in device.text("errors"), told(device)


def is_open(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def told(device: Program) -> str:
    return f"{device.said('notes')} {device.said('events')} {device.text('errors')[-3000:]}"


@pytest.mark.parametrize("workers", ["uvicorn", "uvicorn-workers"])
async def test_a_request_under_way_is_answered_before_the_restart(fleet: Make, workers: str) -> None:
    device, offer = await fleet("zipapp")
    port = free_port()
    device.start(*command("zipapp", "shell", workers, port))
    offer()
    await asyncio.to_thread(device.wait_for_event, "release.staged")
    answer = await asyncio.to_thread(ask, port)
    assert answer in (OLD, NEW)
    await asyncio.to_thread(
        wait_until, lambda: [one for one in device.said("starts") if one["by"] == NEW], lambda: told(device)
    )


def ask(port: int) -> str:
    """The answer to one request; who is refused, between two versions, asks again: that one was not under way."""
    until = time.monotonic() + DEADLINE
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                return answer.read().decode()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > until:
                raise
        time.sleep(0.05)
