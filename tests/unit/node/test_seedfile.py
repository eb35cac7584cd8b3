"""Which file is offered to whom, and that a file is offered only as long as it is what was verified."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pypatcher.artifact import sign_file
from pypatcher.discovery import Namespace
from pypatcher.errors import ArtifactError, SettingError, SignatureMismatchError
from pypatcher.events import Event
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.node.seed import settings_for
from pypatcher.node.seedfile import SeedFile, choose_files
from pypatcher.settings import Settings
from pypatcher.targets import find_target
from tests.support.programs import AARCH64, make_elf, with_comment, with_section

PAIR, OTHER = KeyPair.from_seed(bytes(range(32))), KeyPair.from_seed(bytes(32))
OWNER, STRANGER = OwnerKey(PAIR.public), OwnerKey(OTHER.public)
ANY = {None: OWNER}
ARM = find_target("aarch64")
MIPS = 8


def signed(path: Path, data: bytes, key: KeyPair = PAIR) -> Path:
    path.write_bytes(data)
    sign_file(path, key, None, None)
    return path


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    return signed(tmp_path / "app-aarch64", with_section("2.0.0", machine=AARCH64))


@pytest.fixture
def intel(tmp_path: Path) -> Path:
    return signed(tmp_path / "app-x86_64", with_section("2.0.0"))


@pytest.fixture
def zipapp(tmp_path: Path) -> Path:
    return signed(tmp_path / "app.pyz", with_comment("2.0.0"))


def names(files: list[SeedFile]) -> list[tuple[str, str | None]]:
    return [(file.path.name, file.namespace.target_name) for file in files]


def test_a_program_is_offered_to_the_target_that_its_own_header_names(arm: Path, intel: Path) -> None:
    chosen = choose_files([arm, intel], {"aarch64": OWNER, None: OWNER}, (), "pypatcher")
    assert names(chosen) == [("app-aarch64", "aarch64"), ("app-x86_64", "x86_64")]
    assert all(file.held and file.is_unchanged() for file in chosen)


def test_each_target_has_the_key_that_was_given_for_it(tmp_path: Path, arm: Path) -> None:
    intel = signed(tmp_path / "other", with_section("2.0.0"), OTHER)
    keys = {"aarch64": OWNER, "x86_64": STRANGER}
    namespaces = [file.namespace for file in choose_files([arm, intel], keys, (), "pypatcher")]
    assert namespaces == [Namespace.ours("aarch64", OWNER), Namespace.ours("x86_64", STRANGER)]


def test_a_file_for_several_targets_is_offered_to_those_named(zipapp: Path, arm: Path) -> None:
    with pytest.raises(SettingError, match=r"app.pyz fits aarch64, armv7, x86_64: say by --target"):
        choose_files([zipapp], ANY, (), "pypatcher")
    wanted = [find_target("armv7"), find_target("x86_64"), find_target("armv7")]
    assert names(choose_files([zipapp], ANY, wanted, "pypatcher")) == [("app.pyz", "armv7"), ("app.pyz", "x86_64")]
    mixed = choose_files([arm, zipapp], ANY, [find_target("armv7")], "pypatcher")
    assert names(mixed) == [("app-aarch64", "aarch64"), ("app.pyz", "armv7")]


def test_two_files_for_one_target_are_refused(tmp_path: Path, arm: Path, zipapp: Path) -> None:
    again = signed(tmp_path / "again", with_section("2.0.1", machine=AARCH64))
    for paths, wanted in (([arm, again], ()), ([arm, zipapp], [ARM]), ([arm, arm], ())):
        with pytest.raises(SettingError, match="are both for target aarch64: give one of them"):
            choose_files(paths, ANY, wanted, "pypatcher")


def test_a_target_that_no_file_is_for_is_refused(intel: Path) -> None:
    with pytest.raises(SettingError, match="--target aarch64: none of the files is for it"):
        choose_files([intel], ANY, [ARM], "pypatcher")


def test_a_target_without_a_key_is_named(arm: Path) -> None:
    with pytest.raises(SettingError, match=r"none of the keys is for target aarch64, which .*app-aarch64 is for"):
        choose_files([arm], {"armv7": OWNER}, (), "pypatcher")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "cannot read"),
        (lambda path: path.write_bytes(b"no program"), "neither an ELF program nor a zipapp"),
        (lambda path: path.write_bytes(make_elf(machine=AARCH64)), "no signature region"),
        (
            lambda path: path.write_bytes(with_section("2.0.0", machine=MIPS)),
            "no device takes it: it is built for MIPS",
        ),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"\xc3" * 9, b"\xc3" * 8 + b"\0", 1)), "hash"),
        (lambda path: signed(path, with_section("2.0.0", machine=AARCH64), OTHER), "not signed by"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file"),
    ],
    ids=["missing", "no program", "no region", "no target", "damaged", "another owner", "a pipe"],
)
def test_a_file_that_is_not_what_the_owner_signed_is_refused_by_name(
    arm: Path, intel: Path, spoil: object, reason: str
) -> None:
    spoil(arm)  # type: ignore[operator]
    with pytest.raises(ArtifactError, match=rf"app-aarch64 is not offered: .*{reason}"):
        choose_files([intel, arm], ANY, (), "pypatcher")


def test_the_rust_namespace_takes_one_file_and_knows_no_targets(zipapp: Path, intel: Path) -> None:
    [file] = choose_files([zipapp], ANY, (), "rustpatcher")
    assert file.namespace == Namespace.rustpatcher(OWNER)
    [file] = choose_files([intel], {"x86_64": OWNER, None: STRANGER}, (), "rustpatcher")
    assert file.namespace == Namespace.rustpatcher(OWNER)
    with pytest.raises(SettingError, match="give one file"):
        choose_files([zipapp, intel], ANY, (), "rustpatcher")
    with pytest.raises(SettingError, match="give one without a target"):
        choose_files([zipapp], {"x86_64": OWNER}, (), "rustpatcher")
    with pytest.raises(ArtifactError, match="not for target aarch64"):
        choose_files([intel], ANY, [ARM], "rustpatcher")


class Watched:
    """A file that is offered, and what is said of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = SeedFile(path, Namespace.ours("aarch64", OWNER), ARM)
        self.file.verify()
        self.said: list[Event] = []

    def look(self, times: int = 1) -> list[bool]:
        async def looks() -> list[bool]:
            return [await self.file.look(self.said.append) for _ in range(times)]

        return asyncio.run(looks())

    @property
    def version(self) -> str | None:
        return None if self.file.held is None else str(self.file.held.info.version)

    def reasons(self) -> list[str]:
        return [str(event.to_dict()["reason"]) for event in self.said]


