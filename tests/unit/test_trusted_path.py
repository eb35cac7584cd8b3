"""As root never through a name that a lesser user controls: the attacks, each with the command that it was made for."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pypatcher.artifact import check_intact, embed_region, sign_file
from pypatcher.errors import ArtifactError, CannotReplaceError, PatcherError
from pypatcher.install import Installation
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.trusted_path import open_folder, others_can_rename_in, resolve, who_else_controls
from pypatcher.update.outfile import OutFile
from pypatcher.version import Version
from tests.support.programs import make_elf, with_section

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be misled so")
LESSER = 4711
KEY = KeyPair.from_seed(bytes(range(32)))


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """A file of root's, which stands for /etc/passwd and is a program, so that nothing but its place protects it."""
    folder = tmp_path / "etc"
    folder.mkdir()
    path = folder / "passwd"
    path.write_bytes(with_section("1.0.0"))
    sign_file(path, KEY, None, None)
    return path


@pytest.fixture
def lessers(tmp_path: Path) -> Path:
    """A folder of a lesser user's, as that of a service's program."""
    folder = tmp_path / "opt"
    folder.mkdir()
    os.chown(folder, LESSER, LESSER)
    return folder


@pytest.fixture
def untouched(roots: Path) -> Iterator[None]:
    """What root has in its own folder is the same afterwards."""
    before, found = roots.read_bytes(), roots.stat()
    yield
    after = roots.stat()
    assert roots.read_bytes() == before
    assert (after.st_ino, after.st_uid, after.st_mode) == (found.st_ino, found.st_uid, found.st_mode)
    assert [path.name for path in roots.parent.iterdir()] == ["passwd"]


def link(where: Path, to: Path) -> Path:
    where.symlink_to(to)
    os.lchown(where, LESSER, LESSER)
    return where


def newer(folder: Path) -> int:
    path = folder / "release"
    path.write_bytes(with_section("2.0.0"))
    sign_file(path, KEY, None, None)
    return os.open(path, os.O_RDONLY)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("what", ["the program", "its folder"])
def test_no_command_reaches_a_file_of_roots_through_a_link(
    roots: Path, lessers: Path, tmp_path: Path, what: str
) -> None:
    program = link(lessers / "app", roots) if what == "the program" else link(lessers / "bin", roots.parent) / "passwd"
    installation = Installation(program, check_intact)
    source = newer(tmp_path)
    attempts = [
        lambda: installation.adopt(source),
        installation.roll_back,
        installation.confirm_running,
        lambda: sign_file(program, KEY, Version(3, 0, 0), None),
        lambda: embed_region(program, Version(1, 0, 0), out=program),
    ]
    for attempt in attempts:
        with pytest.raises((PatcherError, OSError)):
            attempt()
    for launcher in ("guard", "run", "spawn"):
        settled = installation.settle(launcher)  # type: ignore[arg-type]
        assert settled.reason
        assert not settled.serve
    os.close(source)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("command", ["status", "adopt", "rollback", "confirm"])
def test_the_commands_as_people_type_them_change_nothing_of_roots(
    roots: Path, lessers: Path, tmp_path: Path, command: str
) -> None:
    program = link(lessers / "app", roots)
    os.close(newer(tmp_path))
    files = [tmp_path / "release"] if command == "adopt" else []
    words = [sys.executable, "-m", "pypatcher", command, *files, program]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("untouched")
def test_fetch_writes_into_no_folder_that_a_link_of_anothers_leads_to(roots: Path, lessers: Path) -> None:
    link(lessers / "out", roots.parent)
    with (
        pytest.raises(CannotReplaceError, match="root follows none"),
        OutFile(lessers / "out" / "passwd", OwnerKey(KEY.public), None, None),
    ):
        pytest.fail("it was entered")


def test_a_folder_that_becomes_a_link_is_not_followed(roots: Path, lessers: Path) -> None:
    inner = lessers / "bin"
    inner.mkdir()
    path = resolve(inner / "passwd")
    inner.rmdir()
    link(inner, roots.parent)
    with pytest.raises(CannotReplaceError, match="root follows none"):
        open_folder(path.parent)


def test_root_follows_its_own_links(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "app").write_bytes(make_elf())
    (tmp_path / "current").symlink_to("v1")
    (tmp_path / "app").symlink_to("current/../current/app")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "short").symlink_to("deep/er")
    assert resolve(tmp_path / "app") == tmp_path / "v1" / "app"
    assert resolve(tmp_path / "short" / ".." / "app") == tmp_path / "deep" / "app"
    assert who_else_controls(tmp_path / "app") == ""
    os.close(open_folder(tmp_path / "v1"))


def test_root_adopts_where_the_services_user_owns_the_folder(lessers: Path, tmp_path: Path) -> None:
    """And what it leaves there is that user's."""
    installation = Installation(lessers / "app", check_intact)
    source = newer(tmp_path)
    assert installation.adopt(source) == Version(2, 0, 0)
    assert installation.adopt(source) == Version(2, 0, 0)
    os.close(source)
    for path in (lessers / "app", *lessers.glob(".app.pypatcher/*"), lessers / ".app.pypatcher"):
        assert path.stat().st_uid == LESSER, path


def test_root_adopts_over_a_program_or_nothing_alone(lessers: Path, tmp_path: Path) -> None:
    precious = lessers / "app"
    precious.write_text("root:x:0:0\n")
    source = newer(tmp_path)
    with pytest.raises((ArtifactError, CannotReplaceError), match="no program"):
        Installation(precious, check_intact).adopt(source)
    assert precious.read_text() == "root:x:0:0\n"
    os.close(source)


def test_who_else_controls_a_path_is_told(tmp_path: Path, lessers: Path) -> None:
    (lessers / "app").write_bytes(make_elf())
    assert who_else_controls(lessers / "app") == f"user {LESSER}"
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "app").write_bytes(b"")
    assert who_else_controls(tmp_path / "open" / "app") == "everybody"
    (tmp_path / "open").chmod(0o1777)
    assert who_else_controls(tmp_path / "open" / "app") == ""
    os.chown(tmp_path / "open" / "app", LESSER, LESSER)
    assert who_else_controls(tmp_path / "open" / "app") == f"user {LESSER}"
    (tmp_path / "app").write_bytes(b"")
    (tmp_path / "app").chmod(0o666)
    assert who_else_controls(tmp_path / "app") == "everybody"
    with TemporaryDirectory() as name:
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o700
        assert who_else_controls(Path(name)) == ""


def test_whom_an_access_list_lets_in_controls_a_folder_of_roots(roots: Path) -> None:
    folder = roots.parent
    assert who_else_controls(roots) == ""
    entries = ((0x01, 7, -1), (0x02, 7, LESSER), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1))
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(folder, "system.posix_acl_access", packed)
    assert folder.stat().st_gid == 0
    assert who_else_controls(roots) == "whom its access list names"
    assert others_can_rename_in(folder)
