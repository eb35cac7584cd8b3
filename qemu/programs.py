"""The programs of the story: built for a target, signed natively with ``pypatcher embed`` and ``pypatcher sign``."""

from __future__ import annotations

import shutil
import sys
import zipapp
from dataclasses import dataclass
from pathlib import Path

from cross.audit import platform_tags
from cross.environment import make_environment
from cross.sysroot import glibc_minor
from cross.workshop import REPOSITORY, StepFailedError, digest_of, fresh_folder, python_version, run, say
from qemu.device import CACHE, Device
from qemu.native import Native

__all__ = ["Owner", "build_c", "build_onefile", "build_zipapp", "fetch_pyinstaller"]

HERE = Path(__file__).resolve().parent
_PYINSTALLER = "pyinstaller>=6.10"
_C_EXAMPLE = REPOSITORY / "examples" / "c-app" / "app.c"


@dataclass(frozen=True, slots=True)
class Owner:
    """The keys of one program: one a target, in a folder as ``pypatcher gen --all-targets`` makes it."""

    native: Native
    folder: Path

    @classmethod
    def make(cls, native: Native, folder: Path) -> Owner:
        """Make the keys."""
        native.pypatcher("gen", folder, "--all-targets")
        return cls(native, folder)

    def public(self, target: str) -> str:
        """The public key that devices of ``target`` trust."""
        return (self.folder / f"{target}.key.pub").read_text(encoding="ascii").split()[1]

    def sign(self, program: Path, version: str, key_of: str, *, any_target: bool = False) -> Path:
        """Sign with the key of one target; ``any_target`` forgets what that key is for, as an owner's mistake would."""
        if any_target:
            secret = (self.folder / f"{key_of}.key").read_text(encoding="ascii").strip()
            self.native.pypatcher("sign", program, "--key-env", "OWNER", "--version", version, OWNER=secret)
        else:
            key = self.folder / f"{key_of}.key"
            self.native.pypatcher("sign", program, "--key-file", key, "--version", version)
        return program


def build_c(device: Device, version: str, into: Path, source: Path = _C_EXAMPLE) -> Path:
    """A C program, by default the example's, unsigned."""
    environment = make_environment(device.target)
    program = into / "app"
    into.mkdir(parents=True)
    run(
        f"{device.target.gnu_triplet}-gcc", "-O2", f"-I{REPOSITORY / 'pypatcher' / 'include'}",
        f'-DPYPATCHER_VERSION="{version}"', "-o", program, source,
        environment=environment.variables,
    )  # fmt: skip
    return program


def build_zipapp(device: Device, native: Native, version: str, into: Path) -> Path:
    """The Python program as a zipapp, unsigned; what it imports is in the device's environment."""
    source = fresh_folder(into / "source")
    text = (HERE / "app.py").read_text(encoding="utf-8")
    (source / "__main__.py").write_text(text.replace('"hello"', f'"hello from {version}"'), encoding="utf-8")
    program = into / "app.pyz"
    zipapp.create_archive(source, program, interpreter=device.python)
    program.chmod(0o755)
    native.pypatcher("embed", program, "--version", version)
    return program


def fetch_pyinstaller(device: Device) -> bool:
    """Put PyInstaller into the device's filesystem; False if the index has none for this target."""
    folder = device.root / "opt" / "pyinstaller"
    if not folder.exists():
        target = device.target
        tags = [word for tag in platform_tags(target, glibc_minor(target)) for word in ("--platform", tag)]
        try:
            run(
                sys.executable, "-m", "pip", "install", "-q", "--no-compile",
                "--only-binary=:all:", "--python-version", python_version(), *tags, "--target", folder, _PYINSTALLER,
            )  # fmt: skip
        except StepFailedError as error:
            if "No matching distribution found" not in str(error):
                raise
            folder.mkdir()
    return any(folder.iterdir())


def build_onefile(device: Device) -> Path:
    """The Python program as a PyInstaller onefile, built on the emulated device; without a region yet."""
    tools = device.root / "opt" / "tools"
    tools.mkdir(exist_ok=True)
    loader = next(path for path in sorted((device.root / "lib").rglob("ld-linux*.so.*")) if path.is_file())
    # Debian's ldd is a bash script; the loader itself does the work.
    (tools / "ldd").write_text(f'#!/bin/sh\nexec /{loader.relative_to(device.root)} --list "$1"\n', encoding="ascii")
    (tools / "ldd").chmod(0o755)
    wheels = sorted(device.wheelhouse.glob("*.whl"))
    built = CACHE / device.target.name / f"onefile-{digest_of(HERE / 'app.py', *wheels)}"
    if not built.exists():
        say(f"{device.target.name}: building a PyInstaller onefile")
        for old in built.parent.glob("onefile-*"):
            old.unlink()
        work = fresh_folder(device.path("/root/onefile"))
        shutil.copy2(HERE / "app.py", work)
        device.run(
            "/bin/sh", "-c",
            f"cd /root/onefile && exec {device.python} -m PyInstaller --onefile --log-level=ERROR --noupx app.py",
            PATH="/opt/tools:/opt/pypatcher/bin:/usr/bin:/usr/sbin",
            PYTHONPATH="/opt/pyinstaller",
        )  # fmt: skip
        shutil.copy2(work / "dist" / "app", built)
        shutil.rmtree(work)
    return built
