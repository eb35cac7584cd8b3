"""Building the application of the packaging tests, and a place where it runs and restarts itself.

Builds take from a second (zipapp) to a minute (Nuitka), so they are kept in ``.cache/packagings`` under a key made of
everything that goes into them; older ones are removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipapp
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
APP = REPOSITORY / "tests" / "packagings" / "restarting_app.py"
CACHE = REPOSITORY / ".cache" / "packagings"
DEADLINE = 120.0 if os.environ.get("PYPATCHER_PACKAGINGS") == "all" else 40.0


def _sources() -> list[Path]:
    package = REPOSITORY / "pypatcher"
    values = [path for path in sorted(package.glob("*.py")) if not path.name.startswith("__")]
    return [*values, *sorted((package / "process").rglob("*.py"))]


def _key(tool: str) -> str:
    content = hashlib.sha256(f"{tool} {sys.version}".encode())
    for path in (APP, Path(__file__), *_sources()):
        content.update(path.read_bytes())
    return content.hexdigest()[:16]


def _lay_out(folder: Path, version: str) -> Path:
    """The application's source tree: its main, its version, and of pypatcher the process room alone."""
    package = folder / "pypatcher"
    (package / "process" / "packagings").mkdir(parents=True)
    (package / "__init__.py").write_text('"""The process room alone."""\n')
    for path in _sources():
        shutil.copy(path, package / path.relative_to(REPOSITORY / "pypatcher"))
    (folder / "app_version.py").write_text(f'VERSION = "{version}"\n')
    (folder / "bundled.txt").write_text(f"bundled with {version}")
    return Path(shutil.copy(APP, folder / "restarting_app.py"))


def build(packaging: str, version: str) -> Path:
    """The application in ``version`` as one file; built once.

    The folder name is the build's identity, so that a changed source never meets an old build.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    key = _key(packaging)
    target = CACHE / f"{packaging}-{version}-{key}"
    with (CACHE / f"{packaging}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            for old in CACHE.glob(f"{packaging}-{version}-*"):
                old.unlink()
            work = CACHE / f"work-{packaging}-{version}"
            shutil.rmtree(work, ignore_errors=True)
            _lay_out(work / "source", version)
            _BUILDERS[packaging](work).rename(target)
            shutil.rmtree(work)
    return target


def _build_zipapp(work: Path) -> Path:
    source = work / "source"
    (source / "restarting_app.py").rename(source / "__main__.py")
    zipapp.create_archive(source, work / "app", interpreter=sys.executable)
    return work / "app"


def _build_pyinstaller(work: Path) -> Path:
    data = f"{work / 'source' / 'bundled.txt'}:."
    options = ["--onefile", "--log-level", "ERROR", "--name", "app", "--add-data", data]
    options += ["--collect-submodules", "pypatcher"]
    run_tool(work, "-m", "PyInstaller", *options, "source/restarting_app.py")
    return work / "dist" / "app"


def _build_nuitka(work: Path) -> Path:
    data = "--include-data-files=source/bundled.txt=bundled.txt"
    options = ["--onefile", "--quiet", "--assume-yes-for-downloads", "--output-filename=app", data]
    options += ["--include-package=pypatcher"]
    run_tool(work, "-m", "nuitka", *options, "source/restarting_app.py")
    return work / "app"


def run_tool(work: Path, *arguments: str, **variables: str) -> None:
    """Run a module that builds something, with ``source`` to import from; raises with what it said if it fails."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=work,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(work / "source"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"building failed: {done.stdout[-2000:]} {done.stderr[-4000:]}")


_BUILDERS: dict[str, Callable[[Path], Path]] = {
    "zipapp": _build_zipapp,
    "pyinstaller": _build_pyinstaller,
    "nuitka": _build_nuitka,
}


def wait_until(condition: Callable[[], Any], what: str | Callable[[], str]) -> Any:
    """Wait for something that other processes do; its value when it is true.

    What was waited for is asked, where it is not a plain text, when the time is over: as it is then, not as it was.
    """
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)
    return value


class PackagedProgram:
    """Where a program runs: its path, its folder of state, and every process that was started there."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.path = folder / "bin" / "app"
        self.state = folder / "state"
        self.unpacked_here = folder / "tmp"
        for made in (self.path.parent, self.state, self.unpacked_here):
            made.mkdir(parents=True)
        shutil.copy(program, self.path)
        self._started: list[subprocess.Popen[bytes]] = []
        self._environment = {
            "PATH": os.environ["PATH"],
            "APP_STATE": str(self.state),
            "TMPDIR": str(self.unpacked_here),
        }

    def text(self, name: str) -> str:
        """A file of the state folder; empty if it is not there."""
        path = self.state / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def said(self, name: str) -> list[dict[str, Any]]:
        """The lines of JSON in a file of the state folder."""
        return [json.loads(line) for line in self.text(name).split("\n")[:-1]]

    def processes(self) -> list[int]:
        """Every living process of this device, zombies included."""
        mark = f"APP_STATE={self.state}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def wait_for_end(self) -> None:
        """Wait until no process is left."""

        def ended() -> bool:
            for process in self._started:
                process.poll()
            return not self.processes()

        wait_until(ended, "the end of all processes")

    def unpacked(self) -> list[str]:
        """Folders that onefile programs have unpacked themselves to and not deleted."""
        return [path.name for path in self.unpacked_here.iterdir()]

    def close(self) -> None:
        """End whatever a failed test left running."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            process.wait()


class PackagedDevice(PackagedProgram):
    """One device: the program at its path, the next versions of it, and everything that its processes leave behind."""

    def __init__(self, folder: Path, packaging: str) -> None:
        super().__init__(folder, build(packaging, "1"))
        self.packaging = packaging
        self.hold = self.state / "hold"
        """While this file exists, no restart is asked for."""

    def stage(self, count: int) -> None:
        """Lay ``count`` next versions ready, 2 and 1 in turn."""
        for number in range(count):
            shutil.copy(build(self.packaging, "21"[number % 2]), self.state / f"next-{number:02}")

    def start(
        self,
        *arguments: str,
        wrapper: tuple[str, ...] = (),
        descriptors: tuple[int, ...] = (),
        preexec: Callable[[], None] | None = None,
        **variables: str,
    ) -> subprocess.Popen[bytes]:
        """Start the program as a shell in ``bin`` would, below ``wrapper`` if given."""
        process = subprocess.Popen(
            [*wrapper, "./app", *arguments],
            cwd=self.path.parent,
            env={**self._environment, **variables},
            pass_fds=descriptors,
            preexec_fn=preexec,  # noqa: PLW1509 - the tests have one thread
            stdin=subprocess.DEVNULL,
            stdout=(self.state / "output").open("ab"),
            stderr=(self.state / "errors").open("ab"),
        )
        self._started.append(process)
        return process

    def starts(self) -> list[dict[str, Any]]:
        """What each start said about itself."""
        return self.said("starts")

    def notes(self) -> list[str]:
        """What the application noted, in order."""
        return self.text("notes").splitlines()

    def errors(self) -> str:
        """What was written to the standard error streams."""
        return self.text("errors")

    def buffered(self) -> list[str]:
        """What the application wrote to a file that it never flushes."""
        return self.text("buffered").splitlines()

    def wait_for_starts(self, count: int) -> list[dict[str, Any]]:
        """Wait until the program was started ``count`` times."""
        wait_until(lambda: len(self.starts()) >= count, lambda: f"{count} starts: {self.starts()} {self.errors()}")
        return self.starts()
