"""embed, sign, verify, inspect and include, from a key to a verdict."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pypatcher.artifact.builds import FIXED_ORDER_MODULE
from pypatcher.artifact.region import REGION_SIZE
from pypatcher.keys import KeyPair, encode_key, write_key_file
from tests.support.programs import (
    AARCH64,
    VECTORS,
    bundle,
    make_elf,
    modules,
    vector_file,
    with_comment,
    with_section,
    with_tail,
)

Run = Callable[..., Any]
SEED = bytes(range(32))
PAIR = KeyPair.from_seed(SEED)
PUBLIC = encode_key(PAIR.public)


@pytest.fixture
def app(run: Run) -> Path:
    """An unsigned program and the key ``owner`` for its target, in the current folder."""
    path = Path("app")
    path.write_bytes(with_section("1.2.3"))
    write_key_file(Path("owner"), PAIR, "x86_64")
    return path


def test_a_finished_program_is_embedded_signed_and_verified(run: Run, app: Path) -> None:
    app.write_bytes(make_elf())
    embedded = run("embed", "app", "--version", "1.4.0", "--json").json
    assert (embedded["carrier"], embedded["version"]) == ("section", "1.4.0")
    signed = run("sign", "app", "--key-file", "owner", "--json").json
    assert (signed["version"], signed["target"], signed["fits"], signed["public_key"]) == (
        "1.4.0",
        "x86_64",
        ["x86_64"],
        PUBLIC,
    )
    verified = run("verify", "app", "--public-key", PUBLIC, "--target", "x86_64", "--json").json
    assert verified["verifies"] is True
    assert (verified["version"], verified["carrier"], verified["offset"]) == ("1.4.0", "section", embedded["offset"])


def test_people_read_the_same_in_words(run: Run, app: Path) -> None:
    app.write_bytes(make_elf())
    assert "region for version 1.4.0 at" in run("embed", "app", "--version", "1.4.0").out
    signed = run("sign", "app", "--key-file", "owner").out.splitlines()
    assert signed[0] == f"app: version 1.4.0, target x86_64, signed by {PUBLIC}"
    assert f"app: version 1.4.0, signed by {PUBLIC}, for x86_64" in run("verify", "app", "--public-key", PUBLIC).out


def test_a_key_is_read_with_or_without_newline_and_from_a_variable(
    run: Run, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("owner").write_text(encode_key(SEED) + "\n")
    first = run("sign", "app", "--key-file", "owner", "--json").json
    for text in (encode_key(SEED), encode_key(SEED) + "\n"):
        monkeypatch.setenv("RELEASE_KEY", text)
        again = run("sign", "app", "--key-env", "RELEASE_KEY", "--target", "x86_64", "--json").json
        assert again == first


def test_without_a_target_it_says_that_none_was_checked(run: Run, app: Path) -> None:
    Path("owner.pub").unlink()
    outcome = run("sign", "app", "--key-file", "owner")
    assert outcome.status == 0
    assert "target any (the file fits " in outcome.out


@pytest.mark.parametrize("text", [encode_key(SEED), encode_key(SEED).upper(), encode_key(SEED)[1:]])
@pytest.mark.parametrize("option", ["--key-file", "--key-env"])
def test_a_key_in_argv_is_refused_and_never_repeated(run: Run, app: Path, option: str, text: str) -> None:
    outcome = run("sign", "app", option, text)
    assert outcome.status == 2
    assert "never goes on the command line" in outcome.err
    assert text not in outcome.err + outcome.out


def test_a_key_where_a_file_belongs_is_not_repeated_either(run: Run, app: Path) -> None:
    outcome = run("sign", "app", encode_key(SEED), "--key-file", "owner")
    assert outcome.status == 2
    assert encode_key(SEED) not in outcome.err


def test_signing_never_makes_a_key(run: Run, app: Path) -> None:
    before = app.read_bytes()
    outcome = run("sign", "app", "--key-file", "missing")
    assert outcome.status == 1
    assert "cannot read missing" in outcome.err
    assert run("sign", "app", "--key-env", "NOT_SET").status == 2
    assert sorted(path.name for path in Path().iterdir()) == ["app", "owner", "owner.pub"]
    assert app.read_bytes() == before


def test_files_for_another_target_than_the_key_s_are_refused(run: Run, app: Path) -> None:
    app.write_bytes(with_section(machine=AARCH64))
    outcome = run("sign", "app", "--key-file", "owner")
    assert outcome.status == 1
    assert "app is not signed: the program is not for target x86_64: it is built for AArch64" in outcome.err
    assert "other key" in run("sign", "app", "--key-file", "owner", "--target", "aarch64").err
    Path("owner.pub").write_text(f"any {PUBLIC}\n")
    assert run("sign", "app", "--key-file", "owner", "--target", "armv7").status == 1
    assert run("sign", "app", "--key-file", "owner", "--target", "aarch64").status == 0


def test_a_public_file_of_another_key_is_refused(run: Run, app: Path) -> None:
    Path("owner.pub").write_text(f"x86_64 {VECTORS['keys'][1]['public_z32']}\n")
    outcome = run("sign", "app", "--key-file", "owner")
    assert outcome.status == 1
    assert "owner.pub is not of the key" in outcome.err


@pytest.mark.parametrize("version", ["1", "1.2.3-rc1", "8192.0.0", "1.16384.0", "-1.0.0"])
def test_versions_that_cannot_be_announced_are_wrong_use(run: Run, app: Path, version: str) -> None:
    for command in (["sign", "--key-file", "owner"], ["embed"]):
        assert run(command[0], "app", f"--version={version}", *command[1:]).status == 2


def test_another_key_or_a_changed_byte_does_not_verify(run: Run, app: Path) -> None:
    run("sign", "app", "--key-file", "owner")
    other = VECTORS["keys"][1]["public_z32"]
    outcome = run("verify", "app", "--public-key", other)
    assert outcome.status == 1
    assert "app does not verify: version 1.2.3 is not signed" in outcome.err
    data = bytearray(app.read_bytes())
    data[70] ^= 1
    app.write_bytes(data)
    assert run("verify", "app", "--public-key", PUBLIC).status == 1
    assert run("verify", "app", "--public-key", "short").status == 2


@pytest.mark.parametrize(
    "vector", VECTORS["files"], ids=lambda vector: f"{vector['version']}-{vector['region_offset']}"
)
def test_any_file_of_the_rust_program_verifies_by_scan_alone(run: Run, vector: dict[str, Any]) -> None:
    Path("rust").write_bytes(vector_file(vector))
    public = encode_key(KeyPair.from_seed(bytes.fromhex(vector["owner_seed"])).public)
    assert run("verify", "rust", "--public-key", public).status == 1
    found = run("verify", "rust", "--public-key", public, "--scan", "--json").json
    assert (found["version"], found["offset"]) == (vector["version"], vector["region_offset"])
    assert (found["hash"], found["size"]) == (vector["hash"], int(vector["size"]))
    assert "where no device" in run("verify", "rust", "--public-key", public, "--scan").out


def test_a_scan_needs_exactly_one_region(run: Run, app: Path) -> None:
    Path("none").write_bytes(b"x")
    Path("two").write_bytes(with_tail() + with_tail())
    for name in ("none", "two"):
        outcome = run("verify", name, "--public-key", PUBLIC, "--scan")
        assert outcome.status == 1
        assert "regions instead of one" in outcome.err


@pytest.mark.parametrize(
    ("make", "carrier"), [(with_section, "section"), (with_tail, "tail"), (with_comment, "comment")]
)
def test_inspect_shows_everything(run: Run, app: Path, make: Callable[[], bytes], carrier: str) -> None:
    app.write_bytes(make())
    before = run("inspect", "app", "--json").json
    assert (before["carrier"], before["version"], before["intact"]) == (carrier, "1.2.3", None)
    assert before["problems"] == ["its region is not signed yet"]
    run("sign", "app", "--key-file", "owner")
    after = run("inspect", "app", "--public-key", PUBLIC, "--json").json
    assert (after["intact"], after["signed_by_owner"], after["problems"]) == (True, True, [])
    assert after["regions"] == [after["offset"]]
    assert "x86_64" in after["targets"]
    text = run("inspect", "app").out
    assert re.search(r"^intact +yes$", text, re.MULTILINE)
    assert run("inspect", "app", "--public-key", VECTORS["keys"][1]["public_z32"], "--json").json["intact"] is True


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "neither an ELF program nor a zipapp"),
        (make_elf(), "carries no signature region"),
        (with_section()[:-1], "cannot be told"),
        (with_tail() + with_tail(), "2 regions"),
        (with_section() + b"x", "not signed yet"),
    ],
)
def test_inspect_names_every_problem_and_still_answers(run: Run, app: Path, data: bytes, problem: str) -> None:
    app.write_bytes(data)
    outcome = run("inspect", "app", "--json")
    assert outcome.status == 0
    assert problem in " ".join(outcome.json["problems"])
    assert problem in run("inspect", "app").out


def test_a_section_s_name_cannot_steer_the_terminal(run: Run, app: Path) -> None:
    app.write_bytes(make_elf(sections=(("\x1b[2J", 1, b"x"),)))
    assert "\x1b" not in run("inspect", "app").out
    assert "\x1b" not in run("inspect", "app", "--json").out


@pytest.mark.parametrize("fixed", [True, False])
def test_embed_says_when_a_onefile_was_built_in_no_order(run: Run, tmp_path: Path, fixed: bool) -> None:
    names = ["pypatcher.version", *([FIXED_ORDER_MODULE] if fixed else [])]
    (tmp_path / "bundle").write_bytes(bundle({"PYZ.pyz": modules(dict.fromkeys(names, b"code"))})[:-REGION_SIZE])
    outcome = run("embed", "bundle", "--version", "1.0.0", "--carrier", "tail", "--json")
    assert outcome.status == 0
    assert outcome.json["fixed_order"] is fixed
    assert ("PYTHONHASHSEED=0" in outcome.err) is not fixed


def test_refusals_to_embed_say_what_to_do(run: Run, app: Path) -> None:
    outcome = run("embed", "app", "--version", "1.0.0")
    assert outcome.status == 1
    assert "carries a region already" in outcome.err
    assert "pypatcher sign" in outcome.err


def test_include_prints_where_the_header_is(run: Run) -> None:
    folder = run("include").out.strip()
    assert (Path(folder) / "pypatcher.h").is_file()
    assert run("include", "--cflags").out.strip() == f"-I{folder}"


def test_embed_and_sign_leave_the_file_as_it_is_where_out_is_given(run: Run, app: Path) -> None:
    plain = Path("plain")
    plain.write_bytes(make_elf())
    plain.chmod(0o755)
    before = plain.read_bytes()
    assert run("embed", "plain", "--version", "2.0.0", "--out", "embedded").status == 0
    assert run("verify", "embedded", "--public-key", PUBLIC).err.endswith(
        "does not verify: it is not signed yet: use 'pypatcher sign'\n"
    )
    outcome = run("sign", "embedded", "--key-file", "owner", "--out", "signed", "--json")
    assert (outcome.status, outcome.json["file"]) == (0, "signed")
    assert plain.read_bytes() == before
    assert Path("signed").stat().st_mode & 0o777 == 0o755
    assert run("verify", "signed", "--public-key", PUBLIC).status == 0
    again = run("sign", "signed", "--key-file", "owner", "--out", "copy")
    assert again.status == 0
    assert Path("copy").read_bytes() == Path("signed").read_bytes()


@pytest.mark.parametrize("command", ["embed plain --version 2.0.0", "sign app --key-file owner"])
def test_what_is_no_program_is_replaced_by_none(run: Run, app: Path, command: str) -> None:
    Path("plain").write_bytes(make_elf())
    Path("reserved").touch()
    for name in ("owner", "owner.pub"):
        before = Path(name).read_bytes()
        outcome = run(*command.split(), "--out", name)
        assert outcome.status == 1
        assert f"cannot replace {name}: it is there, and is no program" in outcome.err
        assert Path(name).read_bytes() == before
    for name in ("new", "reserved", "plain"):
        assert run(*command.split(), "--out", name).status == 0


def test_a_result_that_cannot_be_written_leaves_nothing(run: Run, app: Path) -> None:
    outcome = run("sign", "app", "--key-file", "owner", "--out", "missing/app")
    assert outcome.status == 1
    assert "cannot write beside missing/app" in outcome.err
