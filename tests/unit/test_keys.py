"""Keys: 52 characters on disk and at the edges, bytes inside, secrets nowhere else."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.errors import KeyFileError
from pypatcher.keys import (
    KeyPair,
    decode_key,
    encode_key,
    parse_public_key,
    public_key_path,
    read_key_file,
    read_public_file,
    verify_signature,
    write_key_file,
)

PAIR = KeyPair.from_seed(bytes(range(32)))
TEXT = encode_key(PAIR.public)


@given(st.binary(min_size=32, max_size=32))
def test_text_of_a_key_round_trips(key: bytes) -> None:
    text = encode_key(key)
    assert len(text) == 52
    assert decode_key(text, "the key") == key


@given(st.text(max_size=60))
def test_any_other_text_is_refused_with_a_clear_error(text: str) -> None:
    try:
        key = decode_key(text, "the key")
    except KeyFileError as error:
        assert "the key is not a key" in str(error)
    else:
        assert encode_key(key) == text


def test_text_that_is_not_canonical_is_refused() -> None:
    # The last character carries one bit of the key and four that must be 0.
    spare = {decode_key_or_none(TEXT[:-1] + last) for last in "ybndrfg8ejkmcpqxot1uwisza345h769"} - {None}
    assert len(spare) == 2


def decode_key_or_none(text: str) -> bytes | None:
    try:
        return decode_key(text, "the key")
    except KeyFileError:
        return None


def test_keys_are_written_as_the_rust_program_writes_them() -> None:
    vectors = json.loads((Path(__file__).parents[1] / "vectors" / "rustpatcher.json").read_text())
    for vector in vectors["keys"]:
        pair = KeyPair.from_seed(decode_key(vector["seed_z32"], "the seed"))
        assert pair.seed.hex() == vector["seed"]
        assert pair.public == parse_public_key(vector["public_z32"]) == bytes.fromhex(vector["public"])
        assert (encode_key(pair.seed), encode_key(pair.public)) == (vector["seed_z32"], vector["public_z32"])


def test_a_public_key_must_be_a_point_of_the_curve() -> None:
    assert parse_public_key(TEXT) == PAIR.public
    for wrong in (bytes(32), b"\x02" + bytes(31), b"\xff" * 32):
        with pytest.raises(KeyFileError, match="no valid ed25519 key"):
            parse_public_key(encode_key(wrong))


@pytest.mark.parametrize("secret", [encode_key(bytes([number]) * 32) for number in range(3, 20)])
def test_a_secret_key_in_the_place_of_a_public_one_is_not_quoted(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "owner.key.pub"
    path.write_text(f"any {secret}")
    said = []
    for read in (
        lambda: parse_public_key(secret),
        lambda: parse_public_key(secret[1:]),
        lambda: read_public_file(path),
    ):
        try:
            read()
        except KeyFileError as error:
            said.append(str(error))
    assert said
    assert secret[1:] not in "".join(said)


def test_a_signature_is_for_one_key_and_one_message() -> None:
    signature = PAIR.sign(b"message")
    assert verify_signature(PAIR.public, b"message", signature)
    assert not verify_signature(PAIR.public, b"Message", signature)
    assert not verify_signature(KeyPair.generate().public, b"message", signature)
    for wrong in (b"", signature[:-1], signature + b"\0", bytes(64), signature[:-1] + b"\xff"):
        assert not verify_signature(PAIR.public, b"message", wrong)
    assert not verify_signature(b"", b"message", signature)


def test_a_seed_is_in_no_repr() -> None:
    assert repr(PAIR.seed) not in repr(PAIR)
    assert PAIR.seed.hex() not in repr(PAIR)


def test_a_key_file_is_private_and_its_public_half_is_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "owner"
    write_key_file(path, PAIR, "armv7")
    assert path.read_text() == encode_key(PAIR.seed)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert public_key_path(path).read_text() == f"armv7 {TEXT}\n"
    assert read_key_file(path) == PAIR
    assert read_public_file(public_key_path(path)) == ("armv7", PAIR.public)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", " \n"])
def test_a_key_is_read_with_or_without_a_newline(tmp_path: Path, ending: str) -> None:
    (tmp_path / "owner").write_text(encode_key(PAIR.seed) + ending)
    assert read_key_file(tmp_path / "owner") == PAIR


@pytest.mark.parametrize("existing", ["owner", "owner.pub"])
def test_neither_file_is_ever_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("precious")
    with pytest.raises(KeyFileError, match="never overwritten"):
        write_key_file(tmp_path / "owner", PAIR)
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "precious"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "owner").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError):
        write_key_file(tmp_path / "owner", PAIR)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"short", b"x" * 5000, TEXT.encode() + b" " + TEXT.encode()])
def test_a_file_that_holds_no_key_is_named_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "owner"
    path.write_bytes(content)
    with pytest.raises(KeyFileError) as raised:
        read_key_file(path)
    assert str(path) in str(raised.value)
    assert not content or content.decode("latin-1") not in str(raised.value)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"owner: No such file"):
        read_key_file(tmp_path / "owner")
    (tmp_path / "owner.pub").write_text("armv7\n")
    with pytest.raises(KeyFileError, match="expected '<target or any> <public key>'"):
        read_public_file(tmp_path / "owner.pub")
