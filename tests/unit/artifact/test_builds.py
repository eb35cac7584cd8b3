"""Why two builds of one source differ."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from pypatcher.artifact.builds import FIXED_ORDER_MODULE, Cause, Difference, compare_builds, has_fixed_order
from pypatcher.artifact.replace import open_program
from tests.support.programs import bundle, make_elf, modules

FOLDERS = (b"/tmp/one/app", b"/tmp/other/app")


def zipped(parts: dict[str, bytes], *, year: int = 1980, level: int = 9) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, level)
    return file.getvalue()


def differences(folder: Path, first: bytes, second: bytes) -> list[Difference]:
    (folder / "first").write_bytes(first)
    (folder / "second").write_bytes(second)
    return compare_builds(folder / "first", folder / "second", FOLDERS)


TEXT = {"__main__.py": b"print(1)\n" * 500, "other.py": b"print(2)\n" * 500}
PAIRS = {
    Cause.ORDER: (
        bundle({"base_library.zip": zipped(TEXT)}),
        bundle({"base_library.zip": zipped(dict(reversed(TEXT.items())))}),
    ),
    Cause.CODE: (bundle({"PYZ.pyz": modules({"a": b"code"})}), bundle({"PYZ.pyz": modules({"a": b"edoc"})})),
    Cause.DATE: (zipped(TEXT), zipped(TEXT, year=2026)),
    Cause.PACKED: (zipped(TEXT, level=1), zipped(TEXT)),
    Cause.FOLDER: (bundle({"a": FOLDERS[0] + b"/a.c"}), bundle({"a": FOLDERS[1] + b"/a.c"})),
    Cause.ONE_ONLY: (bundle({"a": b"1"}), bundle({"b": b"1"})),
    Cause.CONTENT: (bundle({"a": b"1"}), bundle({"a": b"2"})),
    Cause.BETWEEN: (bundle({"a": b"1"}), bundle({"a": b"1"}) + b"date"),
}


@pytest.mark.parametrize("cause", Cause)
def test_each_cause_is_told(tmp_path: Path, cause: Cause) -> None:
    found = differences(tmp_path, *PAIRS[cause])
    assert {each.cause for each in found} == {cause}
    assert cause.what
    assert cause.mend


def test_members_in_another_order_are_told(tmp_path: Path) -> None:
    assert differences(tmp_path, bundle({"a": b"1", "b": b"2"}), bundle({"b": b"2", "a": b"1"})) == [
        Difference("", Cause.ORDER)
    ]


def test_dates_in_a_zip_file_within_are_told(tmp_path: Path) -> None:
    found = differences(tmp_path, bundle({"z": zipped(TEXT)}), bundle({"z": zipped(TEXT, year=2026)}))
    assert found == [Difference("z", Cause.DATE)]


def test_builds_that_are_the_same_have_no_difference(tmp_path: Path) -> None:
    data = make_elf() + bytes(3 << 20)
    assert differences(tmp_path, data, data) == []
    assert differences(tmp_path, data, data + b"\0") != []


@pytest.mark.parametrize(
    ("names", "told"),
    [(["pypatcher.version", FIXED_ORDER_MODULE], True), (["pypatcher.version"], False), (["json"], None)],
)
def test_the_order_is_known_of_programs_with_pypatcher(tmp_path: Path, names: list[str], told: bool | None) -> None:
    path = tmp_path / "app"
    path.write_bytes(bundle({"PYZ.pyz": modules(dict.fromkeys(names, b"code"))}))
    with open_program(path) as fd:
        assert has_fixed_order(fd) is told
