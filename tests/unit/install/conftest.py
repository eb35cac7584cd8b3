"""Fixtures: an installation of text programs on the real disk, below pytest's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from pypatcher.install import Installation
from tests.support.installations import MakeInstallation
from tests.support.text_programs import verify_program, write_program


@pytest.fixture
def program_path(tmp_path: Path) -> Path:
    folder = tmp_path / "device"
    folder.mkdir(mode=0o755)
    return write_program(folder / "app", "1.0.0")


@pytest.fixture
def make(program_path: Path) -> MakeInstallation:
    """A new object, as a new process has one; filesystems of every kind are fine unless a test says otherwise."""

    def installation(**settings: object) -> Installation:
        settings.setdefault("kind", lambda _: "ext4")
        return Installation(program_path, verify_program, **settings)  # type: ignore[arg-type]

    return installation
