"""A Python environment that builds wheels for a target: crossenv, or for the host's own target a plain one.

crossenv takes its compiler's name from the target Python's own build configuration (``TRIPLET-gcc``), so wrappers of
that name, first in PATH, add ``--sysroot`` and what keeps this machine's own headers and libraries for the target out:
Debian's cross compilers look into ``/usr/TRIPLET/include`` and ``/usr/TRIPLET/lib`` first, whatever the sysroot.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cross.clean import PATH
from cross.debian import find_compiler, install_missing, toolchain_packages
from cross.pins import HASHED, PINS, read_pins
from cross.sysroot import make_sysroot
from cross.workshop import (
    CACHE,
    EPOCH,
    HERE,
    StepFailedError,
    digest_of,
    fresh_folder,
    locked,
    make_once,
    python_version,
    run,
    say,
)
from pypatcher.targets import Target

__all__ = ["BuildEnvironment", "build_variables", "is_native", "make_environment", "make_wrappers"]

_REQUIREMENTS = PINS / "build.txt"
_TOOLS = PINS / "cross.txt"
_RECIPE = ("audit.py", "clean.py", "environment.py", "own.py", "wheelhouse.py", "workshop.py")


@dataclass(frozen=True, slots=True)
class BuildEnvironment:
    """``python`` builds wheels for ``target`` when run with ``variables``.

    Attributes:
        identity: changes with whatever may change what it builds: tools, compiler, Python.
        libraries: the folder of the target's own C library.
    """

    target: Target
    python: Path
    variables: Mapping[str, str]
    identity: str
    libraries: Path

    def build(self, source: Path, into: Path, extra: Mapping[str, str] | None = None) -> Path:
        """Build one wheel from a folder; returns it, in the empty folder ``into``.

        Raises:
            StepFailedError: the build failed.
        """
        fresh_folder(into)
        options = ["--no-deps", "--no-index", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(into)]
        # Neither debug information nor the assertions of a C library may tell where this was built.
        flags = f"-O2 -g0 -ffile-prefix-map={source}=. -ffile-prefix-map={CACHE}=."
        run(
            self.python, "-m", "pip", "wheel", *options, source,
            environment={**self.variables, "CFLAGS": flags, **(extra or {})},
        )  # fmt: skip
        return next(into.glob("*.whl"))


def is_native(target: Target) -> bool:
    """Are programs of this very Python for ``target``?"""
    return str(sysconfig.get_config_var("MULTIARCH")) == target.gnu_triplet


def make_environment(target: Target) -> BuildEnvironment:
    """The environment of ``target``, made if it is not there yet.

    Raises:
        StepFailedError: a package or a tool is missing.
    """
    install_missing(toolchain_packages(target))
    compiler = find_compiler(target)
    if compiler is None:
        raise StepFailedError(f"there is no {target.gnu_triplet}-gcc in your PATH")
    identity = digest_of(
        *(_REQUIREMENTS, _TOOLS, *(HERE / name for name in _RECIPE)),
        names=[python_version(), str(compiler), run(compiler, "--version")],
    )
    sysroot = None if is_native(target) else make_sysroot(target)

    def fill(folder: Path) -> None:
        say(f"{target.name}: build environment")
        make_wrappers(target, folder / "wrappers", sysroot)
        if sysroot is None:
            _make_native(folder)
        else:
            _make_cross(target, sysroot, folder)

    with locked(f"env-{target.name}"):
        folder = make_once(CACHE / target.name / "env", identity, fill, movable=False)
    libraries = (sysroot or Path("/")) / "usr" / "lib" / target.gnu_triplet
    python = folder / "bin" / "python" if sysroot is None else folder / "cross" / "bin" / "python"
    return BuildEnvironment(target, python, build_variables(folder, libraries, sysroot), identity, libraries)


def build_variables(folder: Path, libraries: Path, sysroot: Path | None) -> dict[str, str]:
    """What a build in the environment ``folder`` is told; ``sysroot`` is None for this machine's own target."""
    variables = {
        "SOURCE_DATE_EPOCH": EPOCH,
        "PYTHONHASHSEED": "0",
        "MAKEFLAGS": "-j2",
        "PATH": f"{folder / 'wrappers'}:{PATH}",
    }
    if sysroot is None:
        # A Python that was built by hand names its own folder to every linker; crossenv is told when it is made.
        return variables | {"LDSHARED": "gcc -shared", "LDCXXSHARED": "g++ -shared"}
    return variables | {
        "PKG_CONFIG_LIBDIR": f"{libraries / 'pkgconfig'}:{sysroot / 'usr/share/pkgconfig'}",
        "PKG_CONFIG_SYSROOT_DIR": str(sysroot),
    }


