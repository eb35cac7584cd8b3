"""The real disk behind `Files`: what a guard that runs as root may touch in a folder of the service's user."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pypatcher.install.layout import Layout
from pypatcher.install.state_folder import StateFolder, open_folders


@pytest.fixture
def given_away(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Inodes that were given to the folder's owner by a process that is root, as far as it can tell."""
    inodes: list[int] = []
    real = os.fstat

    def owned_by_another(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        # Folders belong to the service's user, files to root.
        return os.stat_result((*found[:4], 1234 if stat.S_ISDIR(found.st_mode) else 0, *found[5:]))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fstat", owned_by_another)
    monkeypatch.setattr(os, "fchown", lambda descriptor, _uid, _gid: inodes.append(real(descriptor).st_ino))
    return inodes


def test_a_lock_that_is_a_link_to_a_file_elsewhere_is_not_given_away(tmp_path: Path, given_away: list[int]) -> None:
    layout = Layout(tmp_path / "app")
    layout.state_folder.mkdir(mode=0o700)
    secret = tmp_path / "secret"
    secret.write_text("of root's")
    os.link(secret, layout.state_folder / "lock")
    with open_folders(layout, StateFolder.MADE) as files:
        for entry in (layout.lock, layout.updater):
            descriptor = files.lock(entry)
            assert descriptor is not None
            files.close(descriptor)
    assert secret.stat().st_ino not in given_away
    assert (layout.state_folder / "updater").stat().st_ino in given_away


def test_a_lock_that_is_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "app")
    layout.state_folder.mkdir(mode=0o700)
    os.mkfifo(layout.state_folder / "lock")
    with open_folders(layout, StateFolder.MADE) as files:
        descriptor = files.lock(layout.lock)
        assert descriptor is not None
        files.close(descriptor)
