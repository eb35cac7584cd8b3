"""What ``pypatcher rollback`` promises, against what it does: with and without a way back, on trial, damaged."""

from __future__ import annotations

import pytest

from pypatcher.errors import NotNewerError, RefusedReleaseError, StateError
from pypatcher.install import Installation
from tests.support.installations import V1, V2, V3, MakeInstallation, download
from tests.support.text_programs import program


def updated(device: Installation, *, confirmed: bool = True) -> Installation:
    """From 1.0.0 to 2.0.0, which runs."""
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run")
    if confirmed:
        device.confirm()
    return device


def refused(device: Installation) -> list[str]:
    return [one.reason for one in device.status().refused]


@pytest.mark.parametrize("confirmed", [True, False], ids=["confirmed", "on trial"])
@pytest.mark.parametrize("runs", [True, False], ids=["it runs", "it does not run"])
def test_the_version_before_comes_back_and_the_other_stays_away(
    make: MakeInstallation, confirmed: bool, runs: bool
) -> None:
    device = updated(make(), confirmed=confirmed)
    assert (make() if runs else device).roll_back() == (V1, not runs)
    if runs:
        assert make().status().running == V2
        assert make().roll_back() == (V1, False)  # asked for again, it is still the next start's
    settled = device.settle("run")
    assert (settled.version, settled.on_trial) == (V1, False)
    assert refused(device) == ["2.0.0 was rolled back by hand"]
    assert [one.again for one in device.status().refused] == [""]
    with pytest.raises(RefusedReleaseError):
        download(device, "2.0.0")
    if confirmed:
        with pytest.raises(NotNewerError):
            download(device, "2.0.0", "another build")
    download(device, "3.0.0")
    assert device.settle("run").version == V3


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_a_damaged_programs_release_is_taken_again(make: MakeInstallation, harm: str) -> None:
    device = updated(make())
    device.program.unlink()
    if harm == "damaged":
        device.program.write_bytes(program("2.0.0")[:-1])
        device.program.chmod(0o755)
    assert make().roll_back() == (V1, True)  # whoever still runs
    assert (device.status().running, device.status().confirmed, refused(device)) == (V1, V1, [])
    started = make()
    started.settle("run")
    download(started, "2.0.0")
    assert make().status().staged == V2


@pytest.mark.parametrize("harm", ["missing", "damaged"])
@pytest.mark.parametrize("program_too", [False, True])
def test_without_a_good_version_before_nothing_is_changed(make: MakeInstallation, harm: str, program_too: bool) -> None:
    device = updated(make())
    previous = device.layout.path(device.layout.previous)
    previous.unlink()
    words = "no previous version"
    if harm == "damaged":
        previous.write_bytes(program("1.0.0")[:-1])
        words = r"previous version here that is no way back \(it is truncated"
    if program_too:
        device.program.write_bytes(program("2.0.0")[:-1])
    before = device.program.read_bytes()
    with pytest.raises(StateError, match=words):
        device.roll_back()
    assert device.program.read_bytes() == before
    assert refused(device) == []


def test_what_is_staged_takes_over_at_the_start_after(make: MakeInstallation) -> None:
    device = updated(make())
    download(device, "3.0.0")
    assert device.roll_back() == (V1, True)
    assert device.status().staged == V3
    assert device.settle("run").version == V3
