"""What setuptools makes of the repository: wheels with and without a compiler, and a source distribution."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from modulefinder import ModuleFinder
from pathlib import Path

import pytest

from pypatcher.artifact.region import marker

ROOT = Path(__file__).parent.parent.parent
TWINS = ("artifact._chunks_c", "artifact._hashing_c", "artifact._sections_c", "established._established_c")
SPEEDUPS = tuple(
    f"_speedups/{name}"
    for name in ("chunks.pyx", "hashing.pyx", "sections.pyx", "established.py", "established.pxd", "octets.pxd")
)
ALWAYS = {
    "pypatcher/py.typed",
    "pypatcher/include/pypatcher.h",
    "pypatcher/_built_in_targets.py",
    "pypatcher/artifact/_hashing_py.py",
    "pypatcher/cli/sign.py",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what is under version control and built, without anything that was built in place."""
    folder = tmp_path / "source"
    ignore = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    for name in ("pypatcher", "_speedups", "targets"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md", "MANIFEST.in"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)
    (folder / "README.md").touch()
    return folder


def _build(source: Path, command: str, **environment: str) -> tuple[Path, str]:
    line = [sys.executable, "setup.py", "-q", command, "-d", "out"]
    done = subprocess.run(
        line, cwd=source, env=os.environ | environment, check=True, capture_output=True, text=True, timeout=600
    )
    [built] = (source / "out").iterdir()
    return built, done.stdout + done.stderr


def _metadata(wheel: zipfile.ZipFile) -> str:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/WHEEL")]
    return wheel.read(name).decode()


def _leave_other_code(folder: Path) -> list[Path]:
    """What an earlier build left there."""
    earlier = [folder / f"pypatcher/{twin.replace('.', '/')}.abi3.so" for twin in TWINS]
    for each in earlier:
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_bytes(b"other code")
    return earlier


def test_build_in_place_leaves_no_compiled_code_of_an_earlier_one(source: Path) -> None:
    earlier = _leave_other_code(source)
    line = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(line, cwd=source, env=os.environ | {"PYPATCHER_NO_EXTENSIONS": "1"}, check=True, capture_output=True)
    assert not [each for each in earlier if each.exists()]


@pytest.mark.timeout(600)
def test_with_a_compiler_the_wheel_is_one_for_every_python_from_3_11(source: Path) -> None:
    built, _ = _build(source, "bdist_wheel", PYPATCHER_NO_EXTENSIONS="0")
    assert "-cp311-abi3-linux_" in built.name
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
        assert "Root-Is-Purelib: false" in _metadata(wheel)
        assert [name for name in names if marker() in wheel.read(name)] == []
    assert names >= ALWAYS | {f"pypatcher/{twin.replace('.', '/')}.abi3.so" for twin in TWINS}
    assert not [name for name in names if name.endswith((".pyx", ".c")) or name.startswith(("tests", "_speedups"))]


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"CC": "/nonexistent/cc", "PYPATCHER_NO_EXTENSIONS": "0"}, "No such file"),
        ({"PYPATCHER_NO_EXTENSIONS": "1"}, "is set"),
    ],
    ids=["no compiler", "not wanted"],
)
def test_without_a_compiler_the_wheel_is_pure_and_the_build_says_so(
    source: Path, environment: dict[str, str], reason: str
) -> None:
    platform = f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    _leave_other_code(source / platform)
    built, output = _build(source, "bdist_wheel", **environment)
    assert built.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
        assert "Root-Is-Purelib: true" in _metadata(wheel)
    assert names >= ALWAYS
    assert not [name for name in names if name.endswith(".so")]
    for twin in TWINS:
        assert f"pypatcher.{twin} is not built" in output
    assert reason in output


def test_what_follows_imports_alone_finds_all_that_an_app_needs(source: Path, tmp_path: Path) -> None:
    """As Nuitka does, which takes no data files along: a module that is only named in a text would be missing."""
    built, _ = _build(source, "bdist_wheel", PYPATCHER_NO_EXTENSIONS="1")
    installed, bundle = tmp_path / "installed", tmp_path / "bundle"
    with zipfile.ZipFile(built) as wheel:
        wheel.extractall(installed)
    (tmp_path / "app.py").write_text("import pypatcher\npypatcher.public_key, pypatcher.spawn\n")
    finder = ModuleFinder([str(installed)])
    finder.run_script(str(tmp_path / "app.py"))
    for module in finder.modules.values():
        if module.__file__ and module.__name__ != "__main__":
            copy = bundle / Path(module.__file__).relative_to(installed)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(module.__file__, copy)
    program = (
        "from pypatcher.targets import load_targets\nfrom pypatcher.app import patcher\n"
        "from pypatcher.node import node\nprint(*load_targets())"
    )
    isolated = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(bundle)!r})\n{program}"]
    done = subprocess.run(isolated, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == sorted(path.stem for path in (ROOT / "targets").glob("*.toml")), done.stderr


def test_the_source_distribution_holds_what_a_build_needs(source: Path) -> None:
    built, _ = _build(source, "sdist")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= ALWAYS - {"pypatcher/_built_in_targets.py"}
    assert names >= {f"targets/{path.name}" for path in (ROOT / "targets").glob("*.toml")}
    assert names >= {"setup.py", "pyproject.toml", "LICENSE", *SPEEDUPS}
