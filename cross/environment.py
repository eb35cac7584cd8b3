"""A Python environment that builds wheels for a target: crossenv, or for the host's own target a plain one.

crossenv takes its compiler's name from the target Python's own build configuration (``TRIPLET-gcc``), so wrappers of
that name, first in PATH, add ``--sysroot`` and what makes builds repeatable.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cross.debian import install_missing, toolchain_packages
from cross.sysroot import make_sysroot
from cross.workshop import CACHE, EPOCH, HERE, digest_of, fresh_folder, locked, python_version, run, say
from pypatcher.targets import Target

__all__ = ["BuildEnvironment", "is_native", "make_environment"]

_REQUIREMENTS = HERE / "build-requirements.txt"


@dataclass(frozen=True, slots=True)
class BuildEnvironment:
    """``python`` builds wheels for ``target`` when run with ``variables``."""

    target: Target
    python: Path
    variables: Mapping[str, str]

    def build(self, source: Path, into: Path, extra: Mapping[str, str] | None = None) -> Path:
        """Build one wheel from a folder; returns it, in the empty folder ``into``.

        Raises:
            StepFailedError: the build failed.
        """
        fresh_folder(into)
        options = ["--no-deps", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(into)]
        # Neither debug information nor the assertions of a C library may tell where this was built.
        flags = f"-O2 -g0 -ffile-prefix-map={source}=. -ffile-prefix-map={CACHE}=."
        run(
            self.python, "-m", "pip", "wheel", *options, source,
            environment={**self.variables, "CFLAGS": flags, **(extra or {})},
            # A compiler's flags of whoever runs this must not end in the wheels.
            unset=("CPPFLAGS", "CXXFLAGS", "LDFLAGS", "CC", "CXX", "LDSHARED", "PYTHONPATH"),
        )  # fmt: skip
        return next(into.glob("*.whl"))

    def fetch_source(self, requirement: str, into: Path) -> Path:
        """Download a source distribution and unpack it into the empty folder ``into``, which is returned.

        Raises:
            StepFailedError: the index has none.
        """
        fresh_folder(into)
        options = ["--no-deps", "--no-build-isolation", "--no-binary=:all:", "--dest", str(into)]
        run(self.python, "-m", "pip", "download", "-q", *options, requirement, environment=self.variables)
        archive = next(into.glob("*.tar.gz"))
        run("tar", "-x", "--strip-components=1", "--no-same-owner", "-f", archive, "-C", into)
        archive.unlink()
        return into


def is_native(target: Target) -> bool:
    """Are programs of this very Python for ``target``?"""
    return str(sysconfig.get_config_var("MULTIARCH")) == target.gnu_triplet


def make_environment(target: Target) -> BuildEnvironment:
    """The environment of ``target``, made if it is not there yet.

    Raises:
        StepFailedError: a package or a tool is missing.
    """
    install_missing(toolchain_packages(target))
    folder = CACHE / target.name / "env"
    stamp = CACHE / target.name / f"env-{digest_of(_REQUIREMENTS)}-{python_version()}.done"
    sysroot = None if is_native(target) else make_sysroot(target)
    with locked(f"env-{target.name}"):
        if not stamp.exists():
            say(f"{target.name}: build environment")
            fresh_folder(folder)
            if sysroot is None:
                _make_native(folder)
            else:
                _make_cross(target, sysroot, folder)
            stamp.touch()
    variables = {"SOURCE_DATE_EPOCH": EPOCH, "PYTHONHASHSEED": "0", "MAKEFLAGS": "-j2"}
    if sysroot is None:
        return BuildEnvironment(target, folder / "bin" / "python", variables)
    libraries = sysroot / "usr" / "lib" / target.gnu_triplet / "pkgconfig"
    variables |= {
        "PATH": f"{folder / 'wrappers'}:{_path()}",
        "PKG_CONFIG_LIBDIR": f"{libraries}:{sysroot / 'usr/share/pkgconfig'}",
        "PKG_CONFIG_SYSROOT_DIR": str(sysroot),
    }
    return BuildEnvironment(target, folder / "cross" / "bin" / "python", variables)


def _make_native(folder: Path) -> None:
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", "-r", _REQUIREMENTS)


def _make_cross(target: Target, sysroot: Path, folder: Path) -> None:
    wrappers = fresh_folder(folder / "wrappers")
    for tool in ("gcc", "g++"):
        real = f"/usr/bin/{target.gnu_triplet}-{tool}"
        _script(wrappers / f"{target.gnu_triplet}-{tool}", f'exec {real} --sysroot="{sysroot}" "$@"')
    gcc, gxx = f"{target.gnu_triplet}-gcc", f"{target.gnu_triplet}-g++"
    environment = {"PATH": f"{wrappers}:{_path()}"}
    run(
        sys.executable, "-m", "crossenv",
        "--cc", gcc, "--cxx", gxx, "--ar", f"{target.gnu_triplet}-ar",
        # The kernel that runs the emulator or the container may call itself otherwise; the wheel's tag is the target's.
        "--machine", target.wheel_machine,
        "--config-var", f"LDSHARED={gcc} -shared",
        "--config-var", f"LDCXXSHARED={gxx} -shared",
        sysroot / "usr" / "bin" / f"python{python_version()}",
        folder,
        environment=environment,
    )  # fmt: skip
    # Build tools run here, so they are installed for the host's Python; the cross one is shown them.
    run(folder / "bin" / "build-python", "-m", "pip", "install", "-q", "-r", _REQUIREMENTS, environment=environment)
    run(folder / "bin" / "cross-expose", *_names(_REQUIREMENTS), environment=environment)


def _names(requirements: Path) -> list[str]:
    lines = requirements.read_text(encoding="utf-8").splitlines()
    return [line.partition("==")[0] for line in lines if line and not line.startswith("#")]


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


def _path() -> str:
    return os.environ.get("PATH", os.defpath)