@pytest.fixture
def watched(arm: Path) -> Watched:
    return Watched(arm)


def test_a_file_that_stays_as_it_is_is_verified_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypatcher.node.seedfile.verify_release", None)
    assert watched.look(3) == [False, False, False]
    assert watched.version == "2.0.0"
    assert watched.said == []


def test_a_byte_changed_in_place_is_seen_though_size_and_time_stay(watched: Watched) -> None:
    before = watched.path.stat()
    with watched.path.open("r+b") as file:
        file.seek(100)
        file.write(b"\0")
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not watched.file.is_unchanged()
    assert watched.look() == [True]
    assert watched.version is None
    assert watched.look(3) == [False, False, False]
    assert watched.version is None
    assert [event.name for event in watched.said] == ["release.withheld"] * 2
    assert "was changed or replaced" in watched.reasons()[0]
    assert "hash" in watched.reasons()[1]


def test_a_release_that_replaces_it_is_offered_once_it_is_verified(watched: Watched) -> None:
    newer = signed(watched.path.with_name("new"), with_section("2.1.0", machine=AARCH64))
    newer.replace(watched.path)
    assert not watched.file.is_unchanged()
    assert watched.look(3) == [True, True, False]
    assert (watched.version, watched.file.is_unchanged()) == ("2.1.0", True)
    assert len(watched.said) == 1


def test_what_replaces_it_is_offered_only_if_signed_for_that_target(watched: Watched) -> None:
    for data, key, reason in (
        (with_section("3.0.0", machine=AARCH64), OTHER, "not signed by"),
        (with_section("3.0.0"), PAIR, "not for target aarch64"),
    ):
        signed(watched.path.with_name("new"), data, key).replace(watched.path)
        watched.look(3)
        assert (watched.version, watched.file.is_unchanged()) == (None, False)
        assert reason in watched.reasons()[-1]


