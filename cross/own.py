"""pypatcher's own wheel for each target: one abi3 wheel for Python 3.11 and newer, the same bytes every time.

Built from a clean copy of the sources, so that nothing a developer's tree contains gets in, and two builds at once
do not meet. What could differ between two builds is fixed: dates, file modes, hash seeds, paths, and the tools.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cross.audit import audit_abi3, repair
from cross.environment import make_environment
from cross.workshop import CACHE, HERE, REPOSITORY, StepFailedError, digest_of, fresh_folder, locked, say
from pypatcher.targets import Target

__all__ = ["make_own_wheel"]

_SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "pypatcher", "_speedups", "targets")
_SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".h", ".typed", ".toml", ".md", ""}


def make_own_wheel(target: Target) -> Path:
    """The wheel of these sources for ``target``, built if there is none of exactly them.

    Raises:
        StepFailedError: it cannot be built, lacks its extensions, or uses more of Python than the stable ABI.
    """
    sources = _sources()
    tools = (HERE / "requirements.txt", HERE / "build-requirements.txt")
    done = CACHE / target.name / "own" / digest_of(*tools, *sources, names=[str(path) for path in sources])
    environment = make_environment(target)
    with locked(f"own-{target.name}"):
        wheel = next(done.glob("*.whl"), None)
        if wheel is not None:
            return wheel
        say(f"{target.name}: pypatcher's wheel")
        copy = fresh_folder(CACHE / target.name / "source")
        for source in sources:
            to = copy / source.relative_to(REPOSITORY)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, to)
            to.chmod(0o644)
        # Assertions of the C library or the compiler must not tell where this was built.
        flags = f"-ffile-prefix-map={copy}=. -ffile-prefix-map={CACHE}=."
        built = environment.build(copy, CACHE / target.name / "built", {"CFLAGS": flags})
        if "-abi3-" not in built.name:
            raise StepFailedError(
                f"{built.name} has no extensions: see what the compiler said in a plain `pip wheel .`"
            )
        fresh_folder(done.parent)  # wheels of older sources
        repaired = repair(built, done, target)
        audit_abi3(repaired)
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
