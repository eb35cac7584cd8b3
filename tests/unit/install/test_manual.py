"""What a person does to an installation: rolls it back, puts another program there, asks how it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pypatcher.errors import CannotReplaceError, RefusedReleaseError, StateError
from pypatcher.install.files import OsFiles
from pypatcher.version import Version
from tests.support.installations import V1, V2, MakeInstallation, download
from tests.support.text_programs import program, write_program


def test_by_hand_back_to_the_previous_version(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run")
    device.confirm()
    assert device.roll_back() == (V1, True)
    settled = device.settle("run")
    assert settled.version == V1
    with pytest.raises(RefusedReleaseError):
        download(device, "2.0.0")
    with pytest.raises(StateError):
        device.roll_back()


def test_a_rollback_of_a_running_program_is_done_by_the_next_start(make: MakeInstallation) -> None:
    running = make()
    running.settle("run")
    download(running, "2.0.0")
    running.settle("run")
    running.confirm()
    assert make().roll_back() == (V1, False)
    assert [one.info.version for one in running.held()] == [V1]  # what is to come back
    settled = running.settle("run")
    assert (settled.version, settled.rolled_back) == (V1, V2)


def test_what_a_person_puts_there_is_confirmed_whatever_its_version(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run")
    write_program(device.program, "0.5.0")
    settled = device.settle("run")
    assert (settled.version, settled.on_trial) == (Version(0, 5, 0), False)
    assert device.status().confirmed == device.status().newest == Version(0, 5, 0)


def test_status_reads_without_making_anything(make: MakeInstallation) -> None:
    device = make()
    status = device.status()
    assert (status.running, status.confirmed, status.needs) == (V1, None, "")
    assert not device.layout.state_folder.exists()
    device.program.unlink()
    assert "put a signed release" in device.status().needs


def test_what_a_killed_stage_left_is_gone_after_the_next_start(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    torn = device.layout.path(device.layout.by_hand)
    torn.write_bytes(b"half of")
    device.settle("run")
    assert not torn.exists()


@pytest.mark.parametrize("command", ["stage", "adopt"])
def test_a_start_waits_for_no_file_that_a_person_brings(
    make: MakeInstallation, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of a slow copy the program starts, and another command wants to copy."""
    device, brought = make(), tmp_path / "brought"
    device.settle("guard")
    brought.write_bytes(program("2.0.0"))
    slow, seen = OsFiles.copy, []

    def copy(files: OsFiles, source: int, target: int) -> None:
        os.write(target, b"half of")
        os.lseek(target, 0, os.SEEK_SET)
        seen.append(make().settle("guard"))
        with pytest.raises(StateError, match="another command copies"):
            make().stage_file(source)
        slow(files, source, target)

    monkeypatch.setattr(OsFiles, "copy", copy)
    with brought.open("rb") as source:
        put = device.stage_file if command == "stage" else device.adopt
        assert put(source.fileno()) == V2
    assert [(one.version, one.reason) for one in seen] == [(V1, "")]
    assert device.settle("run").version == V2


def test_a_program_that_started_meanwhile_is_not_replaced(
    make: MakeInstallation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, running, brought = make(), make(), tmp_path / "brought"
    brought.write_bytes(program("2.0.0"))
    slow = OsFiles.copy

    def copy(files: OsFiles, source: int, target: int) -> None:
        running.settle("run")
        slow(files, source, target)

    monkeypatch.setattr(OsFiles, "copy", copy)
    with brought.open("rb") as source, pytest.raises(CannotReplaceError, match="runs: stop it first"):
        device.adopt(source.fileno())
    assert device.running_info().id.version == V1  # type: ignore[union-attr]
    assert not device.layout.path(device.layout.by_hand).exists()
