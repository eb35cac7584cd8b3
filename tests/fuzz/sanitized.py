"""The compiled twins with AddressSanitizer and UBSan: how they are built, and how a process runs with them."""

from __future__ import annotations

import importlib.util
import os
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
    for name in sorted(path.stem for path in (REPOSITORY / "_speedups").glob("*.pyx")):
        source, compiled = folder / f"{name}.c", folder / f"{name}.o"
        cython = [sys.executable, "-m", "cython", "-3", "-o", source, REPOSITORY / "_speedups" / f"{name}.pyx"]
        subprocess.run([*cython, "--module-name", f"pypatcher.artifact._{name}_c"], check=True)
        flags = ["-fPIC", "-g", "-O1", *SANITIZERS, *MACROS, f"-I{include}"]
        subprocess.run(["gcc", "-c", *flags, source, "-o", compiled], check=True)
        # Linked without the sanitizers: their functions are those of the library that is there first.
        subprocess.run(["gcc", "-shared", compiled, "-o", folder / f"_{name}_c.abi3.so"], check=True)
    return folder


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
        name = f"pypatcher.artifact.{path.name.partition('.')[0]}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
