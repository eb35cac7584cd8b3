"""Folders that this user cannot use are said in words, with what to do, wherever the lack is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pypatcher.errors import CannotReplaceError
from pypatcher.install.layout import Layout
from pypatcher.install.state_folder import StateFolder, open_folders

NOBODY = 65534


@contextmanager
def somebody_else() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def layout() -> Iterator[Layout]:
    """A program's folder of root's that others can look into."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield Layout(folder / "app")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")
@pytest.mark.parametrize("lack", ["no right to make it", "no right to open it", "no right to look"])
def test_who_lacks_rights_is_told_whom_the_folder_must_belong_to(layout: Layout, lack: str) -> None:
    if lack == "no right to open it":
        layout.state_folder.mkdir(0o700)
    if lack == "no right to look":
        layout.folder.chmod(0o700)
    with (
        somebody_else(),
        pytest.raises(
            CannotReplaceError,
            match=f"user {NOBODY} cannot use .*: be root or the service's user, to whom {layout.folder} must",
        ),
        open_folders(layout, StateFolder.MADE),
    ):
        raise AssertionError
