"""``make fuzz SECONDS=...``: every parser for that long, the compiled twins with AddressSanitizer and UBSan.

Each harness has a corpus in ``.cache/fuzz/NAME``, which grows from run to run; inputs that broke something are kept in
``tests/fuzz/found/NAME`` and belong into the repository with the fix: the suite tries them for ever.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.fuzz.targets import SEEDS, TARGETS

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache" / "fuzz"
FOUND = Path(__file__).with_name("found")
MACROS = ["-DPy_LIMITED_API=0x030B0000", "-DCYTHON_LIMITED_API=1", "-D_FILE_OFFSET_BITS=64", "-D_GNU_SOURCE"]
LIMITS = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=8192"]


def build_sanitized(folder: Path) -> Path:
    """Both extensions with the sanitizers; any report of theirs ends the process."""
    folder.mkdir(parents=True, exist_ok=True)
    include = sysconfig.get_paths()["include"]
    for name in ("hashing", "sections"):
        source = folder / f"{name}.c"
        speedup = REPOSITORY / "_speedups" / f"{name}.pyx"
        cython = [sys.executable, "-m", "cython", "-3", "-o", source, speedup]
        cython += ["--module-name", f"pypatcher.artifact._{name}_c"]
        subprocess.run(cython, check=True)
        sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
        target = folder / f"_{name}_c.abi3.so"
        command = ["gcc", "-shared", "-fPIC", "-g", "-O1", *sanitizers, *MACROS, f"-I{include}", source, "-o", target]
        subprocess.run(command, check=True)
    return folder


def sanitizer_environment(folder: Path) -> dict[str, str]:
    """The environment in which a process runs with the sanitized twins."""
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return {
        **os.environ,
        "LD_PRELOAD": str(Path(runtime.stdout.strip()).resolve()),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_segv=1",
        "PYPATCHER_SANITIZED": str(folder),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONMALLOC": "malloc",
    }


def fuzz(name: str, seconds: int, environment: dict[str, str]) -> str:
    """One harness; how many inputs it tried. Raises SystemExit with what the fuzzer said if it found something."""
    corpus, found = CACHE / name, FOUND / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS[name]:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    found.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.harness", name, *LIMITS, f"-max_total_time={seconds}"]
    command += [f"-artifact_prefix={found}/", str(corpus)]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if not any(found.iterdir()):
        found.rmdir()
    said = done.stdout + done.stderr
    if done.returncode:
        sys.exit(f"{name}: a finding in {found}\n{said[-6000:]}")
    executed = re.findall(r"Done (\d+) runs", said) or re.findall(r"#(\d+)", said)
    return executed[-1] if executed else "?"


def main() -> None:
    """All harnesses, or those that are named: ``python -m tests.fuzz SECONDS [NAME ...]``."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    environment = sanitizer_environment(build_sanitized(CACHE / "sanitized"))
    for name in sys.argv[2:] or TARGETS:
        executed = fuzz(name, seconds, environment)
        print(f"{name:<14} {seconds} s, {executed} inputs, no finding", flush=True)
    if FOUND.exists() and not any(FOUND.iterdir()):
        FOUND.rmdir()


if __name__ == "__main__":
    main()
