"""An installation on a real disk: from the first start over activation and trial to confirmation or back."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from pypatcher.artifact import read_release, sign_file
from pypatcher.errors import NotNewerError, RefusedReleaseError, SignatureMismatchError
from pypatcher.install import Caller, EntryKind, Installation, owner_verifies
from pypatcher.install.examine import Examined
from pypatcher.install.files import Files, OsFiles
from pypatcher.install.layout import Entry, Folder
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.targets import find_target
from tests.support.installations import V1, V2, V3, MakeInstallation, caller, download, nobody_lives, trial_of
from tests.support.programs import with_section
from tests.support.text_programs import program, release_of


def test_a_program_seen_for_the_first_time_is_confirmed(make: MakeInstallation) -> None:
    settled = make().settle("run")
    assert (settled.version, settled.row, settled.serve, settled.on_trial) == (V1, 7, True, False)
    assert make().status().confirmed == V1


def test_the_folder_beside_the_program_is_for_its_user_alone(make: MakeInstallation) -> None:
    installation = make()
    installation.settle("run")
    assert stat.S_IMODE(installation.layout.state_folder.stat().st_mode) == 0o700


def test_a_staged_release_is_activated_at_the_next_start(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    assert [one.info.version for one in device.held()] == [V2, V1]
    settled = device.settle("run")
    assert (settled.version, settled.activated, settled.on_trial, settled.must_exec) == (V2, V2, True, False)
    assert device.program.read_bytes() == program("2.0.0")
    assert (device.layout.state_folder / "previous").read_bytes() == program("1.0.0")
    assert device.confirm() == V2
    assert device.confirm() is None
    assert device.status().confirmed == device.status().newest == V2


@pytest.mark.parametrize("after", range(3))
def test_a_release_that_is_activated_meanwhile_is_not_wanted_again(
    make: MakeInstallation, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A node asks while another process, such as ``run``, activates what it staged: neither waits for the other."""
    device, other = make(), make()
    other.settle("run")
    download(other, "2.0.0")
    examine, seen = device._examiner.examine, 0

    def look(files: Files, entry: Entry) -> Examined:
        nonlocal seen
        found, seen = examine(files, entry), seen + 1
        if seen == after:
            other.settle("run")
        return found

    if not after:
        other.settle("run")
    monkeypatch.setattr(device._examiner, "examine", look)
    with pytest.raises(NotNewerError):
        device.check_wanted(V2)
    assert seen == 2


def test_a_program_that_settles_itself_execs_and_the_new_one_counts(make: MakeInstallation) -> None:
    device = make()
    device.settle("spawn")
    download(device, "2.0.0")
    assert device.settle("spawn").must_exec
    assert trial_of(device)["open"] is None  # type: ignore[index]
    assert device.confirm() is None
    fresh = make()
    device.settle("spawn")
    settled = fresh.settle("spawn", caller=caller(1, "spawn"))
    assert (settled.must_exec, settled.on_trial, settled.version) == (False, True, V2)


@pytest.mark.parametrize("errors", [1, 8], ids=["once", "for good"])
def test_an_error_after_the_rename_hides_no_new_program(
    make: MakeInstallation, monkeypatch: pytest.MonkeyPatch, errors: int
) -> None:
    device = make()
    device.settle("spawn")
    download(device, "2.0.0")
    left = errors
    sync = OsFiles.sync_folder

    def fail(files: OsFiles, folder: Folder) -> None:
        nonlocal left
        if left and device.program.read_bytes() == program("2.0.0"):
            left -= 1
            raise OSError(errno.EIO, "Input/output error")
        sync(files, folder)

    monkeypatch.setattr(OsFiles, "sync_folder", fail)
    assert device.settle("spawn").must_exec
    assert device.confirm() is None


