"""What is left of a download: the largest of a release goes on, nothing else stays, nobody else's file is touched."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo
from pypatcher.artifact.patch import make_info
from pypatcher.errors import CannotReplaceError
from pypatcher.install import Installation
from pypatcher.install.partials import Partial
from pypatcher.version import Version
from tests.support.installations import MakeInstallation, download, names
from tests.support.manifests import OWNER
from tests.support.text_programs import program, release_of

PART = b"the first part"


def info(version: str) -> PatchInfo:
    return release_of(program(version)).info


def left_by(device: Installation, version: str = "2.0.0", data: bytes = PART) -> Partial:
    """A download that ended in the midst."""
    partial = device.new_partial(info(version))
    partial.write(data)
    partial.leave()
    return partial


@pytest.fixture
def device(make: MakeInstallation) -> Installation:
    installation = make()
    installation.settle("run")
    return installation


def test_a_later_process_goes_on_with_what_is_left(make: MakeInstallation, device: Installation) -> None:
    left = left_by(device)
    left.path.chmod(0o4755)
    with make().new_partial(info("2.0.0")) as partial:
        assert partial.path == left.path
        assert partial.read(100, 0) == PART
        assert stat.S_IMODE(partial.path.stat().st_mode) == 0o600
        data = program("2.0.0")
        partial.write_part(data[5:], 5)
        partial.write(data[:5])
        make().stage(partial, info("2.0.0"))
    assert names(device) == {"trial.json", "staged"}
    assert device.staged_path.read_bytes() == program("2.0.0")


def test_of_several_alike_the_newest_goes_on_and_others_go(make: MakeInstallation, device: Installation) -> None:
    first, second = device.new_partial(info("2.0.0")), device.new_partial(info("2.0.0"))
    for partial, when in ((first, 2000), (second, 1000)):
        partial.write(PART)
        partial.leave()
        os.utime(partial.path, (when, when))
    (device.layout.state_folder / "partial-link").write_bytes(b"")
    with make().new_partial(info("2.0.0")) as partial:
        assert partial.path == first.path
        assert names(device) == {"trial.json", first.entry.name}


def test_a_few_bytes_that_came_later_take_nothing_away(make: MakeInstallation, device: Installation) -> None:
    """Of who took the place of a slow fetch, and gave next to nothing."""
    large = make_info(Version(2, 0, 0), bytes(32), 1 << 20, OWNER)
    slow, quick = device.new_partial(large), device.new_partial(large)
    for partial, data, when in ((slow, PART * 1000, 1000), (quick, PART, 2000)):
        partial.write(data)
        partial.leave()
        os.utime(partial.path, (when, when))
    with make().new_partial(large) as partial:
        assert partial.path == slow.path


def test_what_a_program_has_as_a_name_too_is_never_written_to(make: MakeInstallation, device: Installation) -> None:
    download(device, "2.0.0")
    left = left_by(device, "3.0.0")
    left.path.unlink()
    left.path.hardlink_to(device.staged_path)
    with make().new_partial(info("3.0.0")) as partial:
        partial.write(PART)
    assert device.staged_path.read_bytes() == program("2.0.0")


def test_another_release_begins_anew(make: MakeInstallation, device: Installation) -> None:
    left = left_by(device)
    with make().new_partial(info("3.0.0")) as partial:
        assert partial.size == 0
        assert not left.path.exists()


def test_what_is_under_way_is_nobody_elses(device: Installation) -> None:
    with device.new_partial(info("2.0.0")) as one, device.new_partial(info("2.0.0")) as other:
        one.write(PART)
        assert (one.size, other.size) == (len(PART), 0)


def test_what_is_empty_is_not_left(device: Installation) -> None:
    left_by(device, data=b"")
    assert names(device) == {"trial.json"}


@pytest.mark.parametrize("kind", ["hard link", "link", "folder", "too long"])
def test_only_a_file_of_ours_alone_goes_on(kind: str, make: MakeInstallation, device: Installation) -> None:
    left, precious = left_by(device), device.program.parent / "precious"
    precious.write_bytes(b"precious")
    left.path.unlink()
    if kind == "hard link":
        left.path.hardlink_to(precious)
    elif kind == "link":
        left.path.symlink_to(precious)
    elif kind == "too long":
        left.path.write_bytes(bytes(info("2.0.0").file_size + (1 << 20) + 1))
    else:
        left.path.mkdir()
        with pytest.raises(OSError, match="directory"):
            make().new_partial(info("2.0.0"))
        return
    with make().new_partial(info("2.0.0")) as partial:
        assert partial.size == 0
        assert partial.path != left.path
    assert precious.read_bytes() == b"precious"
    assert names(device) == {"trial.json"}


def test_what_is_not_newer_any_more_goes(make: MakeInstallation, device: Installation) -> None:
    with make().new_partial(info("2.0.0")) as slower:
        slower.write(PART)
        left = left_by(device)
        assert left.path.exists()
    left_by(device)
    download(device, "2.0.0")
    assert names(device) == {"trial.json", "staged"}
    left = left_by(device, "2.5.0")
    download(device, "3.0.0")
    assert not left.path.exists()


def test_whoever_begins_to_look_for_updates_tidies(make: MakeInstallation, device: Installation) -> None:
    download(device, "2.0.0")
    device.settle("run")
    device.confirm()
    newer = left_by(device, "3.0.0")
    for name in ("partial-2.0.0-0-0", "partial-0123", "partial-1.x-1", "partial-"):
        (device.layout.state_folder / name).write_bytes(PART)
    (device.layout.state_folder / "partial-9.0.0-0-0").hardlink_to(device.layout.program)
    with make().updater_lock() as mine:
        assert mine
    assert names(device) == {"trial.json", "previous", newer.entry.name}


def test_room_that_a_left_download_takes_is_room_for_the_next(
    make: MakeInstallation, device: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left_by(device, data=os.urandom(4 << 20))
    room = os.statvfs(tmp_path)
    tight = os.statvfs_result((room[0], 1024, room[2], room[3], 4 << 10, *room[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: tight)
    make().preflight(6 << 20, allow_volatile=True)
    with pytest.raises(CannotReplaceError, match="free"):
        make().preflight(8 << 20, allow_volatile=True)
    with device.new_partial(info("2.0.0")) as under_way:
        under_way.write(os.urandom(4 << 20))
        with pytest.raises(CannotReplaceError, match="free"):
            device.preflight(6 << 20, allow_volatile=True)


def test_who_gives_parts_of_it_reads_and_cannot_write(device: Installation) -> None:
    with device.new_partial(info("2.0.0")) as partial:
        partial.write_part(PART, 3)
        reading = partial.open_again()
        try:
            assert os.pread(reading, 100, 3) == PART
            with pytest.raises(OSError, match="descriptor"):
                os.pwrite(reading, b"x", 0)
        finally:
            os.close(reading)


def test_a_file_that_took_its_name_is_not_given(device: Installation) -> None:
    with device.new_partial(info("2.0.0")) as partial:
        other = partial.path.with_name("other")
        other.write_bytes(b"a secret")
        other.rename(partial.path)
        with pytest.raises(FileNotFoundError):
            partial.open_again()
