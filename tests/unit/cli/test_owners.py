"""``--public-key`` takes a key, a key for a target, and the file that ``gen`` wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from pypatcher.cli.owners import key_arguments, one_owner, read_keys
from pypatcher.errors import SettingError
from pypatcher.keys import KeyPair, encode_key, write_key_file
from pypatcher.targets import find_target

PAIR, OTHER = KeyPair.generate(), KeyPair.generate()
PUBLIC, OTHER_PUBLIC = encode_key(PAIR.public), encode_key(OTHER.public)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``armv7.key.pub`` is for armv7, ``owner.key.pub`` for any target."""
    monkeypatch.chdir(tmp_path)
    write_key_file(tmp_path / "armv7.key", PAIR, "armv7")
    write_key_file(tmp_path / "owner.key", OTHER)
    return tmp_path


def test_a_file_is_as_good_as_its_key_and_brings_its_target(files: Path) -> None:
    assert read_keys(["armv7.key.pub"]) == read_keys([f"armv7={PUBLIC}"])
    assert read_keys([str(files / "owner.key.pub")]) == read_keys([OTHER_PUBLIC])
    assert read_keys(["aarch64=owner.key.pub"]) == read_keys([f"aarch64={OTHER_PUBLIC}"])
    (files / "a=b").mkdir()
    (files / "a=b" / "k.pub").write_text((files / "armv7.key.pub").read_text())
    assert read_keys(["./a=b/k.pub"]) == read_keys([f"armv7={PUBLIC}"])
    assert key_arguments(read_keys(["armv7.key.pub", "owner.key.pub"])) == (f"armv7={PUBLIC}", OTHER_PUBLIC)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["missing.pub"], "cannot read missing.pub"),
        (["./armv7.key"], "is a secret key.s file, whose public key is in ./armv7.key.pub"),
        (["owner.key"], "whose public key is in owner.key.pub"),
        (["aarch64=armv7.key.pub"], "is the key for target armv7, not aarch64"),
        (["armv7.key.pub", f"armv7={OTHER_PUBLIC}"], "given twice for armv7"),
        (["owner.key.pub", PUBLIC], "given twice for every target"),
        (["riscv=owner.key.pub"], "riscv"),
    ],
)
def test_what_is_no_key_is_refused_in_words(files: Path, texts: list[str], message: str) -> None:
    with pytest.raises(SettingError, match=message) as refused:
        read_keys(texts)
    assert encode_key(PAIR.seed) not in str(refused.value)


def test_one_owner_is_the_one_for_the_target(files: Path) -> None:
    armv7, aarch64 = find_target("armv7"), find_target("aarch64")
    assert one_owner(["armv7.key.pub"], None) == (PAIR.public, armv7)
    assert one_owner(["owner.key.pub"], None) == (OTHER.public, None)
    assert one_owner(["armv7.key.pub", "owner.key.pub"], aarch64) == (OTHER.public, aarch64)
    assert one_owner(["armv7.key.pub", "owner.key.pub"], armv7) == (PAIR.public, armv7)
    with pytest.raises(SettingError, match="none of the keys is for target aarch64"):
        one_owner(["armv7.key.pub"], aarch64)
    with pytest.raises(SettingError, match="say by --target"):
        one_owner(["armv7.key.pub", "owner.key.pub"], None)
