"""What pyproject.toml cannot say: the optional Cython extensions, and targets/ as package data."""

from __future__ import annotations

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

LIMITED_API = "0x030B0000"

EXTENSIONS = [
    Extension(
        name,
        [source],
        define_macros=[("Py_LIMITED_API", LIMITED_API), ("CYTHON_LIMITED_API", "1")],
        py_limited_api=True,
        optional=True,
    )
    for name, source in (
        ("pypatcher.artifact._hashing_c", "_speedups/hashing.pyx"),
        ("pypatcher.artifact._sections_c", "_speedups/sections.pyx"),
    )
]

setup(
    packages=[
        "pypatcher",
        *(f"pypatcher.{room}" for room in "artifact dht discovery transport install process node cli".split()),
        "pypatcher._targets",
        "pypatcher.__pyinstaller",
    ],
    package_dir={"pypatcher._targets": "targets"},
    package_data={"pypatcher": ["py.typed", "include/*.h"], "pypatcher._targets": ["*.toml"]},
    ext_modules=EXTENSIONS,
    cmdclass={"bdist_wheel": bdist_wheel},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
