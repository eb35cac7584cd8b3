"""What must be true of our own files, since programs contain them."""

from __future__ import annotations

import marshal
from pathlib import Path

import pypatcher
from pypatcher.artifact.region import marker

PACKAGE = Path(pypatcher.__file__).parent


def test_the_marker_is_in_none_of_our_files_compiled_or_not() -> None:
    sources = [path for path in PACKAGE.rglob("*") if path.is_file()]
    speedups = [path for path in (PACKAGE.parent / "_speedups").glob("*") if path.is_file()]
    assert len(sources) > 40
    assert [path for path in sources + speedups if marker() in path.read_bytes()] == []
    for optimize in (0, 2):
        for path in sources:
            if path.suffix == ".py":
                code = compile(path.read_bytes(), str(path), "exec", optimize=optimize)
                assert marker() not in marshal.dumps(code), path
