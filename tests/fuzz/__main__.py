"""``make fuzz SECONDS=...``: every parser for that many seconds of processor time, its compiled twins with sanitizers.

AddressSanitizer and UBSan are those that atheris brings, in one library with its libFuzzer: with another one loaded
first the fuzzer is blind, which is checked. Each harness has a working corpus in ``.cache/fuzz/NAME``, which begins
with the seeds and ``tests/fuzz/corpus/NAME`` and grows from run to run. What runs as Python and compiled from the same
source does so by turns: the fuzzer sees the first, the sanitizers the second. Inputs that broke something are kept in
``tests/fuzz/found/NAME`` and belong into the repository with the fix: the suite tries them for ever.
``python -m tests.fuzz.keep`` puts the few inputs that reach something else than the others into the repository.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.sanitized import REPOSITORY, build_sanitized, sanitizer_environment
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import CORPUS, FOUND, LONGEST, TARGETS

CACHE = REPOSITORY / ".cache" / "fuzz"
LIMITS = ["-timeout=60", "-report_slow_units=60", "-rss_limit_mb=1536", "-malloc_limit_mb=2", f"-max_len={LONGEST}"]
LONGEST_ROUND = 300
"""Seconds, of the wall's clock: after each round a harness says how far it is."""
BY_TURNS = frozenset(("frames", "packets"))
BLIND = ("Is the code instrumented for coverage", "Coverage symbols are being provided by a library other")


def fuzzing_runtime() -> str:
    """The library with libFuzzer, AddressSanitizer and UBSan that atheris brings."""
    import atheris

    return str(Path(atheris.path()) / "asan_with_fuzzer.so")


@dataclass(slots=True)
class FuzzResult:
    """What a harness did: seconds of processor time, inputs, edges that they reached, and features of the paths."""

    seconds: float = 0.0
    inputs: int = 0
    edges: int = 0
    features: int = 0

    def __str__(self) -> str:
        reached = f"{self.edges} edges, {self.features} features"
        return f"{self.seconds:.0f} s of processor time, {self.inputs} inputs, {reached}, no finding"


def fuzz(name: str, seconds: int, environment: dict[str, str]) -> FuzzResult:
    """One harness, in rounds until it has had its processor time.

    Raises:
        SystemExit: with what the fuzzer said, if it found something or sees nothing of the code.
    """
    corpus, found = CACHE / name, FOUND / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in (*SEEDS[name], *(path.read_bytes() for path in sorted((CORPUS / name).glob("*")))):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    found.mkdir(parents=True, exist_ok=True)
    tally, plain = FuzzResult(), False
    while tally.seconds < seconds:
        left = seconds - tally.seconds
        if name in BY_TURNS:
            plain = not plain
            left = max(left / 2, 2) if plain else left
            environment = environment | {"PYPATCHER_NO_EXTENSIONS": str(int(plain))}
        wall = min(LONGEST_ROUND, max(2, round(left)))
        command = [sys.executable, "-m", "tests.fuzz.harness", name, *LIMITS, f"-max_total_time={wall}"]
        status, said, used = run(environment, *command, f"-artifact_prefix={found}/", str(corpus))
        if not any(found.iterdir()):
            found.rmdir()
        if status:
            sys.exit(f"{name}: a finding in {found}\n{said[-6000:]}")
        if any(sign in said for sign in BLIND):
            sys.exit(f"{name}: the fuzzer does not see the code\n{said[:3000]}")
        done = re.findall(r"^#\d+\s+DONE\s+cov: (\d+) ft: (\d+)", said, re.MULTILINE)
        runs = re.findall(r"^Done (\d+) runs", said, re.MULTILINE)
        if not done or not runs:
            sys.exit(f"{name}: the fuzzer did not come to its end\n{said[-6000:]}")
        edges, features = max(tally.edges, int(done[-1][0])), max(tally.features, int(done[-1][1]))
        tally = FuzzResult(tally.seconds + used, tally.inputs + int(runs[-1]), edges, features)
        print(f"  {name} so far: {tally}", flush=True)
        found.mkdir(parents=True, exist_ok=True)
    found.rmdir()
    return tally


def run(environment: dict[str, str], *command: str) -> tuple[int, str, float]:
    """Run to the end; exit status, everything it said, and the seconds of processor time that it used."""
    with subprocess.Popen(
        command, env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, said, usage.ru_utime + usage.ru_stime


def main() -> None:
    """All harnesses, or those that are named: ``python -m tests.fuzz [SECONDS [NAME ...]]``."""
    seconds, names = int(sys.argv[1]) if len(sys.argv) > 1 else 60, sys.argv[2:] or list(TARGETS)
    environment = sanitizer_environment(build_sanitized(CACHE / "sanitized"), fuzzing_runtime())
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, tally in zip(names, pool.map(lambda name: fuzz(name, seconds, environment), names), strict=True):
            print(f"{name:<14} {tally}", flush=True)
    if FOUND.exists() and not any(FOUND.iterdir()):
        FOUND.rmdir()


if __name__ == "__main__":
    main()
