"""``seed`` and the manifest beside its file: signatures of the same word are merged into it, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pypatcher.artifact import sign_file
from pypatcher.artifact.beside import manifest_path, read_manifest, write_manifest
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, first_word, next_word
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.node.seed_word import SeedWord
from pypatcher.node.seedfile import choose_files
from pypatcher.settings import Settings
from tests.support.programs import with_section

KEY = KeyPair.from_seed(bytes(range(32)))
TARGETS = ("x86_64", "armv7")


class Seeding:
    """A file that is offered, with a manifest beside it that has one of four signatures for its own target."""

    def __init__(self, folder: Path) -> None:
        path = folder / "app"
        path.write_bytes(with_section("2.0.0"))
        self.whole = first_word(KEY, sign_file(path, KEY, None, None), TARGETS, Change())
        signatures = self.whole.signatures["x86_64"]
        self.poor = replace(self.whole, signatures={**self.whole.signatures, "x86_64": (signatures[0], *(b"",) * 3)})
        self.path = manifest_path(path)
        write_manifest(self.path, self.poor, replace=False)
        (file,) = choose_files([path], {None: OwnerKey(KEY.public)}, (), "pypatcher")
        self.word = SeedWord(file, Settings(state=folder / "state"))
        self.word.hear_beside()

    def hear(self, told: ManifestFile) -> None:
        mine, word = told.for_target("x86_64"), self.word.word
        assert mine is not None and word is not None
        word.hear_at_once(mine.encode())
        self.word.keep_beside()


@pytest.fixture
def seeding(tmp_path: Path) -> Seeding:
    return Seeding(tmp_path)


def test_signatures_that_lack_beside_the_file_are_added(seeding: Seeding) -> None:
    seeding.hear(seeding.whole)
    assert read_manifest(seeding.path) == seeding.whole


def test_another_word_never_replaces_the_one_beside_the_file(seeding: Seeding) -> None:
    seeding.hear(next_word(seeding.whole, KEY, Change(share=100), made=0))
    assert read_manifest(seeding.path) == seeding.poor


def test_no_manifest_is_made_where_there_is_none(seeding: Seeding) -> None:
    seeding.path.unlink()
    seeding.hear(seeding.whole)
    assert not seeding.path.exists()
