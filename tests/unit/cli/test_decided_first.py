"""Commands that replace something decide first and replace last: a refusal has changed nothing."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pypatcher.artifact import beside, sign_file
from pypatcher.artifact.beside import manifest_path, read_steps, write_manifest
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.cli import first_word as beside_the_file
from pypatcher.errors import CannotReplaceError
from pypatcher.install import Installation
from pypatcher.keys import KeyPair, encode_key, write_key_file
from pypatcher.node.device import own_target
from tests.support.devices import compile_app
from tests.support.programs import make_elf, with_section

Run = Callable[..., Any]
PAIR = KeyPair.from_seed(bytes(range(32)))
SIGN = ("sign", "app", "--key-file", "owner")


@pytest.fixture
def app(run: Run) -> Path:
    """An unsigned program and the key ``owner``, in the current folder."""
    Path("app").write_bytes(with_section("1.2.3"))
    write_key_file(Path("owner"), PAIR)
    return Path("app")


def everything() -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in Path().iterdir()}


def fail(*_: object, **_named: object) -> None:
    raise CannotReplaceError("no space left")


def test_a_manifest_that_contradicts_leaves_the_file_unsigned(run: Run, app: Path) -> None:
    unsigned = app.read_bytes()
    assert run(*SIGN, "--hold").status == 0
    app.write_bytes(unsigned)
    before = everything()
    refused = run(*SIGN, "--share", "25%", "--no-stable")
    assert (refused.status, refused.out) == (1, "")
    assert "app is not signed: app.manifest is there and says: version 1.2.3" in refused.err
    assert everything() == before
    assert run(*SIGN, "--share", "25%", "--no-stable", "--out", "copy").status == 0  # beside which nothing lies
    assert run(*SIGN, "--hold").status == 0


def test_terms_that_no_device_follows_leave_the_file_unsigned(run: Run, app: Path) -> None:
    Path("newer").write_bytes(with_section("1.3.0"))
    assert run("sign", "newer", "--key-file", "owner").status == 0
    before = everything()
    refused = run(*SIGN, "--stable", "newer")
    assert refused.status == 1
    assert "app is not signed: the manifest would hold its own release: 'stable' is out of range" in refused.err
    assert everything() == before


def test_a_file_signed_without_its_manifest_is_said_to_be(run: Run, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned = app.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(beside_the_file, "write_manifest", fail)
        failed = run(*SIGN)
    assert failed.status == 1
    assert "the file IS signed, but no manifest says who may take it: no space left" in failed.err
    assert app.read_bytes() != unsigned
    assert run(*SIGN).status == 0
    assert Path("app.manifest").exists()


def test_embed_does_not_fail_by_what_it_only_remarks_on(run: Run, app: Path) -> None:
    with zipfile.ZipFile("some.zip", "w") as archive:
        archive.writestr("member", "1")
        archive.infolist()[0].header_offset = 1 << 31  # it lies outside of the file
    app.write_bytes(make_elf() + Path("some.zip").read_bytes())
    embedded = run("embed", "app", "--version", "1.0.0", "--carrier", "tail", "--json")
    assert (embedded.status, embedded.err) == (0, "")
    assert embedded.json["fixed_order"] is None


def test_steps_are_never_there_without_their_brake(run: Run, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(*SIGN).status == 0
    words = ("rollout", "app.manifest", "--key-file", "owner", "--no-stable", "--steps")
    write = beside.write_file

    with monkeypatch.context() as patched:

        def full_after_one(path: Path, *rest: Any, **named: Any) -> None:
            write(path, *rest, **named)
            patched.setattr(beside, "write_file", fail)

        patched.setattr(beside, "write_file", full_after_one)
        assert run(*words, "1%,10%").status == 1
    assert (Path("app.hold").exists(), Path("app.steps").exists()) == (True, False)
    before = everything()
    assert "64 at most" in run(*words, ",".join(f"{share}%" for share in range(1, 66))).err  # what `publish` reads
    assert everything() == before
    assert run(*words, ",".join(f"{share}%" for share in range(1, 65))).status == 0
    assert len(read_steps(Path("app.steps"))) == 64


def test_adopt_keeps_the_manifest_that_it_looked_at(run: Run, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = own_target(Path(sys.executable), Path(sys.executable))
    release = compile_app(Path("new"), "1.0.0")
    info = sign_file(release, PAIR, None, target)
    write_manifest(manifest_path(release), first_word(PAIR, info, [target.name], Change()), replace=True)
    adopt = Installation.adopt

    def meanwhile(self: Installation, source: int) -> Any:
        manifest_path(release).write_text("another command writes")
        return adopt(self, source)

    monkeypatch.setattr(Installation, "adopt", meanwhile)
    Path("opt").mkdir()
    public = encode_key(PAIR.public)
    assert run("adopt", release, "opt/app", "--public-key", public).status == 0
    assert (Path("opt/.app.pypatcher") / f"manifest-{public[:16]}").exists()
