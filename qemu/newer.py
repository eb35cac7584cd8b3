"""This machine's wheel on a newer Python than it was built with: an abi3 wheel is one for all of them.

Not emulated: a root filesystem of the next Debian release, which runs natively, stands in for a device that has it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from cross.audit import glibc_minor, platform_tags
from cross.environment import make_environment
from cross.own import make_own_wheel
from cross.pins import HASHED, PINS
from cross.sysroot import NEWER, SYSROOT_ID, make_newer_root
from cross.workshop import REPOSITORY, digest_of, make_once, run
from pypatcher.targets import Target
from qemu.checks import run_wheel_tests
from qemu.device import CACHE, Device
from qemu.namespace import bind

__all__ = ["NewerPython"]


class NewerPython(Device):
    """A device like this machine, with a newer Debian."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.root = CACHE / target.name / f"root-{NEWER.codename}"
        self.python = f"/usr/bin/python{NEWER.python}"

    def prepare(self) -> None:
        """Make its root filesystem with the wheel, and what that imports, on the host, if it is not there yet."""
        wheel = make_own_wheel(self.target)
        pristine = make_newer_root(self.target)
        pins = [PINS / "wheelhouse.txt", PINS / "device.txt"]

        def fill(root: Path) -> None:
            run("cp", "-a", "--link", f"{pristine}/.", root)
            for folder in ("proc", "dev", "tmp", "root", "src"):
                (root / folder).mkdir(exist_ok=True)
            (root / "bin" / "sh").symlink_to("busybox")
            glibc = glibc_minor(make_environment(self.target).libraries)  # this machine's, which is older
            tags = [word for tag in platform_tags(self.target, glibc) for word in ("--platform", tag)]
            pip: list[str | Path] = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--no-compile",
                "--target",
                root / "opt" / "tests",
            ]
            lists: list[str | Path] = [word for file in pins for word in ("-r", file)]
            run(*pip, *HASHED, "--python-version", NEWER.python, *tags, *lists)
            run(*pip, "--no-deps", "--no-index", "--only-binary=:all:", "--python-version", NEWER.python, *tags, wheel)

        make_once(self.root, digest_of(Path(__file__), wheel, *pins, names=[SYSROOT_ID]), fill)

    def mount(self) -> None:
        """Inside the namespace: what its programs need, and the tests."""
        for folder in ("proc", "dev"):
            bind(Path("/") / folder, self.root / folder)
        bind(REPOSITORY / "tests", self.root / "src" / "tests")
        shutil.copy2(REPOSITORY / "pyproject.toml", self.root / "src")

    def test(self) -> tuple[str, int]:
        """Run the tests of the wheel; its Python's version, and how many passed.

        Raises:
            StepFailedError: one failed, or the extensions were not in use.
        """
        return NEWER.python, run_wheel_tests(self)
