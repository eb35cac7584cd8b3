"""pypatcher on this machine, installed from its own wheel: the owner's tools and the node that seeds."""

from __future__ import annotations

import sys
from pathlib import Path

from cross.environment import is_native
from cross.own import make_own_wheel
from cross.pins import HASHED, PINS
from cross.workshop import StepFailedError, digest_of, make_once, run
from pypatcher.targets import load_targets
from qemu.device import CACHE

__all__ = ["Native"]


class Native:
    """An environment with pypatcher's native wheel.

    Raises:
        StepFailedError: this machine is no target itself.
    """

    def __init__(self) -> None:
        target = next(filter(is_native, load_targets().values()), None)
        if target is None:
            raise StepFailedError("this machine is none of targets/: nothing native can seed")
        self.target = target
        self.folder = CACHE / "native"
        self.python = self.folder / "bin" / "python"

    def prepare(self) -> None:
        """Make it, if it is not there with this wheel.

        Raises:
            StepFailedError: something cannot be installed.
        """
        wheel = make_own_wheel(self.target)

        def fill(folder: Path) -> None:
            run(sys.executable, "-m", "venv", folder)
            run(self.python, "-m", "pip", "install", "-q", *HASHED, "-r", PINS / "wheelhouse.txt")
            run(self.python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel)

        make_once(self.folder, digest_of(PINS / "wheelhouse.txt", wheel), fill, movable=False)

    def pypatcher(self, *arguments: str | Path, **environment: str) -> str:
        """Run a command of pypatcher; returns what it said."""
        return run(self.folder / "bin" / "pypatcher", *arguments, environment=environment)
