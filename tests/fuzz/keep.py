"""Put into the repository what the fuzzer found to reach something else: ``python -m tests.fuzz.keep``.

Of each working corpus, the smallest inputs that go a way from line to line in our code which no kept one goes. They are
tried by the suite, and the next fuzzing begins with them.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
from types import FrameType

from tests.fuzz.sanitized import REPOSITORY
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import CORPUS, TARGETS

LONGEST = 4096
OURS = str(REPOSITORY / "pypatcher")

Step = tuple[str, int, int]


def steps(name: str, data: bytes) -> set[Step]:
    """The steps from one line to another that a parser takes: file, from, to."""
    seen: set[Step] = set()
    last: dict[int, int] = {}

    def within(frame: FrameType, event: str, _argument: object) -> object:
        if event == "line":
            seen.add((frame.f_code.co_filename, last.get(id(frame), 0), frame.f_lineno))
            last[id(frame)] = frame.f_lineno
        return within

    def entered(frame: FrameType, _event: str, _argument: object) -> object:
        last.pop(id(frame), None)
        return within if frame.f_code.co_filename.startswith(OURS) else None

    sys.settrace(entered)  # type: ignore[arg-type]
    try:
        TARGETS[name](data)
    finally:
        sys.settrace(None)
    return seen


def keep(name: str) -> str:
    """Choose for one parser; what came of it."""
    known = set().union(*(steps(name, seed) for _ in range(2) for seed in (b"", *SEEDS[name])))
    before, kept = len(known), 0
    folder = CORPUS / name
    found = [
        path.read_bytes() for source in (REPOSITORY / ".cache" / "fuzz", CORPUS) for path in (source / name).glob("*")
    ]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for data in sorted({data for data in found if len(data) <= LONGEST}, key=lambda data: (len(data), data)):
        if new := steps(name, data) - known:
            known |= new
            kept += 1
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return f"{kept} of {len(found)} inputs kept, {before} steps by the seeds, {len(known)} with them"


def main() -> None:
    """For every parser."""
    logging.disable(logging.CRITICAL)
    for name in TARGETS:
        print(f"{name:<14} {keep(name)}", flush=True)


if __name__ == "__main__":
    main()
