"""The cross compiler takes headers and libraries from the sysroot alone, whatever this machine has for the target."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cross.debian import install_missing, toolchain_packages
from cross.environment import make_wrappers
from cross.sysroot import make_sysroot
from pypatcher.targets import Target, find_target

OTHERS = """
there=/usr/$1
mount -t tmpfs none $there && mkdir $there/bin $there/include $there/lib
for tool in as ld; do ln -s /usr/bin/$1-$tool $there/bin/$tool; done
echo '#error of this machine' >$there/include/stdio.h
for name in crti.o libc.so libc.so.6 libm.so libgcc_s.so.1; do echo 'of this machine' >$there/lib/$name; done
cp libonly.a $there/lib
shift
exec "$@"
"""
"""A machine that has headers and libraries for the target itself: none can be used, but for one that it alone has."""
SOURCE = """
#include <math.h>
#include <stdio.h>
double answer(double x) { return puts("42") + floor(x); }
"""


@pytest.fixture(scope="module")
def target() -> Target:
    """One whose compiler is installed."""
    found = find_target("armv7")
    install_missing(toolchain_packages(found))
    return found


def compiled(
    folder: Path, target: Target, *compiler: str | Path, library: str = "m"
) -> subprocess.CompletedProcess[str]:
    """What it says to a source, on a machine that alone has the static library ``only``."""
    (folder / "some.c").write_text(SOURCE)
    (folder / "only.c").write_text("int only(void) { return 42; }")
    for command in (["gcc", "-c", "only.c"], ["ar", "rcs", "libonly.a", "only.o"]):
        subprocess.run([f"{target.gnu_triplet}-{command[0]}", *command[1:]], cwd=folder, check=True)
    enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", OTHERS, "sh", target.gnu_triplet]
    options = ["-shared", "-fPIC", "-o", "some.so", "some.c", f"-l{library}"]
    return subprocess.run([*enter, *compiler, *options], cwd=folder, capture_output=True, text=True, check=False)


def test_nothing_that_this_machine_has_for_a_target_gets_in(tmp_path: Path, target: Target) -> None:
    sysroot, name = make_sysroot(target), f"{target.gnu_triplet}-gcc"
    make_wrappers(target, tmp_path / "wrappers", sysroot)
    mended = compiled(tmp_path, target, tmp_path / "wrappers" / name)
    assert mended.returncode == 0, mended.stderr
    assert (tmp_path / "some.so").read_bytes()[:4] == b"\x7fELF"
    # What a sysroot alone does not keep out: the headers, and with these kept out the libraries.
    assert "error of this machine" in compiled(tmp_path, target, name, f"--sysroot={sysroot}").stderr
    options = (tmp_path / "wrappers" / name).read_text().split()[4:]
    without = [option for option in options if not option.startswith("-B")]
    assert len(without) == len(options) - 1
    assert f"{target.gnu_triplet}/lib/crti.o:" in compiled(tmp_path, target, name, *without).stderr
    # A static library would be in what is built, and no audit could tell.
    assert "cannot find -lonly" in compiled(tmp_path, target, tmp_path / "wrappers" / name, library="only").stderr
    without = [option for option in options if not option.startswith("-specs")]
    assert compiled(tmp_path, target, name, *without, library="only").returncode == 0


def test_the_sysroots_static_libraries_are_linked(tmp_path: Path, target: Target) -> None:
    sysroot, name = make_sysroot(target), f"{target.gnu_triplet}-gcc"
    make_wrappers(target, tmp_path / "wrappers", sysroot)
    (tmp_path / "some.c").write_text("int crc32(); int answer(void) { return crc32(0, 0, 0); }")
    command = [tmp_path / "wrappers" / name, "-shared", "-o", "some.so", "some.c", "-l:libz.a"]
    subprocess.run(command, cwd=tmp_path, check=True)
