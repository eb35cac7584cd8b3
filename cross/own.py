"""pypatcher's own wheel for each target: one abi3 wheel for Python 3.11 and newer, the same bytes every time.

Built from a clean copy of the sources, so that nothing a developer's tree contains gets in, and two builds at once
do not meet. What could differ between two builds is fixed: dates, file modes, hash seeds, paths, and the tools.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cross.audit import audit_abi3, repair
from cross.environment import BuildEnvironment, make_environment
from cross.workshop import CACHE, HERE, REPOSITORY, StepFailedError, digest_of, fresh_folder, locked, say
from pypatcher.targets import Target

__all__ = ["make_own_wheel", "rebuild_own_wheel"]

_SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "pypatcher", "_speedups", "targets")
_SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".h", ".typed", ".toml", ".md", ""}


def make_own_wheel(target: Target) -> Path:
    """The wheel of these sources for ``target``, built if there is none of exactly them.

    Raises:
        StepFailedError: it cannot be built, lacks its extensions, or uses more of Python than the stable ABI.
    """
    sources = _sources()
    recipe = (HERE / "requirements.txt", HERE / "build-requirements.txt", HERE / "environment.py", Path(__file__))
    names = [str(path.relative_to(REPOSITORY)) for path in sources]
    done = CACHE / target.name / "own" / digest_of(*recipe, *sources, names=names)
    environment = make_environment(target)
    with locked(f"own-{target.name}"):
        wheel = next(done.glob("*.whl"), None)
        if wheel is not None:
            return wheel
        say(f"{target.name}: pypatcher's wheel")
        fresh_folder(done.parent)  # wheels of older sources
        wheel = _build(environment, sources, CACHE / target.name / "own-work", done)
        audit_abi3(wheel)
        return wheel


def rebuild_own_wheel(target: Target) -> None:
    """Build it once more, in another folder, at another time: it must be the same, byte by byte. Once is enough.

    Raises:
        StepFailedError: it is not.
    """
    first = make_own_wheel(target)
    stamp = first.parent / "rebuilt.done"
    if stamp.exists():
        return
    with tempfile.TemporaryDirectory(prefix="another-folder.") as folder:
        again = _build(make_environment(target), _sources(), Path(folder), Path(folder) / "wheel")
        if (again.name, again.read_bytes()) != (first.name, first.read_bytes()):
            raise StepFailedError(f"{target.name}: the same sources gave other bytes in {folder}: {again.name}")
    stamp.touch()


def _build(environment: BuildEnvironment, sources: Sequence[Path], work: Path, into: Path) -> Path:
    copy = fresh_folder(work / "source")
    for source in sources:
        to = copy / source.relative_to(REPOSITORY)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, to)
        to.chmod(0o644)
    built = environment.build(copy, work / "built")
    if "-abi3-" not in built.name:
        raise StepFailedError(f"{built.name} has no extensions: see what the compiler said in a plain `pip wheel .`")
    repaired = repair(built, into, environment.target)
    shutil.rmtree(copy)
    return repaired


def _sources() -> list[Path]:
    found: list[Path] = []
    for name in _SOURCES:
        path = REPOSITORY / name
        found += [path] if path.is_file() else path.rglob("*")
    return sorted(
        path for path in found if path.is_file() and path.suffix in _SUFFIXES and "__pycache__" not in path.parts
    )
