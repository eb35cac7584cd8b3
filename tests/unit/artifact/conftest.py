"""Both twins of each speedup, wherever the compiled one was built, and files on disk."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pypatcher.keys import KeyPair


def _twins(name: str) -> list[ModuleType]:
    twins = [importlib.import_module(f"pypatcher.artifact.{name}_py")]
    with contextlib.suppress(ImportError):
        twins.append(importlib.import_module(f"pypatcher.artifact.{name}_c"))
    return twins


HASHING, SECTIONS, CHUNKS = _twins("_hashing"), _twins("_sections"), _twins("_chunks")
Opened = Callable[[bytes], int]


@pytest.fixture(params=HASHING, ids=lambda twin: twin.__name__.rpartition(".")[2])
def walk(request: pytest.FixtureRequest) -> ModuleType:
    """Each twin of the walk over a file."""
    return request.param


@pytest.fixture(params=SECTIONS, ids=lambda twin: twin.__name__.rpartition(".")[2])
def parser(request: pytest.FixtureRequest) -> ModuleType:
    """Each twin of the ELF parser."""
    return request.param


@pytest.fixture(params=CHUNKS, ids=lambda twin: twin.__name__.rpartition(".")[2])
def cutter(request: pytest.FixtureRequest) -> ModuleType:
    """Each twin of what finds the cuts of chunks."""
    return request.param


def vector_bytes(made: dict[str, Any]) -> bytes:
    """The input of a case of ``vectors/tree.json``, as its first line describes them."""
    match made["kind"]:
        case "stream":
            seed, count = made["seed"].encode(), made["n"]
            blocks = (hashlib.sha512(seed + at.to_bytes(4, "big")).digest() for at in range(count // 64 + 1))
            return b"".join(blocks)[:count]
        case "zeros":
            return bytes(made["n"])
        case "period":
            return bytes(at % made["period"] for at in range(made["n"]))
        case _:
            whole, at = vector_bytes(made["of"]), made["at"]
            return whole[:at] + made["put"].encode() + whole[at + made["cut"] :]


@pytest.fixture
def key() -> KeyPair:
    """An owner."""
    return KeyPair.from_seed(bytes(range(32)))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[bytes], int]]:
    """Writes bytes into a file and returns a descriptor for reading it; closes them all in the end."""
    fds: list[int] = []

    def write(data: bytes) -> int:
        path = tmp_path / f"file-{len(fds)}"
        path.write_bytes(data)
        fds.append(os.open(path, os.O_RDONLY))
        return fds[-1]

    yield write
    for fd in fds:
        os.close(fd)
