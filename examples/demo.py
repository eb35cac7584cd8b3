"""`make demo`: real devices on this machine update themselves from a peer, and you see it happen.

Builds examples/python-app as a PyInstaller onefile, 1.0.0 and 1.1.0, signs both with a fresh key, starts a private DHT,
two devices with the old version and one with the new one, and prints what each says until all run the new one.
Everything listens on loopback alone. Only the interval is shorter than in the field: looks every 2 seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OLD, NEW = "1.0.0", "1.1.0"
PATIENCE = 120.0
ARGUMENTS = ("--name", "kitchen sensor")
START = time.monotonic()
QUIET = {"fetch.progress", "record.published"}


def say(who: str, what: str) -> None:
    """One line of the story."""
    print(f"{time.monotonic() - START:6.1f} s  {who:<9} {what}", flush=True)


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end; its output is shown only if it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(work: Path, public_key: str, version: str, greeting: str) -> Path:
    """The example app as one signed file of that version."""
    source = (HERE / "python-app" / "app.py").read_text(encoding="utf-8")
    for name, value in (("OWNER", public_key), ("GREETING", greeting)):
        source = re.sub(f"^{name} = .*", f'{name} = "{value}"', source, flags=re.MULTILINE)
    folder = work / f"build-{version}"
    folder.mkdir()
    (folder / "app.py").write_text(source, encoding="utf-8")
    tools = Path(sys.executable).parent
    run(tools / "pyinstaller", "--onefile", "--log-level=ERROR", "app.py", cwd=folder)
    app = folder / "dist" / "app"
    run(tools / "pypatcher", "embed", app, "--version", version, cwd=work)
    run(tools / "pypatcher", "sign", app, "--key-file", work / "owner.key", cwd=work)
    return app


@dataclass
class Device:
    """A folder with a program in it, and the process that runs from it."""

    name: str
    program: Path
    environment: dict[str, str]
    lines: queue.Queue[tuple[str, str]]
    process: subprocess.Popen[str] | None = None
    readers: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start the program as its own session, so that everything it becomes can be ended with it."""
        self.process = subprocess.Popen(
            [self.program, *ARGUMENTS],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for stream in (self.process.stdout, self.process.stderr):
            thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
            thread.start()
            self.readers.append(thread)

    def _read(self, stream: Any) -> None:
        for line in stream:
            self.lines.put((self.name, line.rstrip("\n")))

    def stop(self) -> None:
        """End the program and whatever it restarted into."""
        if self.process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            deadline = time.monotonic() + 5
            while _group_lives(self.process.pid) and time.monotonic() < deadline:
                self.process.poll()
                time.sleep(0.05)
        self.process.wait()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Screen:
    """Plain lines, and a progress bar where a person waits at a terminal."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._bars: dict[str, Any] = {}
        if sys.stdout.isatty():
            with contextlib.suppress(ImportError):
                from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

                self._progress = Progress(
                    TextColumn("          {task.description:<9}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
                )
                self._progress.start()

    def event(self, who: str, event: dict[str, Any]) -> None:
        """Show one event of a device."""
        name = event.pop("event")
        event.pop("time", None)
        if name == "fetch.progress" and self._progress is not None:
            if who not in self._bars:
                self._bars[who] = self._progress.add_task(who, total=event["size"])
            self._progress.update(self._bars[who], completed=event["received"])
        if name not in QUIET:
            say(who, f"{name:<18} " + ", ".join(f"{key} {_short(value)}" for key, value in event.items()))

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"\b([0-9a-z]{8})[0-9a-z]{32,}\b", r"\1…", text)


def watch(lines: queue.Queue[tuple[str, str]], screen: Screen, devices: list[Device]) -> None:
    """Show what the devices say until each of them greets as the new version."""
    published: set[str] = set()
    updated: set[str] = set()
    deadline = time.monotonic() + PATIENCE
    while updated != {device.name for device in devices}:
        try:
            who, line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            sys.exit(f"not every device was updated within {PATIENCE:.0f} s")
        if not line.startswith("{"):
            say(who, f"| {line}")
            if f"from {NEW}, arguments {list(ARGUMENTS)}" in line:
                updated.add(who)
            continue
        event = json.loads(line)
        if event["event"] == "record.published" and who not in published:
            published.add(who)
            say(who, f"record.published   version {event['version']}, on {event['stored']} DHT nodes")
        screen.event(who, event)


def main() -> None:
    """The story, from the key to the updated fleet."""
    lines: queue.Queue[tuple[str, str]] = queue.Queue()
    with contextlib.ExitStack() as cleanup:
        work = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="pypatcher-demo.")))
        tools = Path(sys.executable).parent
        run(tools / "pypatcher", "gen", work / "owner.key", cwd=work)
        public_key = (work / "owner.key.pub").read_text(encoding="ascii").split()[1]
        say("owner", f"made a key pair, public key {public_key}")
        apps = {}
        for version, greeting in ((OLD, "hello"), (NEW, "hello again")):
            apps[version] = build(work, public_key, version, greeting)
            say("owner", f"built and signed {version}: one file of {apps[version].stat().st_size / 1e6:.1f} MB")

        testnet = subprocess.Popen(
            [tools / "pypatcher", "testnet", "--nodes", "20", "--json"], stdout=subprocess.PIPE, text=True, cwd=work
        )
        cleanup.callback(testnet.wait)
        cleanup.callback(testnet.terminate)
        assert testnet.stdout is not None
        bootstrap = ",".join(json.loads(testnet.stdout.readline())["bootstrap"])
        say("network", f"a private DHT of 20 nodes, entry points {bootstrap}")

        devices = []
        for name, version in (("device-1", OLD), ("device-2", OLD), ("device-3", NEW)):
            folder = work / name
            folder.mkdir()
            shutil.copy2(apps[version], folder / "app")
            environment = {
                **os.environ,
                "PYPATCHER_BOOTSTRAP": bootstrap,
                "PYPATCHER_BIND": "127.0.0.1:0",
                "PYPATCHER_LOOK_INTERVAL": "2",
                "PYPATCHER_PUBLISH_INTERVAL": "5",
                "PYPATCHER_STATE": str(folder / "state"),
                "PYPATCHER_LOG": "json",
                "PYPATCHER_ALLOW_VOLATILE": "1",  # a container's /tmp is an overlay; nobody wants to keep this update
            }
            devices.append(Device(name, folder / "app", environment, lines))
        screen = Screen()
        cleanup.callback(screen.close)
        for device in devices:
            cleanup.callback(device.stop)
            device.start()
        watch(lines, screen, devices)
        screen.close()

        new = hashlib.sha512(apps[NEW].read_bytes()).digest()
        for device in devices:
            if hashlib.sha512(device.program.read_bytes()).digest() != new:
                sys.exit(f"{device.program} is not the release, byte for byte")
        say("all", f"run {NEW}, byte for byte what the owner signed, with the arguments they were started with")


if __name__ == "__main__":
    main()
