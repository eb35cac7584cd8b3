"""An installation whose disk, records or folder are damaged, full, or somebody else's: the program starts."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pypatcher.install.files import OsFiles
from tests.support.installations import V1, V2, MakeInstallation, caller, download, nobody_lives
from tests.support.text_programs import program


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\0" * 300, b"[]", b'{"format": 2}', os.urandom(500), b"\xff" * 10], ids=repr
)
def test_a_damaged_state_file_costs_nothing_but_time(make: MakeInstallation, damage: bytes) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run")
    (device.layout.state_folder / "trial.json").write_bytes(damage)
    settled = device.settle("run")
    assert (settled.version, settled.on_trial) == (V2, True)
    assert device.status().confirmed == V1
    assert device.confirm() == V2


@pytest.mark.parametrize("name", ["trial.json", "trial.json.new", "staged", "previous", "previous.new"])
def test_links_where_files_should_be_are_not_followed(make: MakeInstallation, tmp_path: Path, name: str) -> None:
    device = make()
    device.settle("run")
    precious = tmp_path / "precious"
    precious.write_bytes(program("9.0.0"))
    path = device.layout.state_folder / name
    path.unlink(missing_ok=True)
    path.symlink_to(precious)
    settled = device.settle("run")
    assert (settled.version, settled.reason) == (V1, "")
    assert make().settle("run").version == V1
    assert precious.read_bytes() == program("9.0.0")


def test_a_state_folder_that_is_a_link_is_not_used(make: MakeInstallation, tmp_path: Path) -> None:
    device = make()
    (tmp_path / "elsewhere").mkdir()
    device.layout.state_folder.symlink_to(tmp_path / "elsewhere")
    settled = device.settle("run")
    assert settled.version == V1
    assert "is not a folder" in settled.reason
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_state_folder_that_others_can_write_is_not_used(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    device.layout.state_folder.chmod(0o777)
    settled = make().settle("run")
    assert (settled.version, settled.serve) == (V1, False)
    assert "chmod 700" in settled.reason


@pytest.mark.parametrize("content", [b"", b"\0" * 100_000])
def test_guard_and_run_put_previous_back_over_an_emptied_program(make: MakeInstallation, content: bytes) -> None:
    device = make()
    device.settle("guard")
    download(device, "2.0.0")
    device.settle("guard", caller=caller(1, "guard"))
    assert device.confirm() == V2
    device.program.unlink()
    device.program.write_bytes(content)
    assert device.settle("spawn").version is None
    assert device.settle("run").version == V1


def test_a_full_disk_puts_an_activation_off(make: MakeInstallation, monkeypatch: pytest.MonkeyPatch) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")

    def full(self: OsFiles, fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(OsFiles, "write", full)
        settled = device.settle("run")
    assert (settled.version, settled.put_off) == (V1, True)
    assert "No space left" in settled.reason
    assert device.release_for_restart() is None
    assert device.settle("run").activated == V2


def test_a_full_disk_hides_no_crash(make: MakeInstallation, monkeypatch: pytest.MonkeyPatch) -> None:
    device = make(lives=nobody_lives)
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run", caller=caller(1))

    def full(self: OsFiles, fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(OsFiles, "write", full)
        settled = device.settle("run", caller=caller(2))
    assert (settled.version, settled.rolled_back) == (V1, V2)
    assert device.program.read_bytes() == program("1.0.0")
    assert device.settle("run", caller=caller(3)).reason == ""


@pytest.mark.parametrize("operation", ["create", "write", "sync", "sync_folder", "rename", "link", "unlink", "open"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.ENOMEM, errno.EMFILE])
def test_an_error_of_any_operation_stops_no_start(
    make: MakeInstallation, monkeypatch: pytest.MonkeyPatch, operation: str, number: int
) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")

    def fails(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as disk:
        disk.setattr(OsFiles, operation, fails)
        make().settle("run")
    assert device.program.read_bytes() in {program("1.0.0"), program("2.0.0")}
    assert make().settle("guard").version in {V1, V2}


def test_without_hard_links_previous_is_a_copy(make: MakeInstallation, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(OsFiles, "link", no_links)
    device = make(lives=nobody_lives)
    device.settle("run")
    download(device, "2.0.0")
    for pid in range(1, 5):
        settled = device.settle("run", caller=caller(pid))
    assert settled.version == V1
    assert os.access(device.program, os.X_OK)