def make_wrappers(target: Target, wrappers: Path, sysroot: Path | None) -> None:
    """Scripts that call the compiler where the builder has it, by its name; a native one by its short name too."""
    wrappers.mkdir()
    for tool in ("gcc", "g++", "ar"):
        real = find_compiler(target, tool)
        if real is None:
            continue
        for name in (f"{target.gnu_triplet}-{tool}", *(() if sysroot else (tool,))):
            options = [] if sysroot is None or tool == "ar" else _only_of(real, sysroot, target, wrappers)
            _script(wrappers / name, " ".join(["exec", str(real), '"$@"', *options]))


def _only_of(compiler: Path, sysroot: Path, target: Target, folder: Path) -> list[str]:
    """Options with which a compiler finds headers and libraries in ``sysroot`` alone, besides those that it brings.

    No option takes a folder from those that it gives the linker, so a file of specs in ``folder`` says which they are.

    Raises:
        StepFailedError: it is no gcc.
    """
    language = "c++" if compiler.name.endswith("++") else "c"
    find: list[str | Path] = [compiler, f"--sysroot={sysroot}", "-E", "-v", "-x", language, "/dev/null"]
    said = run("sh", "-c", 'exec "$@" 2>&1', "sh", *find)  # to its standard error
    listed = said.partition("search starts here:\n#include <...> search starts here:\n")[2]
    own = Path(run(compiler, "-print-file-name=include").strip()).resolve().parent
    folders = [Path(line.strip()).resolve() for line in listed.partition("End of search list.")[0].splitlines()]
    kept = [each for each in folders if {own, sysroot.resolve()} & {*each.parents} or "c++" in each.parts]
    if not any(sysroot.resolve() in each.parents for each in kept):
        raise StepFailedError(f"{compiler} does not say that it looks for headers in its sysroot:\n{said}")
    headers = [word for each in kept for word in ("-isystem", str(each))]
    first = f"-B{sysroot / 'usr' / 'lib' / target.gnu_triplet}/"  # before its own: startup files and libraries alike
    said = run(compiler, f"--sysroot={sysroot}", first, "-print-search-dirs")
    searched = dict.fromkeys(Path(each).resolve() for each in said.partition("libraries: =")[2].strip().split(":"))
    here = Path("/usr", target.gnu_triplet).resolve()
    libraries = " ".join(f"-L{each}" for each in searched if each.is_dir() and here not in (each, *each.parents))
    specs = folder / f"{compiler.name}.specs"
    specs.write_text(f"*link_libgcc:\n{libraries}\n\n", encoding="utf-8")
    return [f"--sysroot={sysroot}", first, f"-specs={specs}", "-nostdinc", *headers]


def _make_native(folder: Path) -> None:
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", *HASHED, "-r", _REQUIREMENTS)


def _make_cross(target: Target, sysroot: Path, folder: Path) -> None:
    gcc, gxx = f"{target.gnu_triplet}-gcc", f"{target.gnu_triplet}-g++"
    environment = {"PATH": f"{folder / 'wrappers'}:{PATH}"}
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
    pip: list[str | Path] = [folder / "bin" / "build-python", "-m", "pip", "install", "-q"]
    run(*pip, *HASHED, "-r", _REQUIREMENTS, environment=environment)
    run(folder / "bin" / "cross-expose", *_names(_REQUIREMENTS), environment=environment)


def _names(requirements: Path) -> list[str]:
    return [pin.name for pin in read_pins(requirements)]


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)
