"""A device's wheelhouse: every wheel that it needs, so that it installs without a compiler and without a network.

``wheelhouse.txt`` names the versions. For each, the index's wheel is taken if it has one for the target; else it is
built here from the source distribution. That is two ways and no list of who needs which: it changes with the index.
"""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

from cross.audit import check_anonymous, platform_tags, repair
from cross.environment import BuildEnvironment, make_environment
from cross.own import make_own_wheel
from cross.sysroot import glibc_minor
from cross.workshop import (
    CACHE,
    HERE,
    REPOSITORY,
    StepFailedError,
    digest_of,
    fresh_folder,
    locked,
    python_version,
    run,
    say,
)
from pypatcher.targets import Target

__all__ = ["WHEELHOUSE", "make_wheelhouse"]

WHEELHOUSE = REPOSITORY / "wheelhouse"
_PINS = HERE / "wheelhouse.txt"
_SOURCE_BUILDS = {
    # Its own libsodium, as in the wheels of the index; Debian's older one lacks functions that it imports.
    "PyNaCl": lambda environment: {
        "LIBSODIUM_MAKE_ARGS": "-j2 check_PROGRAMS= TESTS=",
        "host_alias": environment.target.gnu_triplet,
        "build_alias": f"{platform.machine()}-linux-gnu",
    },
}
"""What a package's own build wants to be told, beyond what every build is."""


def make_wheelhouse(target: Target) -> Path:
    """Fill ``wheelhouse/TARGET`` and return it; what was downloaded or built before is taken from the cache.

    Raises:
        StepFailedError: a wheel can neither be downloaded nor built, or the whole does not install.
    """
    environment = make_environment(target)
    recipe = (_PINS, HERE / "build-requirements.txt", HERE / "environment.py", Path(__file__))
    cache = CACHE / target.name / f"wheels-{digest_of(*recipe)}-{python_version()}"
    with locked(f"wheelhouse-{target.name}"):
        for requirement in _requirements():
            if not _cached(cache, requirement):
                _get(environment, requirement, cache)
        folder = fresh_folder(WHEELHOUSE / target.name)
        for wheel in (*cache.glob("*.whl"), make_own_wheel(target)):
            shutil.copy2(wheel, folder)
        _check(target, folder)
    return folder


def install_arguments(target: Target, folder: Path) -> list[str]:
    """pip's arguments that install on this host from ``folder`` what runs on ``target``; add ``--target DIR``."""
    tags = [word for tag in platform_tags(target, glibc_minor(target)) for word in ("--platform", tag)]
    abis = [word for abi in (f"cp{python_version().replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    return [
        "--no-index", "--find-links", str(folder), "--only-binary=:all:",
        "--python-version", python_version(), "--implementation", "cp", *abis, *tags,
    ]  # fmt: skip


def _get(environment: BuildEnvironment, requirement: str, cache: Path) -> None:
    target = environment.target
    cache.mkdir(parents=True, exist_ok=True)
    tags = [word for tag in platform_tags(target, glibc_minor(target)) for word in ("--platform", tag)]
    try:
        run(
            sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
            "--python-version", python_version(), *tags, "--dest", cache, requirement,
        )  # fmt: skip
    except StepFailedError as error:
        if "No matching distribution found" not in str(error):
            raise
    else:
        return
    say(f"{target.name}: building {requirement}, of which the index has no wheel")
    name = requirement.partition("==")[0]
    extra = _SOURCE_BUILDS[name](environment) if name in _SOURCE_BUILDS else {}
    work = CACHE / target.name
    source = environment.fetch_source(requirement, work / "source-other")
    wheel = repair(environment.build(source, work / "built-other", extra), cache, target)
    check_anonymous(wheel, CACHE)
    shutil.rmtree(source)


def _requirements() -> list[str]:
    return [line for line in _PINS.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def _cached(cache: Path, requirement: str) -> bool:
    name, _, version = requirement.partition("==")
    wanted = (_normal(name), version)
    return any((_normal(path.name.split("-")[0]), path.name.split("-")[1]) == wanted for path in cache.glob("*.whl"))


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _check(target: Target, folder: Path) -> None:
    """Does the wheelhouse hold all that pypatcher needs there?"""
    nowhere = CACHE / target.name / "check"
    run(
        sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--target", nowhere,
        *install_arguments(target, folder), "pypatcher",
    )  # fmt: skip
