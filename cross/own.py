"""pypatcher's own wheel for each target: one abi3 wheel for Python 3.11 and newer, the same bytes every time.

Built from a clean copy of the sources, so that nothing a developer's tree contains gets in, and two builds at once
do not meet. What could differ between two builds is fixed: dates, file modes, hash seeds, paths, and the tools.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cross.audit import audit_abi3, audit_wheel, repair
from cross.environment import BuildEnvironment, make_environment
from cross.hostile import hostile
from cross.workshop import (
    CACHE,
    REPOSITORY,
    StepFailedError,
    digest_of,
    fresh_folder,
    locked,
    make_once,
    place,
    say,
)
from pypatcher.targets import Target

__all__ = ["make_own_wheel", "rebuild_own_wheel"]

_SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "pypatcher", "_speedups", "targets")
_SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".h", ".typed", ".toml", ".md", ""}


def make_own_wheel(target: Target) -> Path:
    """The wheel of these sources for ``target``, built and audited if there is none of exactly them.

    Raises:
        StepFailedError: it cannot be built, lacks its extensions, or holds or claims what devices cannot take.
    """
    sources = _sources()
    names = [str(path.relative_to(REPOSITORY)) for path in sources]
    environment = make_environment(target)
    identity = digest_of(*sources, names=[environment.identity, *names])

    def fill(folder: Path) -> None:
        say(f"{target.name}: pypatcher's wheel")
        _build(environment, sources, CACHE / target.name / "own-work", folder)

    with locked(f"own-{target.name}"):
        return next(make_once(CACHE / target.name / "own", identity, fill).glob("*.whl"))


def rebuild_own_wheel(target: Target) -> None:
    """Build it once more, in another folder, by somebody whose shell and home are hostile: it must be the same.

    Once is enough.

    Raises:
        StepFailedError: it is not.
    """
    first = make_own_wheel(target)
    stamp = first.parent / "rebuilt.done"
    if stamp.exists():
        return
    with tempfile.TemporaryDirectory(prefix="another-folder.") as folder, hostile(Path(folder)):
        _build(make_environment(target), _sources(), Path(folder) / "work", Path(folder) / "wheel")
        [again] = (Path(folder) / "wheel").glob("*.whl")
        if (again.name, again.read_bytes()) != (first.name, first.read_bytes()):
            raise StepFailedError(f"{target.name}: the same sources gave other bytes in {folder}: {again.name}")
    stamp.touch()


def _build(environment: BuildEnvironment, sources: Sequence[Path], work: Path, into: Path) -> None:
    copy = fresh_folder(work / "source")
    for source in sources:
        to = copy / source.relative_to(REPOSITORY)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, to)
        to.chmod(0o644)
    built = environment.build(copy, work / "built", {"PYPATCHER_REQUIRE_EXTENSIONS": "1"})
    wheel = repair(built, fresh_folder(work / "repaired"), environment)
    audit_abi3(wheel)
    audit_wheel(wheel, environment)
    place(wheel, into)
    shutil.rmtree(work)


def _sources() -> list[Path]:
    found: list[Path] = []
    for name in _SOURCES:
        path = REPOSITORY / name
        found += [path] if path.is_file() else path.rglob("*")
    return sorted(
        path for path in found if path.is_file() and path.suffix in _SUFFIXES and "__pycache__" not in path.parts
    )
