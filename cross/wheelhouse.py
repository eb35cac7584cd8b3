"""A device's wheelhouse: every wheel that it needs, so that it installs without a compiler and without a network.

``requirements/wheelhouse.txt`` names the versions and the hashes of their files. For each, the index's wheel is taken
if it has one for the target; else it is built here from the source distribution. That is two ways and no list of who
needs which: it changes with the index.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from cross.audit import audit_wheel, glibc_minor, platform_tags, repair
from cross.environment import BuildEnvironment, make_environment
from cross.own import make_own_wheel
from cross.pins import PINS, Pin, read_pins
from cross.sums import write_sums
from cross.workshop import (
    CACHE,
    DISTRIBUTION,
    REPOSITORY,
    StepFailedError,
    digest_of,
    fresh_folder,
    locked,
    place,
    python_version,
    replace_folder,
    run,
    say,
)
from pypatcher.keys import KeyPair
from pypatcher.targets import Target

__all__ = ["WHEELHOUSE", "download_options", "get_wheel", "make_wheelhouse"]

WHEELHOUSE = REPOSITORY / "wheelhouse"
_PINS = PINS / "wheelhouse.txt"
_SOURCE_BUILDS = {
    # Its own libsodium, as in the wheels of the index; Debian's older one lacks functions that it imports.
    "pynacl": lambda environment: {
        "LIBSODIUM_MAKE_ARGS": "-j2 check_PROGRAMS= TESTS=",
        "host_alias": environment.target.gnu_triplet,
        "build_alias": f"{platform.machine()}-linux-gnu",
    },
}
"""What a package's own build wants to be told, beyond what every build is."""


def make_wheelhouse(target: Target, key: KeyPair | None = None) -> Path:
    """Fill ``wheelhouse/TARGET`` and return it; what was downloaded or built before is taken from the cache.

    Raises:
        StepFailedError: a wheel can neither be downloaded nor built, is not fit for devices, or the whole does not
            install.
    """
    environment = make_environment(target)
    identity = digest_of(_PINS, names=[environment.identity])
    with locked(f"wheelhouse-{target.name}"):
        cache = CACHE / target.name / f"wheels-{identity}"
        own = make_own_wheel(target)
        wheels = [own, *(get_wheel(environment, pin, cache) for pin in read_pins(_PINS))]
        folder = WHEELHOUSE / target.name
        aside = fresh_folder(folder.with_name(f".{target.name}.new"))
        for wheel in wheels:
            place(wheel, aside)
        _check(environment, aside)
        write_sums(aside, key)
        replace_folder(aside, folder)
    return folder


def download_options(target: Target, libraries: Path) -> list[str]:
    """pip's options that choose on this host what runs on ``target``, whose C library is in ``libraries``."""
    tags = [word for tag in platform_tags(target, glibc_minor(libraries)) for word in ("--platform", tag)]
    abis = [word for abi in (f"cp{python_version().replace('.', '')}", "abi3", "none") for word in ("--abi", abi)]
    return ["--only-binary=:all:", "--python-version", python_version(), "--implementation", "cp", *abis, *tags]


def get_wheel(environment: BuildEnvironment, pin: Pin, cache: Path) -> Path:
    """One package's wheel from ``cache``, or from the index, or built from source, then audited and put there.

    What is in the cache came with the very same hashes.

    Raises:
        StepFailedError: it can neither be downloaded nor built, or is not fit for devices.
    """
    of_pin = cache / f"{pin.name}-{digest_of(names=[pin.text])}"
    with locked(f"wheels-{environment.target.name}"):
        return next(of_pin.glob("*.whl"), None) or _get(environment, pin, of_pin)


def _get(environment: BuildEnvironment, pin: Pin, cache: Path) -> Path:
    target = environment.target
    work = fresh_folder(CACHE / target.name / "wheel-work")
    wanted = work / "wanted.txt"
    wanted.write_text(pin.text, encoding="utf-8")
    download: list[str | Path] = ["-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "-r", wanted]
    try:
        options = download_options(target, environment.libraries)
        run(sys.executable, *download, *options, "--dest", work / "ready")
    except StepFailedError as error:
        if "No matching distribution found" not in str(error):
            raise
    else:
        wheel = next((work / "ready").glob("*.whl"))
        audit_wheel(wheel, environment, ours=False)
        return place(wheel, cache)
    say(f"{target.name}: building {pin.name} {pin.version}, of which the index has no wheel")
    options = ["--no-build-isolation", "--no-binary=:all:", "--dest", str(work / "archive")]
    run(environment.python, *download, *options, environment=environment.variables)
    archive, source = next((work / "archive").glob("*.tar.gz")), fresh_folder(work / "source")
    run("tar", "-x", "--strip-components=1", "--no-same-owner", "--no-same-permissions", "-f", archive, "-C", source)
    extra = _SOURCE_BUILDS[pin.name](environment) if pin.name in _SOURCE_BUILDS else {}
    built = environment.build(source, work / "built", extra)
    wheel = repair(built, fresh_folder(work / "repaired"), environment)
    audit_wheel(wheel, environment)
    return place(wheel, cache)


def _check(environment: BuildEnvironment, folder: Path) -> None:
    """Does the wheelhouse hold all that pypatcher needs there?"""
    run(
        sys.executable, "-m", "pip", "--isolated", "install", "-q", "--dry-run", "--ignore-installed",
        "--target", CACHE / environment.target.name / "check", "--no-index", "--find-links", folder,
        *download_options(environment.target, environment.libraries), DISTRIBUTION,
    )  # fmt: skip
