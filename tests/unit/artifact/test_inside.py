"""What a program carries of ours: whether it updates itself, and which public keys it might trust."""

from __future__ import annotations

import marshal
import os
import random
import sys
import zipapp
import zlib
from pathlib import Path

import pytest

from pypatcher.artifact.inside import foreign_keys, look_inside
from pypatcher.keys import KeyPair, OwnerKey, encode_key
from tests.unit.cli.conftest import Run, run

__all__ = ["run"]

ONE, OTHER = KeyPair.from_seed(bytes(range(32))), KeyPair.from_seed(bytes(range(7, 39)))
CODE = f'import pypatcher\n\n@pypatcher.public_key("{encode_key(OTHER.public)}")\ndef main(): ...\n'


def zipped(folder: Path, code: str) -> Path:
    source = folder / "source"
    source.mkdir()
    (source / "__main__.py").write_text(code)
    zipapp.create_archive(source, folder / "app.pyz", interpreter=sys.executable, compressed=True)
    return folder / "app.pyz"


def packed(folder: Path, code: str) -> Path:
    """As PyInstaller packs: an ELF file, then zlib streams between other bytes."""
    noise = random.Random(7).randbytes(200_000)
    compiled = marshal.dumps(compile(code, "app.py", "exec"))
    description = f"Metadata-Version: 2.4\n{encode_key(ONE.public)}".encode()
    contents = (os.urandom(100_000), compiled, b"pypatcher.app.patcher", description)
    streams = [zlib.compress(content, 9) for content in contents]
    path = folder / "app"
    path.write_bytes(Path("/bin/true").read_bytes() + noise.join([b"", *streams, b""]))
    return path


@pytest.mark.parametrize("build", [zipped, packed])
def test_the_key_in_a_program_is_found_however_it_is_packed(tmp_path: Path, build: object) -> None:
    with build(tmp_path, CODE).open("rb") as file:  # type: ignore[operator]
        found = look_inside(file.fileno())
        assert found.updates_itself
        assert found.keys == {OwnerKey(OTHER.public)}
        assert foreign_keys(file.fileno(), OwnerKey(ONE.public)) == {OwnerKey(OTHER.public)}
        assert foreign_keys(file.fileno(), OwnerKey(OTHER.public)) == frozenset()


def test_a_program_without_pypatcher_trusts_nobody() -> None:
    with Path("/bin/true").open("rb") as file:
        assert not look_inside(file.fileno()).updates_itself
        assert foreign_keys(file.fileno(), OwnerKey(ONE.public)) == frozenset()


def test_verify_warns_of_a_program_that_trusts_another_key(run: Run, tmp_path: Path) -> None:
    app = zipped(tmp_path, CODE)
    key = tmp_path / "owner.key"
    assert run("gen", key).status == 0
    assert run("embed", app, "--version", "1.1.0").status == 0
    assert run("sign", app, "--key-file", key).status == 0
    said = run("verify", app, "--public-key", f"{key}.pub", "--json")
    assert (said.status, said.json["trusts_others"]) == (0, [encode_key(OTHER.public)])
    assert "carries the public key" in said.err
