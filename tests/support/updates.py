"""Building the application that updates itself for real, and a device on which it does.

Built with all of pypatcher, signed with a key that is known to everybody, kept in ``.cache/updates`` under a key made
of everything that goes into it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipapp
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pypatcher.addresses import Address, format_address
from pypatcher.artifact import embed_region, sign_file
from pypatcher.keys import KeyPair, encode_key
from pypatcher.version import Version
from tests.support.devices import compile_app, here
from tests.support.packagings import REPOSITORY, PackagedProgram, run_tool, wait_until
from tests.support.transport import loopback

__all__ = [
    "ENDING_APP",
    "KEY",
    "NEW",
    "OLD",
    "SERVERS",
    "UPDATING_APP",
    "WHOLE",
    "Make",
    "Program",
    "build",
    "command_of",
]

KEY = KeyPair.from_seed(bytes(range(1, 33)))
OLD, NEW = "1.0.0", "2.0.0"
_APPS = REPOSITORY / "tests" / "packagings"
UPDATING_APP = (_APPS / "updating_app.py",)
ENDING_APP = (_APPS / "ending_app.py", _APPS / "ending_asgi.py", _APPS / "ending_notes.py")
WHOLE = os.environ.get("PYPATCHER_PACKAGINGS") == "all"
SERVERS = ("aiohttp", "cherrypy", "flask", "gunicorn", "tornado", "twisted", "uvicorn", "waitress")
"""They are bundled only where they are tried, since that takes minutes."""
_BY_NAME = {ENDING_APP: ("gunicorn", "uvicorn")}
"""What an application imports by name at run time, so that a bundler does not see it."""
_NOT_COMPILED = ("twisted", "cherrypy", "cheroot", "jinja2", "click", "jaraco", "more_itertools")
_NOT_COMPILED += ("dateutil", "tempora", "zope", "OpenSSL", "attr", "rich", "pygments")
"""What Nuitka bundles as it is: half a million lines of others, of which C would only take longer to build."""
_CACHE = REPOSITORY / ".cache" / "updates"


def build(packaging: str, app: tuple[Path, ...] = UPDATING_APP) -> dict[str, Path]:
    """The application, its main module and those beside it, in both versions, each one signed file; built once."""
    return {version: build_version(packaging, app, version) for version in (OLD, NEW)}


def build_version(packaging: str, app: tuple[Path, ...], version: str) -> Path:
    """One of them, in the same folder as the other, so that a compiler's cache knows most of the second one."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    kind = f"{app[0].stem}-{packaging}"
    folder = _CACHE / f"{kind}-{_identity(packaging, app)}"
    with (_CACHE / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / version).exists():
            for old in _CACHE.glob(f"{kind}-*"):
                if old != folder:
                    shutil.rmtree(old)
            work = _CACHE / f"work-{kind}"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            path = _build_one(packaging, app, work, version)
            if packaging != "elf":
                embed_region(path, Version.parse(version))
            sign_file(path, KEY, None, here())
            folder.mkdir(exist_ok=True)
            path.rename(folder / version)
            shutil.rmtree(work)
    return folder / version


def _identity(packaging: str, app: tuple[Path, ...]) -> str:
    content = hashlib.sha256(f"{packaging} {sys.version} {WHOLE}".encode())
    inside = [] if packaging == "zipapp" else sorted((REPOSITORY / "pypatcher").rglob("*.py"))
    here_too = [Path(__file__).with_name(name) for name in ("updates.py", "packagings.py", "small_app.c")]
    content.update(repr([readme_command(start) for start in ("pyinstaller", "python -m nuitka")]).encode())
    said = [REPOSITORY / "setup.py", *sorted((REPOSITORY / "targets").glob("*"))]
    for path in (*app, *here_too, *inside, *said):
        content.update(path.read_bytes())
    return content.hexdigest()[:16]


