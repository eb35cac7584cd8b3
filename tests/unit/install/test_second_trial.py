"""A release that failed its trial is let in again: later and later, a bounded number of times, never an older one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pypatcher.errors import NotNewerError, RefusedReleaseError, StateError
from pypatcher.install import Installation
from pypatcher.install.decide import LIMITS, Limits
from pypatcher.install.second_trial import FailedTrial, decode_failed, encode_failed, with_failure
from pypatcher.install.trial import ProgramId, TrialState, decode_state, encode_state
from pypatcher.version import Version
from tests.support.installations import V1, V2, MakeInstallation, caller, download, nobody_lives
from tests.support.simdisk import Image, SimDisk, cut_images
from tests.support.text_programs import program, release_of, verify_program

HOUR = 3600
DAY = 24 * HOUR


def fails(make: MakeInstallation, first_pid: int, device: Installation | None = None) -> Installation:
    """The release is fetched, crashes three times, and the program before is back."""
    version = "2.0.0"
    device = device or make(lives=nobody_lives)
    device.settle("run", caller=caller(first_pid))
    download(device, version)
    for pid in range(first_pid + 1, first_pid + 5):
        settled = device.settle("run", caller=caller(pid))
    assert settled.version == V1
    with pytest.raises(RefusedReleaseError):
        download(device, version)
    return device


def passes(device: Installation, hours: int) -> Version | None:
    """Hour by hour, as a node counts."""
    for _ in range(hours):
        if (version := device.count_uptime(HOUR)) is not None:
            return version
    return None


def test_three_crashes_from_afar_refuse_a_good_release_for_a_day_only(make: MakeInstallation) -> None:
    device = fails(make, 10)
    assert device.may_be_let_in()
    [refused] = device.status().refused
    assert refused.again == "tried again after 24 hours of uptime (1 of 5)"
    assert passes(device, 23) is None
    [refused] = device.status().refused
    assert refused.again == "tried again after 1 hours of uptime (1 of 5)"
    assert passes(make(), 1) == V2  # another process counts on
    download(device, "2.0.0")
    assert device.settle("run", caller=caller(50)).activated == V2
    assert device.confirm() == V2


def test_it_waits_twice_as_long_and_then_for_good(make: MakeInstallation) -> None:
    device = None
    for number in range(len(LIMITS.again)):
        device = fails(make, 100 * (number + 1), device)
        wait = 24 << number
        assert passes(device, wait - 1) is None
        assert passes(device, 1) == V2
    device = fails(make, 900, device)
    assert passes(device, 2000) is None
    [refused] = device.status().refused
    assert (refused.again, len(device.status().refused)) == ("", 1)


def test_time_before_the_failure_counts_for_nothing(make: MakeInstallation) -> None:
    device = fails(make, 10)
    assert passes(device, 24) == V2
    assert passes(device, 100) is None
    assert passes(fails(make, 100, device), 47) is None
    assert passes(device, 1) == V2


@pytest.mark.parametrize("how", ["confirmed", "staged", "on trial"])
def test_it_is_never_let_in_while_a_newer_one_is_there(make: MakeInstallation, how: str) -> None:
    device = fails(make, 10)
    download(device, "3.0.0")
    if how != "staged":
        device.settle("run", caller=caller(60))
    if how == "confirmed":
        device.confirm()
    assert passes(device, 100) is None
    with pytest.raises((RefusedReleaseError, NotNewerError)):
        download(device, "2.0.0")
    if how == "confirmed":
        assert not device.may_be_let_in()


def test_what_a_person_rolled_back_stays_refused(make: MakeInstallation) -> None:
    device = fails(make, 10)
    assert passes(device, 24) == V2
    download(device, "2.0.0")
    device.settle("run", caller=caller(60))
    device.confirm()
    device.roll_back()
    assert passes(device, 2000) is None
    assert not device.may_be_let_in()


@pytest.mark.parametrize("content", [None, b"", b"noise", b'{"format": 2, "trials": []}', b"\0" * 100])
def test_without_the_file_what_is_refused_stays_so(make: MakeInstallation, content: bytes | None) -> None:
    device = fails(make, 10)
    path = device.layout.path(device.layout.second_trials)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert passes(device, 2000) is None
    [refused] = device.status().refused
    assert refused.again == ""


def test_a_disk_that_is_full_keeps_it_refused(make: MakeInstallation, monkeypatch: pytest.MonkeyPatch) -> None:
    from pypatcher.install.operations import Operations

    device = fails(make, 10)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "write_failed", full)
        with pytest.raises(OSError, match="No space"):
            device.count_uptime(2 * DAY)
    with pytest.raises(RefusedReleaseError):
        download(device, "2.0.0")


def test_older_code_understands_the_folder_and_refuses(make: MakeInstallation) -> None:
    """Both read one ``trial.json``, whose fields are the old ones; what failed is in a file that older code ignores."""
    device = fails(make, 10)
    document = json.loads(device.layout.path(device.layout.state).read_bytes())
    assert sorted(document) == ["confirmed", "format", "newest", "notes", "refused", "trial"]
    assert document["format"] == 1
    release = release_of(program("2.0.0")).sha512
    assert document["refused"] == [release.hex()]  # and so older code goes on refusing it
    device.layout.path(device.layout.second_trials).unlink()  # as older code left it
    assert make().settle("run", caller=caller(70)).version == V1
    assert passes(make(), 2000) is None


def test_no_kill_and_no_power_cut_makes_more_trials_of_one(tmp_path: Path) -> None:
    """Wherever it is interrupted: it is refused still, or it was counted that it is not."""
    one, two = (release_of(program(text)) for text in ("1.0.0", "2.0.0"))
    confirmed = ProgramId(one.sha512, one.info.version)
    failed = FailedTrial(ProgramId(two.sha512, two.info.version), again=1, waited=DAY)
    disk = SimDisk()
    disk.put("P", program("1.0.0"))
    disk.put("trial.json", encode_state(TrialState(confirmed, V1, (two.sha512,))))
    disk.put("second-trials.json", encode_failed((failed,)))

    def check(image: Image) -> bool:
        state, record = image.content("trial.json"), image.content("second-trials.json")
        decoded = None if state is None else decode_state(state)
        if decoded is None or two.sha512 in decoded.refused:
            return False
        assert decode_failed(record or b"") == (FailedTrial(failed.program, again=2),)
        return True

    disk = SimDisk(next(image for image in cut_images(disk.image()) if len(image.names) == 3))
    installation = Installation(
        Path("/d/P"), verify_program, folders=disk.folders, limits=Limits(again=(1, DAY)), lives=nobody_lives
    )
    installation._verify = lambda fd, _=None: release_of(disk.content(fd))  # type: ignore[assignment,misc]
    installation._examiner._verify = installation._verify
    assert installation.count_uptime(1) == V2
    outcomes = [check(left) for image in (*disk.images, disk.image()) for left in (image, *cut_images(image))]
    assert True in outcomes
    assert False in outcomes
    assert check(disk.image())


def test_a_damaged_record_reads_as_nothing() -> None:
    failed: tuple[FailedTrial, ...] = ()
    for number in range(40):
        failed = with_failure(failed, ProgramId(bytes([number]) * 64, Version(number, 0, 0)))
    assert [one.program.version.major for one in failed] == list(range(24, 40))
    data = encode_failed(failed)
    assert decode_failed(data) == failed
    assert decode_failed(data[:-9]) == decode_failed(data + b" " * (1 << 13)) == ()
    for damage in (b'"again": 0', b'"waited": 0', b'"version": "30.0.0"'):
        assert decode_failed(data.replace(damage, damage.split(b":")[0] + b": -1")) == ()


def test_a_rollback_by_hand_of_a_version_on_trial_is_for_good(make: MakeInstallation) -> None:
    device = make(lives=nobody_lives)
    device.settle("run", caller=caller(1))
    download(device, "2.0.0")
    device.settle("run", caller=caller(2))
    device.roll_back()
    assert passes(device, 2000) is None
    with pytest.raises(StateError):
        device.roll_back()