def test_a_link_is_followed_to_the_release_that_it_leads_to_now(tmp_path: Path, arm: Path) -> None:
    newer = signed(tmp_path / "newer", with_section("2.1.0", machine=AARCH64))
    link = tmp_path / "current"
    link.symlink_to(arm)
    watched = Watched(link)
    link.unlink()
    link.symlink_to(newer)
    assert not watched.file.is_unchanged()
    watched.look(2)
    assert watched.version == "2.1.0"


def test_a_file_on_a_disk_that_comes_back_unchanged_is_offered_again(tmp_path: Path, arm: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    watched = Watched(Path(shutil.copy(arm, disk / "app")))
    disk.rename(tmp_path / "elsewhere")
    assert watched.look(2) == [True, False]
    assert watched.reasons() == ["it is gone"]
    (tmp_path / "elsewhere").rename(disk)
    assert watched.look(2) == [False, True]
    assert (watched.version, watched.file.is_unchanged()) == ("2.0.0", True)


def test_a_file_that_is_still_written_is_not_read_again_and_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    monkeypatch.setattr(SeedFile, "_verified", lambda *_: reads.append(1))
    for number in range(5):
        with watched.path.open("ab") as file:
            file.write(bytes(number + 1))
        watched.look()
    assert reads == []
    assert len(watched.said) == 1


def test_a_file_that_changes_while_it_is_verified_is_refused(arm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pypatcher.artifact import verify_release

    def slow(*arguments: object) -> object:
        release = verify_release(*arguments)  # type: ignore[arg-type]
        with arm.open("ab") as file:
            file.write(b"more")
        return release

    monkeypatch.setattr("pypatcher.node.seedfile.verify_release", slow)
    with pytest.raises(ArtifactError, match="it changed while it was read"):
        SeedFile(arm, Namespace.ours("aarch64", OWNER), ARM).verify()


def test_files_share_the_upload_limit_and_take_a_port_each() -> None:
    settings = Settings(bind=(("0.0.0.0", 6881), ("::", 0)), upload=1000)
    shared = [settings_for(settings, number, 3) for number in range(3)]
    assert [each.bind[0][1] for each in shared] == [6881, 6882, 6883]
    assert {each.bind[1][1] for each in shared} == {0}
    assert sum(each.upload for each in shared) <= 1000
    assert settings_for(settings, 0, 1) == settings
    assert settings_for(settings.replace(upload=1), 1, 2).upload == 1
    with pytest.raises(SettingError, match="2 files take 2 ports"):
        settings_for(settings.replace(bind=(("0.0.0.0", 65535),)), 1, 2)


def test_another_owner_s_signature_is_told_from_damage(arm: Path) -> None:
    with pytest.raises(SignatureMismatchError, match="is not offered"):
        choose_files([arm], {None: STRANGER}, (), "pypatcher")


async def test_a_file_that_cannot_be_read_for_a_moment_is_offered_again(
    arm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [file] = choose_files([arm], ANY, (), "pypatcher")
    said: list[Event] = []
    os.utime(arm)

    def no_descriptors(*_arguments: object) -> None:
        raise OSError(24, "Too many open files")

    clock = [0.0]
    monkeypatch.setattr("pypatcher.node.seedfile.time", SimpleNamespace(monotonic=lambda: clock[0]))
    with monkeypatch.context() as broken:
        broken.setattr("pypatcher.node.seedfile.verify_release", no_descriptors)
        for _ in range(10):
            await file.look(said.append)
            clock[0] += 2
    assert file.held is None
    assert len(said) == 2, said
    clock[0] += 600
    assert await file.look(said.append)
    assert file.held is not None
    assert file.is_unchanged()


@pytest.mark.parametrize("point", range(7))
async def test_whichever_look_at_a_file_fails_once_it_is_offered_again(
    point: int, arm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [file] = choose_files([arm], ANY, (), "pypatcher")
    os.utime(arm)
    fstat, points = os.fstat, iter(range(100))

    def failing(fd: int) -> os.stat_result:
        if next(points) == point:
            raise OSError(24, "Too many open files")
        return fstat(fd)

    clock = [0.0]
    monkeypatch.setattr("pypatcher.node.seedfile.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr("os.fstat", failing)
    for _ in range(4):
        await file.look(lambda _: None)
        clock[0] += 600
    assert next(points) > point
    assert file.is_unchanged()
