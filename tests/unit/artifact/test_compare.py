"""What is new in a build, and which members make it so."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path

import pytest

from pypatcher.artifact.compare import compare_files
from pypatcher.artifact.members import file_members
from pypatcher.artifact.replace import open_program
from pypatcher.cli import main
from pypatcher.errors import ArtifactError
from tests.support.opened_reference import packed_program, some_text
from tests.support.programs import bundle

RANDOM = random.Random(5)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_the_same_file_has_nothing_new(tmp_path: Path) -> None:
    path = write(tmp_path / "app", RANDOM.randbytes(300_000))
    found = compare_files(path, path)
    assert (found.moved, found.ranges, found.members) == (0, (), ())


def test_a_changed_member_is_named_with_its_new_bytes(tmp_path: Path) -> None:
    parts = {name: RANDOM.randbytes(200_000) for name in ("libssl.so", "app", "numpy.so")}
    old = write(tmp_path / "old", bundle(parts))
    new = write(tmp_path / "new", bundle({**parts, "app": parts["app"][:100_000] + b"new" + parts["app"][100_000:]}))
    found = compare_files(old, new)
    assert found.members[0][0].name == "app"
    assert 0 < found.members[0][1] < 50_000
    assert found.moved < 60_000
    assert found.index > 0


def test_what_moves_with_streams_opened_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    modules = [some_text(7000, number) for number in range(30)]
    old = write(tmp_path / "old", packed_program(modules))
    new = write(tmp_path / "new", packed_program([*modules[15:], *modules[:15]]))
    found = compare_files(old, new)
    assert found.opened is not None
    assert 0 < found.opened < found.moved / 2
    assert main(["compare", str(old), str(new)]) == 0
    assert f"{found.opened} bytes move" in capsys.readouterr().out
    assert compare_files(old, old).opened is None


def test_members_of_a_zipapp_and_sections_of_an_elf_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "app.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "print(1)")
    with open_program(path) as fd:
        assert [member.name for member in file_members(fd)] == ["__main__.py"]
    with open_program(Path("/bin/true").resolve()) as fd:
        assert ".text" in [member.name for member in file_members(fd)]


@pytest.mark.parametrize("length", [1, 88, 1 << 31])
def test_a_table_that_points_elsewhere_is_no_bundle(tmp_path: Path, length: int) -> None:
    with open_program(write(tmp_path / "app", bundle({"app": b"x" * 500}, length=length))) as fd:
        assert not any(member.name == "app" for member in file_members(fd))


def test_what_no_member_holds_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = RANDOM.randbytes(50_000)
    old, new = write(tmp_path / "old", bundle({"app": part})), write(tmp_path / "new", bundle({"app2": part}))
    found = compare_files(old, new)
    assert 0 < found.elsewhere == sum(size for _, size in found.ranges) - sum(new for _, new in found.members)
    assert main(["compare", str(old), str(new)]) == 0
    assert f"{found.elsewhere} in no member" in capsys.readouterr().out


def test_the_old_file_is_cut_as_the_new_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a program that grows over the size of other parameters would be new as a whole."""
    monkeypatch.setattr("pypatcher.artifact.chunks._SMALL_FILE", 600_000)
    old = write(tmp_path / "old", RANDOM.randbytes(590_000))
    new = write(tmp_path / "new", old.read_bytes() + RANDOM.randbytes(20_000))
    assert compare_files(old, new).moved < 100_000


def test_a_range_counts_packed_where_that_is_shorter(tmp_path: Path) -> None:
    old = write(tmp_path / "old", RANDOM.randbytes(100_000))
    new = write(tmp_path / "new", old.read_bytes() + b"text " * 20_000)
    found = compare_files(old, new)
    assert found.packed < 20_000 < sum(size for _, size in found.ranges)


def test_the_command_says_what_moves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write(tmp_path / "old", bundle({"app": RANDOM.randbytes(50_000)}))
    new = write(tmp_path / "new", bundle({"bad\nname": RANDOM.randbytes(50_000)}))
    assert main(["compare", str(old), str(new)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("of index")
    assert said[1].endswith("bad?name")
    assert main(["compare", str(old), str(new), "--json"]) == 0
    said_json = json.loads(capsys.readouterr().out)
    assert said_json["moved"] > 50_000
    assert said_json["members"][0]["new"] <= said_json["members"][0]["size"]


def test_a_sparse_file_of_terabytes_is_refused_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "app", b"x")
    with path.open("ab") as file:
        file.truncate(2 << 40)
    with pytest.raises(ArtifactError, match="at most"):
        compare_files(path, path)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(tmp_path / "old"), str(tmp_path / "new")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(ArtifactError):
        compare_files(tmp_path / "old", tmp_path / "new")
