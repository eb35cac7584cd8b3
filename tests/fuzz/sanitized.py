"""The compiled twins with AddressSanitizer and UBSan: how they are built, and how a process runs with them."""

from __future__ import annotations

import importlib.util
import os
import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["REPOSITORY", "build_sanitized", "gcc_runtime", "sanitizer_environment", "use_sanitized"]

REPOSITORY = Path(__file__).resolve().parents[2]
MACROS = ["-DPy_LIMITED_API=0x030B0000", "-DCYTHON_LIMITED_API=1", "-D_FILE_OFFSET_BITS=64", "-D_GNU_SOURCE"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]


def build_sanitized(folder: Path) -> Path:
    """All extensions with the sanitizers, whose library whoever loads them brings; a report ends the process."""
    folder.mkdir(parents=True, exist_ok=True)
    include = sysconfig.get_paths()["include"]
    for module, text in _sources(folder).items():
        name = module.rpartition(".")[2]
        source, compiled = folder / f"{name}.c", folder / f"{name}.o"
        cython = [sys.executable, "-m", "cython", "-3", "-I", folder, "-o", source, text, "--module-name", module]
        subprocess.run(cython, check=True)
        flags = ["-fPIC", "-g", "-O1", *SANITIZERS, *MACROS, f"-I{include}"]
        subprocess.run(["gcc", "-c", *flags, source, "-o", compiled], check=True)
        # Linked without the sanitizers: their functions are those of the library that is there first.
        subprocess.run(["gcc", "-shared", compiled, "-o", folder / f"{module}.abi3.so"], check=True)
    return folder


def _sources(folder: Path) -> dict[str, Path]:
    """What is compiled, by the names of the modules."""
    twins = {f"pypatcher.artifact._{path.stem}_c": path for path in sorted((REPOSITORY / "_speedups").glob("*.pyx"))}
    joined = runpy.run_path(str(REPOSITORY / "_speedups" / "established.py"))
    return {**twins, joined["MODULE"]: joined["write"](folder)}


def sanitizer_environment(folder: Path, runtime: str) -> dict[str, str]:
    """The environment in which a process runs with the sanitized twins; ``runtime``: the sanitizers' libraries."""
    return {
        **os.environ,
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_segv=1:quarantine_size_mb=16",
        "PYPATCHER_SANITIZED": str(folder),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONMALLOC": "malloc",
    }


def gcc_runtime() -> str:
    """gcc's own AddressSanitizer and UBSan."""
    names = ("libasan.so", "libubsan.so")
    found = [subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, check=True) for name in names]
    return ":".join(str(Path(os.fsdecode(each.stdout).strip()).resolve()) for each in found)


def use_sanitized(folder: Path) -> None:
    """Let the extension modules of that folder stand for the installed ones."""
    for path in folder.glob("*.so"):
        name = path.name.removesuffix(".abi3.so")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
