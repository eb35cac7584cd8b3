"""A program below ``pypatcher run`` that leaves the foreground: it is told to stay, and a release is taken back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipapp
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypatcher.artifact import embed_region, sign_file
from pypatcher.cli.needs import look_around, needs_of
from pypatcher.install import Installation, owner_verifies
from pypatcher.keys import KeyPair, OwnerKey, encode_key
from pypatcher.node.device import own_target
from pypatcher.node.report import REPORT_LIMIT, decode_report
from pypatcher.version import Version
from tests.support.transport import loopback
from tests.support.updates import REPOSITORY
from tests.unit.app.test_under_run import stage

KEY = KeyPair.from_seed(bytes(range(32)))
PATIENCE = 60.0

APP = """\
import os, signal, sys

if HOW == "elsewhere":
    sys.exit(0)
if HOW == "daemon" and os.fork():
    os._exit(0)
if HOW == "daemon":
    os.setsid()
    if os.fork():
        os._exit(0)
with open(os.environ["APP_LOG"], "a") as log:
    log.write(f"{HOW} {os.getpid()}\\n")
signal.pause()
"""


class Foreground:
    """An installed program, and ``run`` of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.device = Installation(folder / "app", owner_verifies(OwnerKey(KEY.public), TARGET))

    def build(self, name: str, version: str, how: str) -> Path:
        """A signed zipapp."""
        source = self.folder / f"source-{version}"
        source.mkdir()
        (source / "__main__.py").write_text(f"HOW = {how!r}\n{APP}", encoding="utf-8")
        path = self.folder / name
        zipapp.create_archive(source, path, interpreter=sys.executable)
        path.chmod(0o755)
        embed_region(path, Version.parse(version))
        sign_file(path, KEY, None, None)
        return path

    def run(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pypatcher", "run", "--public-key", encode_key(KEY.public), "--", "./app"],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(REPOSITORY),
                "APP_LOG": str(self.log),
                "PYPATCHER_LOG": "json",
                "PYPATCHER_BOOTSTRAP": "",
                "PYPATCHER_BIND": f"{loopback()}:0",
                "PYPATCHER_ALLOW_VOLATILE": "1",
                "PYPATCHER_STATE": str(self.folder / "state"),
            },
            stderr=(self.folder / "errors").open("wb"),
        )
        return self.process

    def started(self, how: str) -> list[int]:
        lines = self.log.read_text(encoding="ascii").splitlines() if self.log.exists() else []
        return [int(line.split()[1]) for line in lines if line.split()[0] == how]

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for pid in self.started("daemon") + self.started("stays"):
            if _is_there(pid) and os.fsencode(self.folder / "app") in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


TARGET = own_target(Path(sys.executable), Path(sys.executable))


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Foreground]:
    made = Foreground(tmp_path)
    yield made
    made.close()


def needs(device: Installation) -> str:
    report = decode_report(device.read_report(REPORT_LIMIT + 1))
    return "\n".join(needs_of(device, device.status(), report, look_around(device, report, time.time())))


@pytest.mark.parametrize(
    ("how", "words"),
    [("daemon", "it went to the background"), ("elsewhere", "it ended by itself")],
)
def test_a_program_that_leaves_the_foreground_is_told_to_stay_there(place: Foreground, how: str, words: str) -> None:
    place.build("app", "1.0.0", how)
    assert place.run().wait(PATIENCE) == 0
    lines = map(json.loads, (place.folder / "errors").read_text(encoding="utf-8").splitlines())
    said = [line for line in lines if line.get("event") == "program.ended"]
    assert [words in one["reason"] and "in the foreground" in one["reason"] for one in said] == [True]
    assert words in needs(place.device)
    assert [_is_there(pid) for pid in place.started("daemon")] == ([True] if how == "daemon" else [])


def test_a_program_without_updates_is_told_nothing_more(place: Foreground) -> None:
    place.build("app", "1.0.0", "elsewhere")
    with (place.folder / "app").open("ab") as damaged:
        damaged.write(b"damaged")
    assert place.run().wait(PATIENCE) != 125
    lines = (place.folder / "errors").read_text(encoding="utf-8")
    assert ("preflight.failed" in lines, "program.ended" in lines) == (True, False)


def test_a_release_that_leaves_the_foreground_is_taken_back(place: Foreground) -> None:
    place.build("app", "1.0.0", "stays")
    place.device.settle("guard")
    stage(place.device, place.build("new", "2.0.0", "daemon"))
    place.run()
    deadline = time.monotonic() + PATIENCE
    while not place.started("stays") and time.monotonic() < deadline:
        time.sleep(0.05)
    (refused,) = place.device.status().refused
    assert "1 processes went on in the background" in refused.reason
    assert len(place.started("daemon")) == 3
    assert not any(map(_is_there, place.started("daemon")))
