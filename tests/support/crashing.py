"""Releases that crash, in every packaging, and what restarts them: ``pypatcher run``, or systemd with the guard.

A program is built in the versions that a test asks for, each good or failing at its start in one of several ways. Good
ones note their start in ``$APP_LOG`` and stay until they are stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import uuid
import zipapp
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from pypatcher.addresses import format_address
from pypatcher.artifact import embed_region, sign_file
from pypatcher.install import Installation, owner_verifies
from pypatcher.keys import encode_key
from pypatcher.node.device import own_target
from pypatcher.version import Version
from tests.support.devices import LoopbackFleet
from tests.support.transport import loopback

__all__ = ["FAULTS", "Service", "build", "guarded", "supervised"]

REPOSITORY = Path(__file__).resolve().parents[2]
_SOURCE = Path(__file__).with_name("crashing_app.c")
_CACHE = REPOSITORY / ".cache" / "crashing"

FAULTS = {
    "elf": ("abort", "exit0", "no loader", "no format"),
    "zipapp": ("import", "exit0"),
    "onefile": ("import",),
}
"""How a release of each packaging can fail before any of our code in it runs."""

_GOOD_PYTHON = """\
import os, signal, socket, sys
with open(os.environ["APP_LOG"], "a") as log:
    log.write("good\\n")
if os.environ.get("NOTIFY_SOCKET"):
    path = os.environ["NOTIFY_SOCKET"]
    address = "\\0" + path[1:] if path[0] == "@" else path
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", address)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    signal.pause()
"""

_SPAWNING_PYTHON = """\
import asyncio, os
import pypatcher

@pypatcher.public_key("OWNER_KEY")
async def main():
    with open(os.environ["APP_LOG"], "a") as log:
        log.write(f"{pypatcher.Version.current()}\\n")
    await pypatcher.spawn(pypatcher.UpdaterMode.Now)
    await asyncio.Event().wait()

asyncio.run(main())
"""

_BAD_PYTHON = {
    "import": "import a_module_that_was_forgotten\n",
    "exit0": "import os\nos._exit(0)\n",
    "hang": "import time\nwhile True:\n    time.sleep(60)\n",
}


def build(world: LoopbackFleet, packaging: str, version: str, fault: str = "", *, spawns: bool = False) -> Path:
    """A signed release; ``fault`` is one of `FAULTS`, or empty for a good one."""
    path = world.folder / f"{packaging}-{version}"
    if packaging == "elf":
        _compile(path, version, fault)
    else:
        source = _BAD_PYTHON[fault] if fault else _SPAWNING_PYTHON if spawns else _GOOD_PYTHON
        source = source.replace("OWNER_KEY", encode_key(world.owner))
        if packaging == "zipapp":
            folder = world.folder / f"source-{version}"
            folder.mkdir()
            (folder / "__main__.py").write_text(source, encoding="utf-8")
            zipapp.create_archive(folder, path, interpreter=sys.executable)
        else:
            shutil.copy(_onefile(source), path)
        embed_region(path, Version.parse(version))
    path.chmod(0o755)
    sign_file(path, world.key, None, own_target(path, Path(sys.executable)))
    return path


def _compile(path: Path, version: str, fault: str) -> None:
    more = ["-Wl,--dynamic-linker=/lib/a-loader-that-no-device-has.so"] if fault == "no loader" else []
    command = ["cc", f"-I{REPOSITORY}/pypatcher/include", f'-DVERSION="{version}"', f'-DFAULT="{fault}"', *more]
    subprocess.run([*command, "-o", str(path), str(_SOURCE)], check=True)
    if fault == "no format":
        # The name of its loader does not end: the kernel takes that for no program (ENOEXEC), and `sign` does not look.
        data = bytearray(path.read_bytes())
        (headers,), (count,) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<H", data, 56)
        for at in range(headers, headers + 56 * count, 56):
            kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", data, at)
            if kind == 3:
                data[offset + size - 1] = ord("x")
        path.write_bytes(data)


def _onefile(source: str) -> Path:
    """A PyInstaller onefile of that program, built once."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(f"{sys.version} {source}".encode()).hexdigest()[:16]
    target = _CACHE / key
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            work = _CACHE / f"work-{key}"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            (work / "app.py").write_text(source, encoding="utf-8")
            tool = [sys.executable, "-m", "PyInstaller", "--onefile", "--log-level", "ERROR", "app.py"]
            subprocess.run(tool, cwd=work, check=True, capture_output=True)
            (work / "dist" / "app").rename(target)
            shutil.rmtree(work)
    return target


