"""An installation on a real disk: staging, activation, trial, rollback, and everything that a person may do to it."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from pypatcher.artifact import read_release, sign_file
from pypatcher.errors import (
    ArtifactError,
    CannotReplaceError,
    NotNewerError,
    RefusedReleaseError,
    SignatureMismatchError,
    StateError,
)
from pypatcher.install import Caller, Installation, Kind, Launcher, owner_verifies
from pypatcher.install.files import OsFiles
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.targets import find_target
from pypatcher.version import Version
from tests.support.programs import with_section
from tests.support.text_programs import program, release_of, verify_program, write_program

MakeInstallation: TypeAlias = Callable[..., Installation]

V1, V2, V3 = Version(1, 0, 0), Version(2, 0, 0), Version(3, 0, 0)


def download(installation: Installation, version: str, text: str = "") -> None:
    data = program(version, text)
    with installation.new_partial() as partial:
        partial.write(data)
        installation.stage(partial, release_of(data).info)


def caller(pid: int, launcher: Launcher = "run", boot: str = "boot") -> Caller:
    return Caller(launcher, boot, f"start-{pid}", pid, 1)


def nobody_lives(pid: int, starttime: int) -> bool:
    return False


def names(installation: Installation) -> set[str]:
    return {path.name for path in installation.layout.state_folder.iterdir()} - {"lock", "instances", "updater"}


def trial_of(installation: Installation) -> dict[str, object] | None:
    return json.loads((installation.layout.state_folder / "trial.json").read_text())["trial"]  # type: ignore[no-any-return]


def test_a_program_seen_for_the_first_time_is_confirmed(make: MakeInstallation) -> None:
    settled = make().settle("run")
    assert (settled.version, settled.row, settled.serve, settled.on_trial) == (V1, 7, True, False)
    assert make().status().confirmed == V1


def test_the_folder_beside_the_program_is_for_its_user_alone(make: MakeInstallation) -> None:
    installation = make()
    installation.settle("run")
    assert stat.S_IMODE(installation.layout.state_folder.stat().st_mode) == 0o700


def test_a_staged_release_is_activated_at_the_next_start_and_confirmed(make: MakeInstallation) -> None:
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


def test_a_program_that_settles_itself_is_told_to_exec_and_the_new_one_counts_its_start(make: MakeInstallation) -> None:
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


def test_what_is_staged_has_the_programs_mode_owner_and_extended_attributes(make: MakeInstallation) -> None:
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


def test_three_failed_starts_lead_back_and_the_file_is_refused_from_then_on(make: MakeInstallation) -> None:
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


def test_a_second_process_counts_nothing(make: MakeInstallation) -> None:
    device = make(lives=lambda pid, _: pid == 1)
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run", caller=caller(1))
    before = trial_of(device)
    for pid in range(2, 8):
        assert device.settle("spawn", caller=caller(pid, "spawn")).on_trial
    assert trial_of(device) == before


def test_a_hotfix_staged_during_a_trial_waits_for_its_end(make: MakeInstallation) -> None:
    device = make(lives=nobody_lives)
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run", caller=caller(1))
    download(device, "3.0.0")
    assert device.settle("run", caller=caller(2)).version == V2
    assert device.confirm() == V2
    assert device.settle("run", caller=caller(3)).version == V3


def test_a_guards_start_is_claimed_by_the_program_and_ended_by_the_guard(make: MakeInstallation) -> None:
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


def test_a_rollback_by_hand_of_a_running_program_is_finished_by_the_next_start(make: MakeInstallation) -> None:
    running = make()
    running.settle("run")
    download(running, "2.0.0")
    running.settle("run")
    running.confirm()
    assert make().roll_back() == (V1, False)
    assert running.held() == ()
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


def test_an_older_release_left_in_staged_is_not_activated(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    write_program(device.program, "3.0.0")
    assert device.settle("run").version == V3
    assert "staged" not in names(device)


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


def test_a_program_without_a_signature_runs_and_nothing_is_made_beside_it(make: MakeInstallation) -> None:
    device = make()
    device.program.write_bytes(b"#!/bin/sh\n")
    settled = device.settle("run")
    assert (settled.row, settled.version, settled.serve) == (1, None, False)
    assert "no region" in settled.reason
    assert not device.layout.state_folder.exists()


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


def test_a_download_under_way_is_no_stale_one_and_the_slower_one_changes_nothing(make: MakeInstallation) -> None:
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


def test_the_program_is_not_changed_while_another_process_runs_from_it(make: MakeInstallation) -> None:
    running, starting = make(), make()
    running.settle("spawn")
    download(running, "2.0.0")
    settled = starting.settle("spawn", caller=caller(7, "spawn"))
    assert (settled.version, settled.activated, settled.must_exec) == (V1, None, False)
    assert running.program.read_bytes() == program("1.0.0")


def test_an_activation_that_was_put_off_is_no_reason_to_restart(make: MakeInstallation) -> None:
    running, starting = make(), make()
    running.settle("spawn")
    download(running, "2.0.0")
    assert running.release_for_restart() is not None
    assert starting.settle("spawn", caller=caller(7, "spawn")).put_off
    assert starting.release_for_restart() is None
    download(running, "3.0.0")
    assert starting.release_for_restart() is not None


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


def test_during_a_trial_nothing_waits_for_a_restart(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run")
    download(device, "3.0.0")
    assert device.release_for_restart() is None
    device.confirm()
    assert device.release_for_restart() is not None


def test_two_programs_in_one_folder_do_not_meet(make: MakeInstallation) -> None:
    device = make()
    other = Installation(write_program(device.program.with_name("other"), "1.0.0"), verify_program)
    device.settle("run")
    other.settle("run")
    download(device, "2.0.0")
    assert other.settle("run").version == V1
    assert device.settle("run").version == V2


def test_the_clone_of_a_card_goes_on_as_the_original_does(make: MakeInstallation, tmp_path: Path) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run", caller=caller(1))
    clone = tmp_path / "clone"
    shutil.copytree(device.layout.folder, clone)
    copied = Installation(clone / "app", verify_program)
    settled = copied.settle("run", caller=caller(1, boot="the clone's"))
    assert (settled.version, settled.on_trial) == (V2, True)
    assert copied.confirm() == V2


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


def test_there_is_one_updater(make: MakeInstallation) -> None:
    device = make()
    with device.updater_lock() as first, make().updater_lock() as second:
        assert (first, second) == (True, False)
    with make().updater_lock() as third:
        assert third


def test_a_forked_child_does_not_keep_the_updater_lock(make: MakeInstallation) -> None:
    context = multiprocessing.get_context("fork")
    device = make()
    here, go = context.Event(), context.Event()

    def live() -> None:
        here.set()
        go.wait()

    with device.updater_lock():
        child = context.Process(target=live)
        child.start()
        here.wait()
    try:
        with make().updater_lock() as mine:
            assert mine
    finally:
        go.set()
        child.join()


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
    assert device.running_info().kind is Kind.GOOD
    assert len(hashed) == 1


def test_status_reads_without_making_anything(make: MakeInstallation) -> None:
    device = make()
    status = device.status()
    assert (status.running, status.confirmed, status.needs) == (V1, None, "")
    assert not device.layout.state_folder.exists()
    device.program.unlink()
    assert "put a signed release" in device.status().needs


def test_a_lock_that_nobody_gives_back_ends_the_transaction_and_not_the_start(make: MakeInstallation) -> None:
    from pypatcher.install.locks import hold_lock, transaction
    from pypatcher.install.opening import StateFolder, open_folders

    device = make()
    device.settle("run")
    with open_folders(device.layout, StateFolder.MADE) as files, hold_lock(files, device.layout.lock):
        ticks = iter(range(100))
        with (
            pytest.raises(CannotReplaceError),
            transaction(files, device.layout, patience=1, clock=lambda: float(next(ticks))),
        ):
            raise AssertionError("two held it")


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