def _build_one(packaging: str, app: tuple[Path, ...], work: Path, version: str) -> Path:
    if packaging == "elf":
        return compile_app(work / "app", version)
    source = work / "source"
    source.mkdir(exist_ok=True)
    (source / "app_version.py").write_text(f'VERSION = "{version}"\nPUBLIC_KEY = "{encode_key(KEY.public)}"\n')
    (source / "late_module.py").write_text(f'VERSION = "{version}"\n')
    main, *beside = app
    for path in beside:
        shutil.copy(path, source)
    if packaging == "zipapp":
        shutil.copy(main, source / "__main__.py")
        zipapp.create_archive(source, work / "app", interpreter=sys.executable)
        return work / "app"
    shutil.copy(main, work / "app.py")
    _install(source)
    # Word for word as the README says; ``dist/app`` is where it says that the program is.
    variables, (tool, *options) = readme_command("pyinstaller" if packaging == "pyinstaller" else "python -m nuitka")
    command = ["-m", "PyInstaller", *options] if tool == "pyinstaller" else options
    if beside:  # what it imports by name, or nobody tries here, is its own affair
        include = "--collect-submodules" if tool == "pyinstaller" else "--include-package"
        leave_out = "--exclude-module" if tool == "pyinstaller" else "--nofollow-import-to"
        command[2:2] = [f"{include}={name}" for name in _BY_NAME.get(app, ()) if WHOLE]
        command[2:2] = [f"{leave_out}={name}" for name in SERVERS if not WHOLE]
        command[2:2] = [f"--noinclude-custom-mode={name}:bytecode" for name in _NOT_COMPILED if tool != "pyinstaller"]
    (work / "dist").mkdir(exist_ok=True)
    # The servers make hundreds of modules of C: they are compiled as fast as can be, and only restarted.
    run_tool(work, *command, **variables, **({"CCFLAGS": "-O0"} if beside else {}))
    return work / "dist" / "app"


def readme_command(start: str) -> tuple[dict[str, str], list[str]]:
    """The variables and words of the README's lines that begin so, which say the same, without their comments."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    lines = re.findall(rf"^    ((?:[A-Z]+=\S+ )*)({re.escape(start)} .*)$", text, re.MULTILINE)
    [(variables, words)] = {(before, tuple(shlex.split(line, comments=True))) for before, line in lines}
    return dict(one.split("=", 1) for one in variables.split()), list(words)


def _install(folder: Path) -> None:
    """The package as ``pip install .`` installs it, from a copy of the repository, in which it leaves its traces."""
    if (folder / "pypatcher").exists():
        return
    copy = folder.parent / "repository"
    ignore = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    for name in ("pypatcher", "_speedups", "targets"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"):
        shutil.copy(REPOSITORY / name, copy / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    run_tool(folder.parent, "-m", "pip", "install", *options, "--target", str(folder), str(copy))


class Program(PackagedProgram):
    """A device of its own: the program at its path as a process, and everything that it leaves behind."""

    def __init__(
        self, folder: Path, built: dict[str, Path], bootstrap: tuple[Address, ...], version: str = OLD
    ) -> None:
        self.built = {each: path.read_bytes() for each, path in built.items()}
        super().__init__(folder, built[version])
        self._environment |= {
            "APP_LOG": str(self.state / "log"),
            "PYPATCHER_ALLOW_VOLATILE": "1",
            "PYPATCHER_BOOTSTRAP": ",".join(map(format_address, bootstrap)),
            "PYPATCHER_BIND": f"{loopback()}:0",
            "PYPATCHER_LOOK_INTERVAL": "0.5",
            "PYPATCHER_PUBLISH_INTERVAL": "1",
            "PYPATCHER_STATE": str(folder / "cache"),
        }

    def start(self, *command: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start a command in the program's folder; its output goes to the file ``errors``."""
        with (self.state / "errors").open("ab") as errors:
            process = subprocess.Popen(
                command,
                cwd=self.path.parent,
                env={**self._environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )
        self._started.append(process)
        return process

    def wait_for(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until a file has that many lines."""
        wait_until(lambda: len(self.said(name)) >= count, lambda: f"{count} {name}: {self.text('errors')[-3000:]}")
        return self.said(name)

    def wait_for_event(self, name: str) -> dict[str, Any]:
        """Wait until an event of that name was said."""
        found: dict[str, Any] = wait_until(
            lambda: next((event for event in self.said("events") if event["event"] == name), None),
            lambda: f"{name}: {self.said('events')} {self.text('errors')[-3000:]}",
        )
        return found

    def left_behind(self) -> list[str]:
        """What onefile programs have unpacked and not deleted, and what an update has not tidied up."""
        return self.unpacked() + [path.name for path in self.path.parent.rglob("partial*")]


Make = Callable[[str], Awaitable[Program]]
"""Makes a device at the old version for a packaging, and a peer that has the new one."""


def command_of(packaging: str, *arguments: str) -> list[str]:
    """How the application is started in its folder."""
    return [*([sys.executable] if packaging == "zipapp" else []), "./app", *arguments]
