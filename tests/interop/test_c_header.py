"""The C header with real compilers: its region is there once, survives every way of shrinking a program, and signs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pypatcher.artifact import Carrier, locate_region, scan_regions, sign_file, verify_release
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.targets import load_targets
from pypatcher.version import Version

HEADER = Path(__file__).parent.parent.parent / "pypatcher" / "include"
PROGRAM = """\
#define PYPATCHER_VERSION "1.4.0"
#include <pypatcher.h>
#include <stdio.h>
int main(void) { printf("%.16s\\n", pypatcher_version()); return 0; }
"""
SHRINKING = ["-Os", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"]
KEY = KeyPair.from_seed(bytes(range(32)))


def _build(folder: Path, compiler: str, *options: str, sources: tuple[str, ...] = (PROGRAM,)) -> Path:
    suffix = "cpp" if compiler == "g++" else "c"
    names = []
    for number, source in enumerate(sources):
        names.append(f"source{number}.{suffix}")
        (folder / names[-1]).write_text(source)
    strict = ["-Wall", "-Wextra", "-Werror", f"-I{HEADER}"]
    subprocess.run([compiler, *strict, *options, "-o", "app", *names], cwd=folder, check=True, capture_output=True)
    return folder / "app"


@pytest.mark.parametrize("strip", [False, True], ids=["whole", "stripped"])
@pytest.mark.parametrize(
    ("compiler", "options"),
    [
        ("gcc", ("-std=c99", "-pedantic", "-O0")),
        ("gcc", ("-std=c11", *SHRINKING)),
        ("gcc", ("-flto", *SHRINKING)),
        ("gcc", ("-static", *SHRINKING)),
        ("g++", ("-std=c++11", "-Wpedantic")),
        ("g++", ("-std=c++20", "-flto", *SHRINKING)),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_the_region_survives_and_the_program_knows_its_version(
    tmp_path: Path, compiler: str, options: tuple[str, ...], strip: bool
) -> None:
    app = _build(tmp_path, compiler, *options)
    if strip:
        subprocess.run(["strip", app], check=True)
    sign_file(app, KEY, Version(2, 0, 1), load_targets().get(os.uname().machine))
    fd = os.open(app, os.O_RDONLY)
    try:
        assert scan_regions(fd) == [locate_region(fd).offset]
        verified = verify_release(fd, OwnerKey(KEY.public), None)
    finally:
        os.close(fd)
    assert verified.located.carrier is Carrier.SECTION
    assert subprocess.run([app], capture_output=True, text=True, check=True).stdout == "2.0.1\n"


def test_a_program_without_a_version_builds_and_is_given_one_by_sign(tmp_path: Path) -> None:
    app = _build(tmp_path, "gcc", sources=(PROGRAM.partition("\n")[2],))
    assert subprocess.run([app], capture_output=True, text=True, check=True).stdout == "\n"
    assert sign_file(app, KEY, Version(1, 0, 0), None).version == Version(1, 0, 0)
    assert subprocess.run([app], capture_output=True, text=True, check=True).stdout == "1.0.0\n"


@pytest.mark.parametrize("compiler", ["gcc", "g++"])
def test_two_regions_in_one_program_are_an_error_of_the_linker(tmp_path: Path, compiler: str) -> None:
    second = '#define PYPATCHER_VERSION "1.4.0"\n#include <pypatcher.h>\n'
    with pytest.raises(subprocess.CalledProcessError) as caught:
        _build(tmp_path, compiler, sources=(PROGRAM, second))
    assert b"multiple definition" in caught.value.stderr


def test_a_version_that_does_not_fit_is_an_error_of_the_compiler(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        _build(tmp_path, "gcc", sources=(PROGRAM.replace("1.4.0", "8191.16383.16383"),))
    assert b"pypatcher_version_has_at_most_15_characters" in caught.value.stderr


def test_a_signed_program_that_is_stripped_no_longer_verifies(tmp_path: Path) -> None:
    app = _build(tmp_path, "gcc", "-g")
    sign_file(app, KEY, None, None)
    signed = shutil.copy(app, tmp_path / "signed")
    subprocess.run(["strip", app], check=True)
    for path, good in ((signed, True), (app, False)):
        fd = os.open(path, os.O_RDONLY)
        try:
            if good:
                verify_release(fd, OwnerKey(KEY.public), None)
            else:
                with pytest.raises(Exception, match="instead of"):
                    verify_release(fd, OwnerKey(KEY.public), None)
        finally:
            os.close(fd)
