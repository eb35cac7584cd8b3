"""What leaves the desk is what was meant: statuses that are true, one judgement for all commands, the right keys."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pypatcher.artifact import sign_file
from pypatcher.artifact.region import template
from pypatcher.keys import KeyPair, encode_key, looks_public, write_key_file
from pypatcher.version import Version
from tests.support.programs import ARM, make_elf, make_zipapp, with_section, with_tail

Run = Callable[..., Any]
PAIR = KeyPair.from_seed(bytes(range(32)))
PUBLIC = encode_key(PAIR.public)


@pytest.fixture
def app(run: Run) -> Path:
    """An unsigned program and the key ``owner``, in the current folder."""
    Path("app").write_bytes(with_section("1.2.3"))
    write_key_file(Path("owner"), PAIR)
    return Path("app")


def several_machines() -> bytes:
    members = {"__main__.py": b"", "a.so": make_elf(machine=ARM, bits=32), "b.so": make_elf()}
    return make_zipapp(members)


def packed_otherwise() -> bytes:
    with zipfile.ZipFile("lzma.zip", "w") as archive:
        archive.writestr("__main__.py", "")
        archive.writestr("table.csv", "1,2\n" * 500, compress_type=zipfile.ZIP_LZMA)
    return b"#!/usr/bin/env python3\n" + Path("lzma.zip").read_bytes()


KINDS: dict[str, Callable[[], bytes]] = {
    "several machines": several_machines,
    "LZMA": packed_otherwise,
    "32-bit x86": lambda: make_elf(machine=3, bits=32),
    "object file": lambda: make_elf(kind=1),
    "text": lambda: b"text",
    "no program headers": lambda: make_elf()[:56] + bytes(2) + make_elf()[58:],
    "a wheel": lambda: make_zipapp({"package/module.py": b""}, shebang=b""),
    "somebody's comment": lambda: make_zipapp(comment=b"hello"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_device_takes_is_refused_by_every_command(run: Run, app: Path, kind: str) -> None:
    data = KINDS[kind]()
    app.write_bytes(data)
    assert run("embed", "app", "--version", "1.0.0").status == 1
    assert app.read_bytes() == data
    assert run("inspect", "app", "--json").json["problems"]
    for command in (
        ["sign", "--key-file", "owner"],
        ["verify", "--public-key", PUBLIC],
        ["seed", "--public-key", PUBLIC, "--bootstrap", "", "--for", "2"],
        ["adopt", "nowhere/app"],
    ):
        name, *options = command
        outcome = run(name, "app", *options)
        assert outcome.status == 1, outcome
        assert app.read_bytes() == data
        assert "pypatcher embed'" not in outcome.err or name == "adopt"


def test_no_signed_file_verifies_that_every_device_refuses(run: Run, app: Path) -> None:
    """As older versions signed them."""
    app.write_bytes(several_machines()[:-2] + b"\xb0\x00" + template(Version(1, 0, 0)))
    sign_file(app, PAIR, None, None, any_machine=True)
    outcome = run("verify", "app", "--public-key", PUBLIC)
    assert outcome.status == 1
    assert "one file for each target" in outcome.err
    assert run("verify", "app", "--public-key", PUBLIC, "--any").status == 0


def test_a_32_bit_x86_program_is_signed_if_somebody_insists(run: Run, app: Path) -> None:
    app.write_bytes(with_section(machine=3, bits=32))
    assert "no device takes it" in run("sign", "app", "--key-file", "owner").err
    assert run("sign", "app", "--key-file", "owner", "--any").status == 0


def test_embed_and_sign_do_not_send_people_to_each_other(run: Run, app: Path) -> None:
    app.write_bytes(with_tail() + b"appended later")
    said = [run("sign", "app", "--key-file", "owner").err, run("embed", "app", "--version", "1.0.0").err]
    assert all("at offset" in line and "'pypatcher " not in line for line in said)


def sign_into(stdout: Any, *, encoding: str = "utf-8", file: bytes = b"app") -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "pypatcher", "sign", file, "--key-file", "owner"]
    environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
    return subprocess.run(words, stdout=stdout, stderr=subprocess.PIPE, env=environment, check=False)


def test_a_name_that_stdout_cannot_show_is_signed_with_status_0(app: Path) -> None:
    name = "größe-\udcff".encode("utf-8", "surrogateescape")
    app.rename(os.fsdecode(name))
    done = sign_into(subprocess.PIPE, encoding="ascii", file=name)
    assert (done.returncode, done.stderr) == (0, b"")
    assert PUBLIC.encode() in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_what_is_done_is_said_to_be_done_though_stdout_is_full(app: Path) -> None:
    before = app.read_bytes()
    with Path("/dev/full").open("wb") as full:
        done = sign_into(full)
    assert app.read_bytes() != before
    assert done.returncode == 0
    assert b"it is done" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: with_section(kind=1), "object file"),
        (lambda: packed_otherwise()[:-2] + b"\xb0\x00" + template(Version(1, 0, 0)), "cannot import"),
        (lambda: several_machines()[:-2] + b"\xb0\x00" + template(Version(1, 0, 0)), "one file for each target"),
    ],
    ids=["object file", "LZMA", "several machines"],
)
def test_what_is_not_done_has_status_1_and_changes_nothing(
    run: Run, app: Path, make: Callable[[], bytes], said: str
) -> None:
    app.write_bytes(make())
    before, found = app.read_bytes(), app.stat()
    outcome = run("sign", "app", "--key-file", "owner")
    assert (outcome.status, outcome.out) == (1, "")
    assert said in outcome.err
    assert (app.read_bytes(), app.stat().st_ino) == (before, found.st_ino)


def test_gen_makes_all_keys_or_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from pypatcher.cli import gen
    from pypatcher.errors import KeyFileError

    made: list[Path] = []

    def write(path: Path, *rest: Any) -> None:
        if len(made) == 2:
            raise KeyFileError("the disk is full")
        write_key_file(path, *rest)
        made.append(path)

    monkeypatch.setattr(gen, "write_key_file", write)
    assert run("gen", "keys", "--all-targets").status == 1
    assert list(Path("keys").iterdir()) == []


def test_gen_says_that_a_key_is_for_one_target(run: Run) -> None:
    assert "devices of ONE target" in run("gen", "owner.key").out
    assert "ONE target" not in run("gen", "keys", "--all-targets").out


def test_a_public_key_signs_nothing(run: Run, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEASE_KEY", PUBLIC)
    outcome = run("sign", "app", "--key-env", "RELEASE_KEY")
    assert outcome.status == 1
    assert "the public key instead of the secret one" in outcome.err
    Path("secret").write_text(PUBLIC)
    assert "the public key instead" in run("sign", "app", "--key-file", "secret").err
    outcome = run("sign", "app", "--key-file", "owner.pub")
    assert "holds a public key, which signs nothing: give the secret key's file, owner" in outcome.err
    assert app.read_bytes() == with_section("1.2.3")


def test_a_secret_key_like_a_public_one_signs_with_its_public_half(run: Run, app: Path) -> None:
    seed = next(bytes([number] * 32) for number in range(256) if looks_public(bytes([number] * 32)))
    pair = KeyPair.from_seed(seed)
    Path("odd").write_text(encode_key(seed))
    assert run("sign", "app", "--key-file", "odd").status == 1
    assert run("sign", "app", "--key-file", "odd", "--public-key", PUBLIC).status == 1
    assert run("sign", "app", "--key-file", "odd", "--public-key", encode_key(pair.public)).status == 0
    Path("odd.pub").write_text(f"any {encode_key(pair.public)}\n")
    assert run("sign", "app", "--key-file", "odd").status == 0
    assert not any(looks_public(KeyPair.generate().seed) for _ in range(200))


def test_only_the_key_that_was_meant_signs(run: Run, app: Path) -> None:
    other = encode_key(KeyPair.generate().public)
    assert "not that of --public-key" in run("sign", "app", "--key-file", "owner", "--public-key", other).err
    assert run("sign", "app", "--key-file", "owner", "--public-key", PUBLIC).status == 0


def test_a_key_file_that_others_can_read_is_warned_of(run: Run, app: Path) -> None:
    assert run("sign", "app", "--key-file", "owner").err == ""
    Path("owner").chmod(0o644)
    outcome = run("sign", "app", "--key-file", "owner")
    assert outcome.status == 0
    assert "owner can be read by other users: chmod 600 it" in outcome.err
    assert "chmod 600 it" in run("rollout", "app.manifest", "--hold", "--key-file", "owner").err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[:-1], "it has 51 characters, and a key has 52"),
        (lambda text: text + "y", "it has 53 characters"),
        (lambda text: text[:4] + "l" + text[5:], "its character 5 is no character of z-base-32: a typo?"),
        (lambda text: text[:4] + text[4:].upper(), "is a capital letter: a typo?"),
        (lambda text: text[:-1] + "b", "its last character cannot be one of a key"),
    ],
)
def test_a_typo_is_told_from_a_wrong_length_and_nothing_is_quoted(
    run: Run, app: Path, change: Callable[[str], str], words: str
) -> None:
    secret = change(encode_key(PAIR.seed))
    Path("owner").write_text(secret)
    outcome = run("sign", "app", "--key-file", "owner")
    assert outcome.status == 1
    assert words in outcome.err
    assert secret[6:20] not in outcome.err


@pytest.mark.parametrize("command", ["inspect", "sign", "embed", "verify", "verify --scan", "seed", "adopt", "status"])
def test_a_sparse_file_of_2_terabytes_is_told_at_once(run: Run, app: Path, command: str) -> None:
    app.write_bytes(make_elf())
    os.truncate("app", 2 << 40)
    name, *options = command.split()
    rest = {
        "sign": ["--key-file", "owner"],
        "embed": ["--version", "1.0.0"],
        "verify": ["--public-key", PUBLIC],
        "seed": ["--public-key", PUBLIC, "--bootstrap", ""],
        "adopt": ["nowhere/app"],
    }.get(name, [])
    words = [sys.executable, "-m", "pypatcher", name, "app", *options, *rest]
    # Reading it would take hours; the limit is a hundred times what the command needs.
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == (0 if name == "inspect" else 1)
    assert ("gets no updates" if name == "status" else "a signed file may have at most") in done.stdout + done.stderr


def test_a_program_of_2_terabytes_of_nothing_is_not_read(app: Path) -> None:
    app.write_bytes(b"")
    os.truncate("app", 2 << 40)
    words = [sys.executable, "-m", "pypatcher", "status", "app"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1
    assert "gets no updates" in done.stdout
