"""This machine's wheel on a newer Python than it was built with: an abi3 wheel is one for all of them.

Not emulated: a root filesystem of the next Debian release, which runs natively, stands in for a device that has it.
"""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

from cross.audit import platform_tags
from cross.own import make_own_wheel
from cross.sysroot import NEWER, SYSROOT_ID, make_newer_root
from cross.workshop import HERE, REPOSITORY, digest_of, fresh_folder, run
from pypatcher.targets import Target
from qemu.checks import run_wheel_tests
from qemu.device import CACHE, TEST_TOOLS, Device
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
        stamp = self.root.parent / f"newer-{digest_of(Path(__file__), wheel, names=[SYSROOT_ID])}.done"
        if stamp.exists():
            return
        fresh_folder(self.root.parent)
        run("cp", "-a", "--link", pristine, self.root)
        for folder in ("proc", "dev", "tmp", "root", "src"):
            (self.root / folder).mkdir(exist_ok=True)
        (self.root / "bin" / "sh").symlink_to("busybox")
        glibc = int(platform.libc_ver()[1].partition(".")[2])  # this machine's, which is older
        tags = [word for tag in platform_tags(self.target, glibc) for word in ("--platform", tag)]
        run(
            sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--only-binary=:all:",
            "--python-version", NEWER.python, *tags, "--target", self.root / "opt" / "tests",
            "-c", HERE / "wheelhouse.txt", wheel, *TEST_TOOLS,
        )  # fmt: skip
        stamp.touch()

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
