"""One parser under atheris (libFuzzer): ``python -m tests.fuzz.harness NAME LIBFUZZER-OPTIONS...``.

With ``PYPATCHER_SANITIZED`` set to a folder, the compiled twins are those that were built there with the sanitizers.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import tracemalloc
from functools import partial
from pathlib import Path


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
