"""All that differs between packagings is in pypatcher/process/packagings: one new file, and the whole tree knows it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pypatcher.artifact import Carrier
from pypatcher.process import known_packagings
from tests.support.programs import PROGBITS, make_elf

REPOSITORY = Path(__file__).parents[2]
PACKAGINGS = REPOSITORY / "pypatcher" / "process" / "packagings"
CRATE = '''\
"""A crate: a lid, which unpacks the application and waits for it; it says so by CRATE_FILE, and has a section."""

import os
from pathlib import Path

from pypatcher.process.origin import Origin
from pypatcher.process.packaging import Packaging, Program, regular_file


def _detect():
    if "CRATE_FILE" not in os.environ:
        return None
    path = regular_file(Path(os.environ["CRATE_FILE"]))
    return Program(path, PACKAGING, path, ("crate",), Origin.of_this_process(), os.getppid(), Path("/tmp/crate"))


PACKAGING = Packaging(
    "crate",
    carrier="tail",
    archive_section=".crate",
    detect=_detect,
    has_launcher=True,
    variables=("CRATE_*",),
    saved_variables=(("PATH", "CRATE_PATH"),),
)
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the code with one packaging more."""
    shutil.copytree(REPOSITORY / "pypatcher", tmp_path / "pypatcher", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "targets", tmp_path / "targets")
    (tmp_path / "pypatcher" / "process" / "packagings" / "crate.py").write_text(CRATE)
    (tmp_path / "app").write_bytes(make_elf(sections=((".crate", PROGBITS, b"archive"),)))
    return tmp_path


def python(tree: Path, *arguments: str, **variables: str) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tree), **variables}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_file_is_a_packaging_found_cleaned_and_restarted(tree: Path) -> None:
    script = """
import os
from pypatcher.process import detect
from pypatcher.process.detection import start_environment
from pypatcher.process.plan import plan_restart
program = detect()
environment = start_environment(program)
print(program.packaging.name, program.path, environment["PATH"], *[n for n in environment if n.startswith("CRATE")])
print(plan_restart(program).how.name)
"""
    crate = {"CRATE_FILE": "app", "CRATE_PATH": "/bin", "PATH": "/tmp/crate/bin:/bin", "PYPATCHER_RESTART_STATUS": "86"}
    assert python(tree, "-c", script, **crate).splitlines() == [f"crate {tree / 'app'} /bin", "STATUS"]


def test_a_new_file_is_named_where_a_program_has_no_packaging(tree: Path) -> None:
    script = """
from pypatcher.errors import NotSingleFileError
from pypatcher.process import detect
try:
    detect()
except NotSingleFileError as error:
    print(error)
"""
    assert "(crate, Nuitka onefile, PyInstaller onefile, zipapp)" in python(tree, "-c", script)


def test_a_new_file_says_where_its_region_goes(tree: Path) -> None:
    said = python(tree, "-m", "pypatcher", "embed", "app", "--version", "1.0.0")
    assert f"({Carrier.TAIL.value})" in said


def test_every_packaging_names_a_carrier_and_every_file_is_one() -> None:
    files = {path.stem for path in PACKAGINGS.glob("*.py")} - {"__init__"}
    assert len(known_packagings()) == len(files)
    imported = f"from pypatcher.process.packagings import {', '.join(sorted(files))}\n"
    assert imported in (PACKAGINGS.parent / "detection.py").read_text(), "Nuitka would leave the new one out"
    assert {packaging.carrier for packaging in known_packagings()} == {carrier.value for carrier in Carrier}


def test_no_other_code_knows_what_is_of_one_packaging() -> None:
    own = {
        mark.rstrip("*")
        for packaging in known_packagings()
        for mark in (packaging.archive_section, *packaging.variables, *map("".join, packaging.saved_variables))
        if mark
    } | {"_MEI", "__compiled__"}
    code = [path for path in (REPOSITORY / "pypatcher").rglob("*.py") if PACKAGINGS not in path.parents]
    assert {"pydata", "_PYI_", "NUITKA_ONEFILE_"} < own
    assert [f"{path.name}: {mark}" for path in code for mark in own if mark in path.read_text()] == []
