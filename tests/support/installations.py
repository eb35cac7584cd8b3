"""What the tests of an installation on a real disk share: downloads, starts, and a look into its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeAlias

from pypatcher.install import Caller, Installation, Launcher
from pypatcher.version import Version
from tests.support.text_programs import program, release_of

__all__ = ["V1", "V2", "V3", "MakeInstallation", "caller", "download", "names", "nobody_lives", "trial_of"]

MakeInstallation: TypeAlias = Callable[..., Installation]
"""A new object for the same program, as a new process has one."""

V1, V2, V3 = Version(1, 0, 0), Version(2, 0, 0), Version(3, 0, 0)


def download(installation: Installation, version: str, text: str = "") -> None:
    """Fetch and stage a release."""
    data = program(version, text)
    with installation.new_partial() as partial:
        partial.write(data)
        installation.stage(partial, release_of(data).info)


def caller(pid: int, launcher: Launcher = "run", boot: str = "boot") -> Caller:
    """A start by another process."""
    return Caller(launcher, boot, f"start-{pid}", pid, 1)


def nobody_lives(pid: int, starttime: int) -> bool:
    """All processes have ended."""
    return False


def names(installation: Installation) -> set[str]:
    """What is in the state folder besides locks."""
    return {path.name for path in installation.layout.state_folder.iterdir()} - {"lock", "instances", "updater"}


def trial_of(installation: Installation) -> dict[str, object] | None:
    """The trial as it is written down."""
    return json.loads((installation.layout.state_folder / "trial.json").read_text())["trial"]  # type: ignore[no-any-return]