def test_three_failed_starts_lead_back_and_the_file_is_refused(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    for _ in range(3):
        assert device.settle("run").version == V2
        assert device.end_start(requested=False)
    settled = device.settle("run")
    assert (settled.version, settled.rolled_back, settled.serve) == (V1, V2, True)
    assert [refused.reason for refused in device.status().refused] == ["2.0.0: 3 failed starts, 0 reboots on trial"]
    with pytest.raises(RefusedReleaseError):
        download(device, "2.0.0")
    download(device, "2.0.0", "another build")
    assert device.settle("run").activated == V2


def test_the_successor_of_a_failed_release_is_welcome(make: MakeInstallation) -> None:
    device = make(lives=nobody_lives)
    device.settle("run", caller=caller(1))
    download(device, "2.0.0")
    for pid in range(2, 6):
        device.settle("run", caller=caller(pid))
    assert device.status().running == V1
    download(device, "3.0.0")
    assert device.settle("run").version == V3
    assert device.confirm() == V3


def test_a_requested_stop_is_no_failure(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    for _ in range(20):
        assert device.settle("run").failed == 0
        assert device.end_start(requested=True)
    assert not device.end_start(requested=True)


def test_reboots_have_a_limit_of_their_own(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    versions = [device.settle("run", caller=caller(1, boot=f"boot {number}")).version for number in range(11)]
    assert versions == [V2] * 10 + [V1]


def test_a_hotfix_staged_during_a_trial_waits_for_its_end(make: MakeInstallation) -> None:
    device = make(lives=nobody_lives)
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run", caller=caller(1))
    download(device, "3.0.0")
    assert device.settle("run", caller=caller(2)).version == V2
    assert device.confirm() == V2
    assert device.settle("run", caller=caller(3)).version == V3


def test_a_guards_start_is_claimed_by_the_program_and_ended_by_guard(make: MakeInstallation) -> None:
    device = make(lives=nobody_lives)
    device.settle("run")
    download(device, "2.0.0")
    unit = Caller("guard", "boot", "unit", 10, 1)
    assert make().settle("guard", caller=unit).version == V1
    assert device.settle("run", caller=caller(1)).version == V2
    device.end_start(requested=True, caller=caller(1))
    device = make(lives=nobody_lives)
    assert device.settle("guard", caller=unit).on_trial
    device.settle("spawn", caller=Caller("spawn", "boot", "unit", 11, 1, main=True))
    start = trial_of(device)["open"]  # type: ignore[index]
    assert (start["pid"], start["by"], start["claimed"]) == (11, "guard", True)  # type: ignore[index]
    assert device.end_start(requested=False, caller=Caller("guard", "boot", "unit", 12, 1))
    assert trial_of(device)["failed"] == 1  # type: ignore[index]


def test_a_program_without_a_signature_runs_and_nothing_is_made(make: MakeInstallation) -> None:
    device = make()
    device.program.write_bytes(b"#!/bin/sh\n")
    settled = device.settle("run")
    assert (settled.row, settled.version, settled.serve) == (1, None, False)
    assert "no region" in settled.reason
    assert not device.layout.state_folder.exists()


def test_during_a_trial_nothing_waits_for_a_restart(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run")
    download(device, "3.0.0")
    assert device.release_for_restart() is None
    device.confirm()
    assert device.release_for_restart() is not None


def test_a_start_does_not_hash_a_quiet_program_twice(make: MakeInstallation) -> None:
    hashed = []

    def verify(fd: int, expect: object = None, /) -> object:
        hashed.append(fd)
        return release_of(os.pread(fd, 1000, 0))

    device = make()
    old = device.program.stat().st_mtime - 60
    os.utime(device.program, (old, old))
    device._examiner._verify = verify  # type: ignore[assignment]
    device._examiner._now_ns = lambda: device.program.stat().st_ctime_ns + 10**10
    device.settle("run")
    device.settle("run")
    assert device.running_info().kind is EntryKind.GOOD
    assert len(hashed) == 1


def test_a_real_signed_release_goes_all_the_way(tmp_path: Path) -> None:
    key = KeyPair.from_seed(bytes(32))

    def signed(name: str, version: str, pair: KeyPair = key) -> Path:
        path = tmp_path / name
        path.write_bytes(with_section(version))
        sign_file(path, pair, None, None)
        return path

    folder = tmp_path / "device"
    folder.mkdir()
    signed("one", "1.0.0").rename(folder / "app")
    release = signed("two", "2.0.0")
    forged = signed("three", "3.0.0", KeyPair.from_seed(b"x" * 32))
    verify = owner_verifies(OwnerKey(key.public), find_target("x86_64"))
    device = Installation(folder / "app", verify, kind=lambda _: "ext4")
    assert device.settle("run").version == V1
    for path, expected in ((forged, False), (release, True)):
        with path.open("rb") as file:
            info = read_release(file.fileno()).info
        device.preflight(info.file_size)
        with device.new_partial() as partial:
            partial.write(path.read_bytes())
            if expected:
                assert device.stage(partial, info) == info
            else:
                with pytest.raises(SignatureMismatchError):
                    device.stage(partial, info)
    assert device.settle("run").activated == V2
    assert device.confirm() == V2
    assert (folder / "app").read_bytes() == release.read_bytes()


def test_a_program_under_another_key_gets_no_updates_and_says_why(program_path: Path) -> None:
    program_path.write_bytes(with_section("1.0.0"))
    sign_file(program_path, KeyPair.from_seed(bytes(32)), None, None)
    stranger = OwnerKey(KeyPair.from_seed(b"x" * 32).public)
    settled = Installation(program_path, owner_verifies(stranger, None)).settle("run")
    assert (settled.row, settled.serve) == (1, False)
    assert "not signed by the owner" in settled.reason
