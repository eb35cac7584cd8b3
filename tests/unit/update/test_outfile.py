"""A fetched file appears whole, verified and executable, or not at all; nothing else is left."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo, sign_file
from pypatcher.errors import CannotReplaceError, ContentMismatchError, NotNewerError
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.update.outfile import OutFile
from pypatcher.version import Version
from tests.support.programs import with_section

KEY = KeyPair.from_seed(bytes(range(32)))


def release(folder: Path, version: str) -> tuple[bytes, PatchInfo]:
    path = folder / f"signed-{version}"
    path.write_bytes(with_section(version))
    info = sign_file(path, KEY, None, None)
    return path.read_bytes(), info


def out_file(folder: Path, at_least: str | None = None) -> OutFile:
    (folder / "here").mkdir(exist_ok=True)
    lowest = None if at_least is None else Version.parse(at_least)
    return OutFile(folder / "here" / "app", OwnerKey(KEY.public), None, lowest)


def take(out: OutFile, data: bytes, info: PatchInfo) -> None:
    download = out.new_partial()
    try:
        download.write(data)
        out.stage(download, info)
    finally:
        download.discard()


def test_the_newest_of_what_came_is_kept_and_nothing_else_is_left(tmp_path: Path) -> None:
    old, new = release(tmp_path, "1.0.0"), release(tmp_path, "2.0.0")
    with out_file(tmp_path) as out:
        take(out, *old)
        take(out, *new)
        with pytest.raises(NotNewerError):
            take(out, *old)
        assert not (tmp_path / "here" / "app").exists()
        out.keep()
    (kept,) = (tmp_path / "here").iterdir()
    assert (kept.name, kept.read_bytes(), stat.S_IMODE(kept.stat().st_mode)) == ("app", new[0], 0o755)


def test_what_the_owner_holds_by_now_makes_room_for_an_older_one(tmp_path: Path) -> None:
    old, new = release(tmp_path, "1.0.0"), release(tmp_path, "2.0.0")
    with out_file(tmp_path) as out:
        take(out, *new)
        out.forget()
        assert out.info is None
        take(out, *old)
        out.keep()
    (kept,) = (tmp_path / "here").iterdir()
    assert kept.read_bytes() == old[0]


def test_without_keep_an_older_file_stays_as_it_was(tmp_path: Path) -> None:
    with out_file(tmp_path) as out:
        (tmp_path / "here" / "app").write_text("precious")
        take(out, *release(tmp_path, "2.0.0"))
    (left,) = (tmp_path / "here").iterdir()
    assert left.read_text() == "precious"


def test_what_came_there_meanwhile_stays(tmp_path: Path) -> None:
    with out_file(tmp_path) as out:
        take(out, *release(tmp_path, "2.0.0"))
        (tmp_path / "here" / "app").write_text("precious")
        with pytest.raises(CannotReplaceError, match="is no release of this owner's"):
            out.keep()
    (left,) = (tmp_path / "here").iterdir()
    assert left.read_text() == "precious"


@pytest.mark.parametrize("what", ["damaged", "older", "empty", "linked"])
def test_a_release_of_the_owners_makes_room(tmp_path: Path, what: str) -> None:
    old, new = release(tmp_path, "1.0.0")[0], release(tmp_path, "2.0.0")
    there = tmp_path / "here" / "app"
    there.parent.mkdir()
    if what == "linked":
        (tmp_path / "here" / "real").write_bytes(old)
        there.symlink_to("real")
    else:
        there.write_bytes({"damaged": old.replace(b"\xc3", b"\xc2", 1), "older": old, "empty": b""}[what])
    with out_file(tmp_path) as out:
        take(out, *new)
        out.keep()
    assert there.read_bytes() == new[0]
    assert there.is_symlink() is (what == "linked")


def test_a_damaged_or_an_older_release_than_will_do_is_refused(tmp_path: Path) -> None:
    data, info = release(tmp_path, "2.0.0")
    with out_file(tmp_path, "2.0.1") as out, pytest.raises(NotNewerError, match=r"2\.0\.0, older than 2\.0\.1"):
        take(out, data, info)
    with out_file(tmp_path) as out:
        with pytest.raises(ContentMismatchError):
            take(out, data.replace(b"\xc3", b"\xc2", 1), info)
        assert out.info is None
    assert not list((tmp_path / "here").iterdir())


def test_a_place_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    with (
        pytest.raises(CannotReplaceError, match="nowhere"),
        OutFile(tmp_path / "nowhere" / "app", OwnerKey(KEY.public), None, None),
    ):
        pytest.fail("it was entered")


def test_no_room_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    with out_file(tmp_path) as out, pytest.raises(CannotReplaceError, match="are free"):
        out.preflight(1 << 60, allow_volatile=False)


def test_a_newer_file_that_is_there_stays(tmp_path: Path) -> None:
    new, old = release(tmp_path, "3.0.0"), release(tmp_path, "2.0.0")
    with out_file(tmp_path) as out:
        take(out, *new)
        out.keep()
    with out_file(tmp_path, at_least="1.0.0") as out:
        assert not out.would_do(Version.parse("2.0.0"))
        with pytest.raises(NotNewerError):
            take(out, *old)
        take(out, *new)
        out.keep()
    assert (tmp_path / "here" / "app").read_bytes() == new[0]


def test_another_build_of_the_version_there_replaces_nothing(tmp_path: Path) -> None:
    data, info = release(tmp_path, "2.0.0")
    with out_file(tmp_path) as out:
        take(out, data, info)
        out.keep()
    other = tmp_path / "other"
    other.write_bytes(with_section("2.0.0") + b"another build")
    with out_file(tmp_path) as out, pytest.raises(NotNewerError, match="another file of version 2"):
        info = sign_file(other, KEY, None, None)
        take(out, other.read_bytes(), info)
    assert (tmp_path / "here" / "app").read_bytes() == data
