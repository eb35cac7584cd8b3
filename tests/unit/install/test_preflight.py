"""Each reason why a release could not be installed here is found before the download, and said in one line."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pypatcher.errors import CannotReplaceError
from pypatcher.install import Installation, filesystem_type
from pypatcher.install.files import OsFiles
from tests.support.installations import MakeInstallation
from tests.support.text_programs import verify_program, write_program


def reason(device: Installation, size: int = 1000) -> str:
    with pytest.raises(CannotReplaceError) as refused:
        device.preflight(size)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_an_ordinary_device_passes_and_keeps_no_trial_files(make: MakeInstallation) -> None:
    device = make()
    device.preflight(1000)
    assert list(device.layout.state_folder.iterdir()) == []


def test_a_program_in_a_private_folder_below_a_sticky_one_passes(make: MakeInstallation) -> None:
    device = make()
    device.layout.folder.parent.chmod(0o1777)
    device.preflight(1000)


@pytest.mark.parametrize("kind", ["overlay", "tmpfs", "ramfs", "rootfs", "aufs"])
def test_a_filesystem_that_forgets_is_refused_unless_allowed(make: MakeInstallation, kind: str) -> None:
    assert f"is on {kind}, so an update would be lost" in reason(make(kind=lambda _: kind))
    make(kind=lambda _: kind).preflight(1000, allow_volatile=True)


def test_too_little_room_is_said_in_numbers(make: MakeInstallation) -> None:
    text = reason(make(), 1 << 60)
    assert "KiB free and the update needs 1125899906843648 KiB" in text


def test_without_hard_links_the_previous_program_needs_room_too(
    make: MakeInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make()

    class Room:
        f_flag, f_frsize, f_files, f_favail = 0, 1, 0, 0
        f_bavail = 1000 + (1 << 20)

    monkeypatch.setattr(os, "statvfs", lambda _: Room)
    device.preflight(1000)

    def no_links(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(OsFiles, "link", no_links)
    assert "update needs" in reason(device)


def test_a_filesystem_without_inodes_is_refused(make: MakeInstallation, monkeypatch: pytest.MonkeyPatch) -> None:
    class Room:
        f_flag, f_frsize, f_bavail, f_files, f_favail = 0, 4096, 1 << 40, 1000, 0

    monkeypatch.setattr(os, "statvfs", lambda _: Room)
    assert "no free inodes" in reason(make())


def test_a_read_only_filesystem_is_refused(make: MakeInstallation, monkeypatch: pytest.MonkeyPatch) -> None:
    class Room:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(os, "statvfs", lambda _: Room)
    assert "mounted read-only" in reason(make())


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755])
def test_setuid_and_setgid_programs_are_refused(make: MakeInstallation, mode: int) -> None:
    device = make()
    device.program.chmod(mode)
    assert "setuid or setgid" in reason(device)


def test_a_folder_that_everybody_can_write_is_refused(make: MakeInstallation) -> None:
    device = make()
    for mode in (0o777, 0o1777):
        device.layout.folder.chmod(mode)
        assert "everybody can write" in reason(device)


def test_a_program_that_everybody_can_write_is_refused(make: MakeInstallation) -> None:
    device = make()
    device.program.chmod(0o757)
    assert "everybody can write" in reason(device)


def test_a_folder_that_a_group_can_write_is_refused(make: MakeInstallation, monkeypatch: pytest.MonkeyPatch) -> None:
    device = make()
    device.layout.folder.chmod(0o775)

    def unknown(gid: int) -> None:
        raise KeyError(gid)

    monkeypatch.setattr("grp.getgrgid", unknown)
    assert "chmod g-w" in reason(device)


def test_a_folder_that_the_users_own_group_can_write_passes(
    make: MakeInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make()
    device.layout.folder.chmod(0o775)
    user = pwd.getpwuid(os.geteuid()).pw_name
    for members, passes in (([], True), ([user], True), (["nobody"], False)):
        group = grp.struct_group((user, "x", os.getegid(), members))
        monkeypatch.setattr(grp, "getgrgid", lambda _, group=group: group)
        if passes:
            device.preflight(1000)
        else:
            assert "chmod g-w" in reason(device)


def test_a_folder_of_another_user_is_refused(make: MakeInstallation, monkeypatch: pytest.MonkeyPatch) -> None:
    device = make()
    owner = device.layout.folder.stat().st_uid
    if owner == 0:
        os.chown(device.layout.folder, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert "belongs to user" in reason(device)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file capabilities")
def test_file_capabilities_are_said_before_a_download() -> None:
    """A service without rights of its own cannot give the next version what a person gave this one by setcap."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        program = write_program(folder / "app", "1.0.0")
        for path in (folder, program):
            path.chmod(0o755)
            os.chown(path, 4711, 4711)
        os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
        device = Installation(program, verify_program, kind=lambda _: "ext4")
        os.setegid(4711)
        os.seteuid(4711)
        try:
            said = reason(device)
        finally:
            os.seteuid(0)
            os.setegid(0)
    assert "cannot be kept by user 4711" in said
    assert "security.capability" in said


def test_attributes_that_cannot_be_kept_are_refused(make: MakeInstallation, monkeypatch: pytest.MonkeyPatch) -> None:
    device = make()

    def forbidden(self: OsFiles, source: int, target: int) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(OsFiles, "copy_attributes", forbidden)
    assert "cannot be kept" in reason(device)
    assert list(device.layout.state_folder.iterdir()) == []


def test_what_is_no_regular_file_is_refused(make: MakeInstallation) -> None:
    device = make()
    device.program.unlink()
    assert "No such file" in reason(device)
    os.mkfifo(device.program)
    assert "not a regular file" in reason(device)


def test_a_link_to_the_program_leads_to_its_own_folder(make: MakeInstallation, tmp_path: Path) -> None:
    device = make()
    link = tmp_path / "link"
    link.symlink_to(device.program)
    followed = Installation(link, verify_program, kind=lambda _: "ext4")
    assert followed.layout == device.layout
    followed.preflight(1000)


def test_the_type_of_a_filesystem_is_that_of_the_innermost_mount() -> None:
    assert filesystem_type(Path("/proc/self")) == "proc"
    assert filesystem_type(Path("/")) != ""
