"""docs/packagers.md, held against programs of the packagers that it names."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from pypatcher.artifact import embed_region
from pypatcher.errors import ArtifactError
from pypatcher.version import Version
from tests.support.packagers import ALWAYS, PACKAGERS, build, runs

PAGE = Path(__file__).parents[2] / "docs" / "packagers.md"
ALL = os.environ.get("PYPATCHER_PACKAGINGS") == "all"

pytestmark = pytest.mark.timeout(900)


def _table() -> dict[str, list[str]]:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "|" in line]
    return {name: cells for name, *cells in rows[2:]}


def _embedded(program: Path, copy: Path, carrier: str) -> str:
    shutil.copy(program, copy)
    before = copy.read_bytes()
    try:
        located = embed_region(copy, Version(1, 0, 0), carrier=carrier)
    except ArtifactError as error:
        assert copy.read_bytes() == before
        return "asks" if re.search(r"bytes follow its last section", str(error)) else "refused"
    works = runs(copy, copy.parent)
    if carrier == "auto":
        assert works, f"embed took {located.carrier.value} by itself, and the program does not run any more"
        return located.carrier.value
    return "runs" if works else "breaks"


def test_the_page_has_a_row_for_every_packager() -> None:
    assert tuple(_table()) == PACKAGERS


@pytest.mark.parametrize("name", PACKAGERS if ALL else ALWAYS)
def test_each_carrier_does_to_a_packagers_program_what_the_page_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    program = build(name, tmp_path / "build")
    assert runs(program, tmp_path)
    found = [_embedded(program, tmp_path / "copy", carrier) for carrier in ("auto", "section", "tail")]
    assert found == _table()[name], f"| {name} | {' | '.join(found)} |"
