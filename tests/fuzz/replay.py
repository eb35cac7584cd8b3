"""All known inputs of every parser, once, with the sanitized twins: ``python -m tests.fuzz.replay``."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from pathlib import Path

from tests.fuzz.sanitized import use_sanitized


def main() -> None:
    """Try them; whatever is wrong ends the process."""
    folder = Path(os.environ["PYPATCHER_SANITIZED"])
    use_sanitized(folder)
    from tests.fuzz.targets import TARGETS, known_inputs

    twins = [
        module
        for name, module in sys.modules.items()
        if name.startswith(("pypatcher.artifact._", "pypatcher.established._")) and name.endswith("_c")
    ]
    assert {Path(str(twin.__file__)).parent for twin in twins} == {folder}
    assert ctypes.CDLL(None).__asan_init, "no AddressSanitizer is there"
    logging.disable(logging.CRITICAL)
    tried = 0
    for name, parse in TARGETS.items():
        for data in known_inputs(name):
            parse(data)
            tried += 1
    print(f"{tried} inputs, no finding")


if __name__ == "__main__":
    main()