class Service:
    """A device's program, installed, and whatever keeps it running. `settled` says what its folder holds."""

    def __init__(self, world: LoopbackFleet, program: Path) -> None:
        folder = world.folder / f"service-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        self.world = world
        self.path = Path(shutil.copy(program, folder / "app"))
        self.log = folder / "log"
        self.key = encode_key(world.owner)
        self.target = own_target(self.path, Path(sys.executable))
        self.events: list[dict[str, Any]] = []
        self.news = asyncio.Condition()
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "TMPDIR": str(folder),
            "APP_LOG": str(self.log),
            "PYPATCHER_LOG": "json",
            "PYPATCHER_BOOTSTRAP": ",".join(map(format_address, world.net.bootstrap)),
            "PYPATCHER_BIND": f"{loopback()}:0",
            "PYPATCHER_PUBLISH_INTERVAL": "1",
            "PYPATCHER_LOOK_INTERVAL": "0.5",
            "PYPATCHER_STATE": str(folder / "state"),
        }

    def installation(self) -> Installation:
        """Another process's view of it."""
        return Installation(self.path, owner_verifies(self.world.owner, self.target))

    def stage(self, release: Path) -> None:
        """What the node does with a release that it fetched."""
        with release.open("rb") as file:
            from pypatcher.artifact import read_release

            expect = read_release(file.fileno()).info
            installation = self.installation()
            partial = installation.new_partial(expect)
            partial.write(file.read())
            installation.stage(partial, expect)

    async def heard(self, name: str, version: str) -> dict[str, Any]:
        """The first event of that name about that version, said already or yet to come."""
        async with self.news:
            while True:
                for event in self.events:
                    if event["event"] == name and event.get("version") == version:
                        return event
                await self.news.wait()

    async def listen(self, stream: asyncio.StreamReader | None) -> None:
        """Take every event that a process says on its standard error stream."""
        while stream is not None and (line := await stream.readline()):
            if not line.startswith(b"{"):
                continue
            async with self.news:
                self.events.append(json.loads(line))
                self.news.notify_all()

    async def start(self, *command: str | Path, **variables: str) -> asyncio.subprocess.Process:
        """Start a process in a session of its own."""
        return await asyncio.create_subprocess_exec(
            *command,
            env={**self.environment, **variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    async def pypatcher(self, *arguments: str | Path, **variables: str) -> int:
        """Run a command of ours to its end."""
        process = await self.start(sys.executable, "-m", "pypatcher", *arguments, **variables)
        await self.listen(process.stderr)
        return await process.wait()

    async def program_is(self, release: Path) -> None:
        """Wait until that release is at the path, and was started."""
        while self.path.read_bytes() != release.read_bytes():
            await asyncio.sleep(0.05)
        seen = self.starts()
        while self.starts() == seen and not self.starts():
            await asyncio.sleep(0.05)

    def main_process(self) -> int:
        """The process id of the program."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "exe").readlink() == self.path:
                    return int(entry.name)
            except OSError:
                continue
        raise AssertionError("the program does not run")

    def starts(self) -> list[str]:
        """What good and aborting programs noted."""
        return self.log.read_text(encoding="utf-8").split() if self.log.exists() else []


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 10)


@contextlib.asynccontextmanager
async def supervised(service: Service, *options: str) -> AsyncIterator[Service]:
    """The program under ``pypatcher run``."""
    command = ("-m", "pypatcher", "run", "--public-key", service.key, *options, "--", service.path)
    process = await service.start(sys.executable, *command)
    listening = asyncio.create_task(service.listen(process.stderr))
    try:
        yield service
        assert process.returncode is None, "run ended"
    finally:
        await _end(process)
        await listening


@contextlib.asynccontextmanager
async def guarded(service: Service, *, start_timeout: float | None = None) -> AsyncIterator[Service]:
    """The program as a systemd unit with Restart=always and the guard would run it.

    With ``start_timeout`` as one of Type=notify: without READY=1 in that time the start has failed.
    """
    stop = asyncio.Event()
    loop = asyncio.create_task(_unit(service, stop, start_timeout))
    try:
        yield service
        assert not loop.done(), "the unit ended"
    finally:
        stop.set()
        await loop


async def _unit(service: Service, stop: asyncio.Event, start_timeout: float | None) -> None:
    guard = ("guard", "--public-key", service.key, service.path)
    layout = service.installation().layout
    while not stop.is_set():
        with contextlib.suppress(FileNotFoundError):  # its pauses between starts are tried elsewhere
            os.utime(layout.path(layout.lock), (0, 0))
        unit = {"INVOCATION_ID": uuid.uuid4().hex, "PYPATCHER_RESTART_STATUS": "86"}
        assert await service.pypatcher(*guard, **unit) == 0
        with _ready_said(service) as (address, ready):
            # systemd names the main process in its environment; exec keeps the shell's process id.
            exec_start = 'exec env SYSTEMD_EXEC_PID=$$ "$0"'
            notify = {} if start_timeout is None else {"NOTIFY_SOCKET": address}
            process = await service.start("/bin/sh", "-c", exec_start, service.path, **unit, **notify)
            listening = asyncio.create_task(service.listen(process.stderr))
            ends = [asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())]
            await asyncio.wait([*ends, ready], timeout=start_timeout, return_when=asyncio.FIRST_COMPLETED)
            result = {}
            if start_timeout is not None and not ready.done() and not any(task.done() for task in ends):
                result = {"SERVICE_RESULT": "timeout"}
            else:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if process.returncode is None:
                    assert await service.pypatcher(*guard, "--ended", **unit, MAINPID=str(process.pid)) == 0
        await _end(process)
        for task in ends:
            task.cancel()
        await asyncio.gather(listening, *ends, return_exceptions=True)
        status = process.returncode or 0
        ended = {"EXIT_CODE": "killed", "EXIT_STATUS": signal.Signals(-status).name[3:]} if status < 0 else {}
        ended = ended or {"EXIT_CODE": "exited", "EXIT_STATUS": str(status)}
        assert await service.pypatcher(*guard, "--ended", **unit, **ended, **result) == 0


@contextlib.contextmanager
def _ready_said(service: Service) -> Iterator[tuple[str, asyncio.Future[None]]]:
    """A service manager's notify socket, and what is done when something is said to it."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    address = service.path.parent / f"notify-{uuid.uuid4().hex[:8]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(str(address))

        def heard() -> None:
            if b"READY=1" in listener.recv(4096).split(b"\n") and not ready.done():
                ready.set_result(None)

        loop.add_reader(listener, heard)
        try:
            yield str(address), ready
        finally:
            loop.remove_reader(listener)
            ready.cancel()
            address.unlink()
