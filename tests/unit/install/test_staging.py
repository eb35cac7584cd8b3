"""What becomes of a download: staged with the program's attributes, refused, or removed."""

from __future__ import annotations

import contextlib
import os
import stat
import threading

import pytest

from pypatcher.errors import ArtifactError, NotNewerError
from pypatcher.install.files import OsFiles
from pypatcher.install.layout import Entry
from tests.support.installations import V2, V3, MakeInstallation, download, names
from tests.support.text_programs import program, release_of, write_program


def test_what_is_staged_has_the_programs_mode_owner_and_attributes(make: MakeInstallation) -> None:
    device = make()
    device.program.chmod(0o750)
    with contextlib.suppress(OSError):  # some filesystems have none
        os.setxattr(device.program, "user.note", b"kept")
    device.settle("run")
    download(device, "2.0.0")
    staged = device.layout.state_folder / "staged"
    assert stat.S_IMODE(staged.stat().st_mode) == 0o750
    assert os.listxattr(staged) == os.listxattr(device.program)
    assert device.settle("run").activated == V2
    assert os.access(device.program, os.X_OK)


def test_a_download_that_is_not_what_was_announced_changes_nothing(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    for data in (program("2.0.0")[:-3], program("2.0.0", "other"), b"", b"noise"):
        partial = device.new_partial()
        partial.write(data)
        with pytest.raises(ArtifactError):
            device.stage(partial, release_of(program("2.0.0")).info)
        assert not partial.is_open
    assert names(device) == {"trial.json"}


def test_an_older_or_equal_version_is_not_staged(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    for version in ("1.0.0", "0.9.9"):
        with pytest.raises(NotNewerError):
            download(device, version, "x")
    assert names(device) == {"trial.json"}


def test_stale_downloads_are_removed_by_the_next_one(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    make().new_partial().write(b"left behind by a process that was killed")
    with device.new_partial() as partial:
        assert names(device) == {"trial.json", partial.entry.name}
        assert stat.S_IMODE(partial.path.stat().st_mode) == 0o600
    assert names(device) == {"trial.json"}


def test_a_download_under_way_is_not_stale_and_the_slower_one_loses(make: MakeInstallation) -> None:
    device, data = make(), program("2.0.0")
    device.settle("run")
    with device.new_partial() as slow, device.new_partial() as fast:
        slow.write(data[:5])
        fast.write(data)
        device.stage(fast, release_of(data).info)
        assert names(device) == {"trial.json", "staged", slow.entry.name}
        slow.write(data[5:])
        device.stage(slow, release_of(data).info)
    assert names(device) == {"trial.json", "staged"}


def test_staging_the_same_release_twice_is_fine(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    download(device, "2.0.0")
    assert device.staged_release() is not None


def test_an_older_release_left_in_staged_is_not_activated(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    write_program(device.program, "3.0.0")
    assert device.settle("run").version == V3
    assert "staged" not in names(device)


def test_no_restart_comes_before_a_staged_release_was_said(
    make: MakeInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is on the disk before that is durable, and a node that looks just then must not restart into it."""
    device, data = make(), program("2.0.0")
    device.settle("run")
    order: list[str] = []
    slow = OsFiles.rename
    looking = threading.Thread(target=lambda: order.append(f"restart {device.release_for_restart()}"[:7]))

    def rename(files: OsFiles, source: Entry, target: Entry) -> None:
        slow(files, source, target)
        if target.name == "staged":
            looking.start()
            looking.join(0.3)

    monkeypatch.setattr(OsFiles, "rename", rename)
    with device.new_partial() as partial:
        partial.write(data)
        device.stage(partial, release_of(data).info, lambda: order.append("said"))
    looking.join()
    assert order == ["said", "restart"]
    assert device.release_for_restart() is not None
