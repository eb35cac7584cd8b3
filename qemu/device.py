"""One emulated device: a root filesystem made from the target's sysroot, with pypatcher installed in it.

What takes long is done once for the same wheels. Programs run chrooted, so that they see nothing but their device.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from cross.audit import glibc_minor, platform_tags
from cross.environment import make_environment
from cross.pins import HASHED, PINS
from cross.sysroot import SYSROOT_ID, make_sysroot
from cross.wheelhouse import make_wheelhouse
from cross.workshop import DISTRIBUTION, REPOSITORY, StepFailedError, digest_of, make_once, python_version, run
from pypatcher.targets import Target
from qemu.namespace import bind

__all__ = ["CACHE", "WORKERS", "Device"]

CACHE = REPOSITORY / ".cache" / "qemu"
WORKERS = 2
"""How many devices do something long at once."""

_VENV = "/opt/pypatcher"


class Device:
    """The device of one target."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.root = CACHE / target.name / "root"
        self.wheelhouse = REPOSITORY / "wheelhouse" / target.name
        self.python = f"{_VENV}/bin/python"
        self.pypatcher = f"{_VENV}/bin/pypatcher"

    def prepare(self) -> None:
        """Make its root filesystem, on the host, if it is not there yet."""
        make_wheelhouse(self.target)
        sysroot = make_sysroot(self.target)
        libraries = make_environment(self.target).libraries
        pins = PINS / "device.txt"

        def fill(root: Path) -> None:
            run("cp", "-a", "--link", f"{sysroot}/.", root)
            for folder in ("proc", "dev", "tmp", "root", "src", "wheelhouse", "device", "opt/tests"):
                (root / folder).mkdir(parents=True, exist_ok=True)
            for name in ("sh", "cat", "echo", "sleep", "true", "false"):
                (root / "bin" / name).symlink_to("busybox")
            (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="ascii")
            (root / "etc" / "group").write_text("root:x:0:\n", encoding="ascii")
            tags = [word for tag in platform_tags(self.target, glibc_minor(libraries)) for word in ("--platform", tag)]
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", *HASHED]
            run(*pip, "--python-version", python_version(), *tags, "--target", root / "opt" / "tests", "-r", pins)

        make_once(self.root, digest_of(Path(__file__), pins, names=[SYSROOT_ID]), fill)

    def mount(self) -> None:
        """Inside the namespace: what a running device has at /proc, /dev, and the sources to test."""
        # A mount of its own shows which filesystem the device is on, as on a real one.
        bind(self.root, self.root)
        bind(Path("/proc"), self.root / "proc")
        bind(Path("/dev"), self.root / "dev")
        bind(self.wheelhouse, self.root / "wheelhouse")
        bind(REPOSITORY / "tests", self.root / "src" / "tests")
        bind(REPOSITORY / "targets", self.root / "src" / "targets")
        bind(REPOSITORY / "bench", self.root / "src" / "bench")
        shutil.copy2(REPOSITORY / "pyproject.toml", self.root / "src")

    def install(self) -> bool:
        """pip installs pypatcher from the wheelhouse, without a network; False if these wheels are installed already.

        Raises:
            StepFailedError: it does not install.
        """
        wheels = sorted(self.wheelhouse.glob("*.whl"))
        stamp = self.root / "opt" / f"installed-{digest_of(*wheels)}"
        if stamp.exists():
            return False
        for old in (self.root / "opt").glob("installed-*"):
            old.unlink()
        shutil.rmtree(self.root / _VENV.lstrip("/"), ignore_errors=True)
        self.run(f"/usr/bin/python{python_version()}", "-m", "venv", "--without-pip", _VENV)
        pip = next(wheel.name for wheel in wheels if wheel.name.startswith("pip-"))
        arguments = ["install", "-q", "--no-index", "--find-links", "/wheelhouse", DISTRIBUTION]
        self.run(self.python, f"/wheelhouse/{pip}/pip", *arguments, PIP_CONFIG_FILE="/dev/null")
        stamp.touch()
        return True

    def run(self, *command: str, **environment: str) -> str:
        """Run a program on the device to its end; returns its standard output.

        Raises:
            StepFailedError: it failed.
        """
        done = subprocess.run(
            self.command(*command),
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            last = "\n".join(done.stdout.splitlines()[-60:])
            raise StepFailedError(f"{self.target.name}: {' '.join(command)}\nstatus {done.returncode}:\n{last}")
        return done.stdout

    def command(self, *command: str) -> list[str]:
        """The command line on the host."""
        return ["/usr/sbin/chroot", str(self.root), *command]

    def environment(self, **extra: str) -> dict[str, str]:
        """The environment of a program there; nothing of the host's."""
        base = {"PATH": f"{_VENV}/bin:/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        return {**base, "QEMU_CPU": self.target.qemu_cpu, **extra}

    def path(self, inside: str) -> Path:
        """Where a path of the device is on the host."""
        return self.root / inside.lstrip("/")
