"""What pyproject.toml cannot say: the optional Cython extensions, and targets/ as a module.

Without a C compiler (or with PYPATCHER_NO_EXTENSIONS=1) everything else is installed, as a pure wheel, and the build
says so; `pypatcher --version` says later which it is.
"""

from __future__ import annotations

import logging
import os
import runpy
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

MACROS = [
    ("Py_LIMITED_API", "0x030B0000"),
    ("CYTHON_LIMITED_API", "1"),
    ("_FILE_OFFSET_BITS", "64"),  # 32-bit targets read files above 2 GiB too
    ("_GNU_SOURCE", None),
]

EXTENSIONS = [
    Extension(name, [source], define_macros=MACROS, extra_compile_args=["-g0"], py_limited_api=True)
    for name, source in (
        ("pypatcher.artifact._chunks_c", "_speedups/chunks.pyx"),
        ("pypatcher.artifact._hashing_c", "_speedups/hashing.pyx"),
        ("pypatcher.artifact._sections_c", "_speedups/sections.pyx"),
        ("pypatcher.established._established_c", "_speedups/established.py"),
    )
]


class BuildExtensions(build_ext):
    """Builds what can be built, drops the rest from the distribution, and says so."""

    def build_extension(self, ext: Extension) -> None:
        if os.environ.get("PYPATCHER_NO_EXTENSIONS", "0") not in {"", "0"}:
            self._drop(ext, "PYPATCHER_NO_EXTENSIONS is set")
            return
        try:
            if ext.sources == ["_speedups/established.py"]:  # which makes the source of pypatcher/established/
                folder = Path("build/established")
                ext.sources = [str(runpy.run_path(ext.sources[0])["write"](folder))]
                ext.include_dirs = [str(folder)]
                # As fast as -O2 here, and compiled in half the time; and its numbers are Python's, to the last bit.
                ext.extra_compile_args += ["-O1", "-ffp-contract=off"]
            super().build_extension(ext)
        except Exception as error:  # whatever a broken or missing compiler raises: the pure twin does the same job
            if os.environ.get("PYPATCHER_REQUIRE_EXTENSIONS") == "1":  # a wheel for devices is compiled, or none
                raise
            self._drop(ext, str(error) or type(error).__name__)

    def copy_extensions_to_source(self) -> None:
        kept = list(self.distribution.ext_modules or ())
        for ext in self.extensions:
            if ext not in kept:
                self._remove_earlier(ext, ".")
        self.extensions = kept
        super().copy_extensions_to_source()

    def _drop(self, ext: Extension, reason: str) -> None:
        self._remove_earlier(ext, self.build_lib)
        self.distribution.ext_modules = [other for other in self.distribution.ext_modules if other is not ext]
        self.announce(f"pypatcher: {ext.name} is not built ({reason}); its pure Python twin is used", logging.WARNING)

    def _remove_earlier(self, ext: Extension, folder: str) -> None:
        """What an earlier build made would go on: in a pure wheel, and in place of a source that has changed since."""
        Path(folder, self.get_ext_filename(self.get_ext_fullname(ext.name))).unlink(missing_ok=True)


class BuildModules(build_py):
    """Adds the target files as a module: bundlers such as Nuitka follow imports, and take no data files along."""

    editable_mode: bool

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # a checkout reads targets/ itself
        folder = Path(__file__).parent / "targets"
        texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.toml"))}
        lines = [f"    {name!r}: {text!r},\n" for name, text in texts.items()]
        module = Path(self.build_lib, "pypatcher", "_built_in_targets.py")
        docstring = '"""targets/*.toml, written by setup.py."""'
        module.write_text(f"{docstring}\n\nTEXTS = {{\n{''.join(lines)}}}\n", encoding="utf-8")


class BuildWheel(bdist_wheel):
    """Tags the wheel by what was really built: abi3 with extensions, pure without."""

    def run(self) -> None:
        self.run_command("build_ext")
        self.root_is_pure = not self.distribution.ext_modules
        super().run()


setup(
    packages=find_packages(include=["pypatcher", "pypatcher.*"]),
    package_data={
        "pypatcher": ["py.typed", "include/*.h"],
        "pypatcher.artifact": ["*.pyi"],
    },
    ext_modules=EXTENSIONS,
    cmdclass={"build_ext": BuildExtensions, "build_py": BuildModules, "bdist_wheel": BuildWheel},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
