"""One parser under atheris (libFuzzer): ``python -m tests.fuzz.harness NAME LIBFUZZER-OPTIONS...``.

With ``PYPATCHER_SANITIZED`` set to a folder, the compiled twins are those that were built there with the sanitizers.
"""

from __future__ import annotations

import logging
import os
import sys
import tracemalloc
from functools import partial
from pathlib import Path

from tests.fuzz.sanitized import use_sanitized


def main() -> None:
    """Fuzz until the options say stop; the process ends with the fuzzer."""
    import atheris

    logging.disable(logging.CRITICAL)
    if folder := os.environ.get("PYPATCHER_SANITIZED"):
        use_sanitized(Path(folder))
    with atheris.instrument_imports(include=["pypatcher"]):
        from tests.fuzz.seeds import SEEDS
        from tests.fuzz.targets import TARGETS, try_bounded
    name = sys.argv.pop(1)
    for seed in (b"", *SEEDS[name]):
        TARGETS[name](seed)  # what is made once and kept counts for no input
    tracemalloc.start()
    atheris.Setup(sys.argv, partial(try_bounded, name))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
