"""The owner's word at the desk: what ``sign`` writes, what ``rollout`` changes, and what other commands say of it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pypatcher.artifact.beside import read_manifest, read_steps, write_manifest
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.opened import stated_opened_root
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.artifact.terms import ALL, Hold
from pypatcher.artifact.tree import stated_root
from pypatcher.errors import ManifestError
from pypatcher.keys import KeyPair, encode_key, write_key_file
from tests.support.opened_reference import some_text
from tests.support.programs import AARCH64, make_zipapp, with_section

Run = Callable[..., Any]
PAIR = KeyPair.from_seed(bytes(range(32)))
PUBLIC = encode_key(PAIR.public)
SIGN = ("sign", "app", "--key-file", "owner")
ROLLOUT = ("rollout", "app.manifest", "--key-file", "owner")


@pytest.fixture
def app(run: Run) -> Path:
    """An unsigned program and the key ``owner``, in the current folder."""
    Path("app").write_bytes(with_section("1.2.3"))
    write_key_file(Path("owner"), PAIR)
    return Path("app")


def manifest(name: str = "app.manifest") -> ManifestFile:
    found = read_manifest(Path(name))
    assert found is not None
    return found


def test_sign_says_who_may_take_it_and_writes_the_same_bytes_again(run: Run, app: Path) -> None:
    said = run(*SIGN)
    assert said.out.splitlines()[1] == "version 1.2.3, revision 0: all may take it, as soon as it runs anywhere"
    first = Path("app.manifest").read_bytes()
    assert run(*SIGN).out == said.out
    Path("app.manifest").unlink()
    run(*SIGN)
    assert Path("app.manifest").read_bytes() == first
    assert set(manifest().signatures) == {"x86_64"}


def test_the_word_states_the_trees_of_the_releases_that_it_names(run: Run, app: Path) -> None:
    def root(path: Path) -> bytes:
        with path.open("rb") as file:
            return stated_root(file.fileno())

    run(*SIGN)
    assert manifest().terms.trees == {b"tree": root(app)}
    old = app.rename("old")
    app.write_bytes(with_section("1.3.0"))
    run(*SIGN, "--share", "1%", "--stable", "old")
    assert manifest().terms.trees == {b"tree": root(app), b"stree": root(old)}
    run(*ROLLOUT, "--share", "2%")
    assert manifest().terms.trees == {b"tree": root(app), b"stree": root(old)}
    run(*ROLLOUT, "--share", "3%", "--no-stable")
    assert manifest().terms.trees == {b"tree": root(app)}


def test_streams_that_deflate_alike_are_stated_and_kept(run: Run, app: Path) -> None:
    app.write_bytes(app.read_bytes() + zlib.compress(some_text(5000, 1), 9))
    run(*SIGN)
    stated = manifest().terms.trees[b"otree"]
    with app.open("rb") as file:
        assert stated == stated_opened_root(file.fileno())
    run(*ROLLOUT, "--hold")
    assert manifest().terms.trees[b"otree"] == stated


@pytest.mark.parametrize("trees", ["none", "one"])
def test_a_manifest_of_before_trees_were_stated_is_the_same_word(run: Run, app: Path, trees: str) -> None:
    app.write_bytes(app.read_bytes() + zlib.compress(some_text(5000, 1), 9))
    run(*SIGN)
    word = manifest()
    tree = word.terms.trees[b"tree"] if trees == "one" else None
    before = first_word(PAIR, word.terms.info, ["x86_64"], Change(hold=Hold.HELD, tree=tree))
    write_manifest(Path("app.manifest"), before, replace=True)
    assert run(*SIGN, "--hold").status == 0
    assert manifest() == before


def test_sign_never_touches_a_manifest_of_the_same_release(run: Run, app: Path) -> None:
    run(*SIGN, "--hold")
    run(*ROLLOUT, "--share", "1%", "--no-stable")
    before = Path("app.manifest").read_bytes()
    assert run(*SIGN).status == 0
    refused = run(*SIGN, "--hold")
    assert refused.status == 1
    assert "rollout" in refused.err
    assert Path("app.manifest").read_bytes() == before


def test_the_manifest_of_an_older_release_is_kept_under_its_version(run: Run, app: Path) -> None:
    run(*SIGN)
    old = Path("app.manifest").read_bytes()
    app.write_bytes(with_section("1.3.0"))
    assert run(*SIGN).err == ""
    assert Path("app-1.2.3.manifest").read_bytes() == old
    assert str(manifest().terms.info.version) == "1.3.0"


def test_another_build_of_a_version_is_signed_with_a_warning(run: Run, app: Path) -> None:
    run(*SIGN)
    app.write_bytes(with_section("1.2.3") + b"\0")
    assert "sign a higher version" in run(*SIGN).err


def test_a_share_asks_what_the_others_may_take(run: Run, app: Path) -> None:
    assert run(*SIGN, "--share", "1%").status == 2
    assert run(*SIGN, "--share", "1%", "--no-stable").status == 0
    assert run(*ROLLOUT, "--share", "5%").status == 2
    assert run(*ROLLOUT, "--share", "5%", "--no-stable").status == 0
    assert run(*ROLLOUT, "--steps", "5%,all").status == 2
    assert manifest().terms.share == 500


def test_no_manifest_writes_none(run: Run, app: Path) -> None:
    assert run(*SIGN, "--no-manifest").out.count("\n") == 1
    assert not Path("app.manifest").exists()
    assert run(*SIGN, "--no-manifest", "--no-stable").status == 2


@pytest.mark.parametrize(
    ("words", "hold", "share"),
    [
        (("--hold",), Hold.HELD, 2500),
        (("--recall",), Hold.RECALLED, 2500),
        (("--go",), Hold.GO_ON, 2500),
        (("--open",), Hold.GO_ON, ALL),
        (("--share", "50%", "--no-stable"), Hold.GO_ON, 5000),
        (("--note", "try it"), Hold.HELD, 2500),
    ],
)
def test_rollout_writes_the_next_revision(run: Run, app: Path, words: tuple[str, ...], hold: Hold, share: int) -> None:
    run(*SIGN, "--share", "25%", "--no-stable")
    run(*ROLLOUT, "--hold")
    said = run(*ROLLOUT, *words)
    assert said.status == 0, said.err
    assert said.out.startswith("before: version 1.2.3, revision 1: nobody takes it now")
    terms = manifest().terms
    assert (manifest().revision, terms.hold, terms.share) == (2, hold, share)


def test_steps_and_their_brake_are_signed_ahead(run: Run, app: Path) -> None:
    run(*SIGN, "--hold")
    said = run(*ROLLOUT, "--steps", "1%,10%,all", "--no-stable", "--json")
    steps, brake = read_steps(Path("app.steps")), manifest("app.hold")
    assert [step.terms.share for step in steps] == [100, 1000, ALL]
    assert [step.revision for step in steps] == [1, 2, 3] == [seq % 4096 for seq in json.loads(said.out)["seqs"]]
    assert (brake.revision, brake.terms.hold) == (256, Hold.HELD)
    assert manifest().revision == 0


@pytest.mark.parametrize("damage", [b"", b"le", b"l3:abce", b"de", b"i1e"])
def test_damaged_steps_are_refused(run: Run, app: Path, damage: bytes) -> None:
    Path("app.steps").write_bytes(damage)
    with pytest.raises(ManifestError):
        read_steps(Path("app.steps"))


def test_stable_is_an_older_release_of_the_same_owner(run: Run, app: Path) -> None:
    run(*SIGN)
    Path("old").write_bytes(app.read_bytes())
    app.write_bytes(with_section("2.0.0"))
    said = run(*SIGN, "--share", "first", "--stable", "old")
    assert said.status == 0, said.err
    assert "; the others may take 1.2.3" in said.out
    assert run(*ROLLOUT, "--stable", "app").status == 1


def test_must_names_what_devices_have_to_understand(run: Run, app: Path) -> None:
    run(*SIGN, "--must", "share,stable")
    assert manifest().terms.keys[b"must"] == [b"share", b"stable"]
    assert manifest().terms.hold is Hold.GO_ON
    run(*ROLLOUT, "--steps", "1%,all", "--no-stable")
    assert [step.terms.keys.get(b"must") for step in read_steps(Path("app.steps"))] == [[b"share", b"stable"]] * 2
    run(*ROLLOUT, "--must", "note")
    assert manifest().terms.keys[b"must"] == [b"note"]
    run(*ROLLOUT, "--must", "")
    assert b"must" not in manifest().terms.keys
    assert "no key 'sharks' that this version knows" in run(*ROLLOUT, "--must", "sharks").err
    assert "leave --stable, --no-stable and --must away" in run(*SIGN, "--no-manifest", "--must", "share").err


def test_above_brings_a_lost_manifest_to_the_networks_seq(run: Run, app: Path) -> None:
    run(*SIGN)
    seq = manifest().seq
    assert run(*ROLLOUT, "--hold", "--above", seq + 7).status == 2
    assert run(*ROLLOUT, "--open", "--no-stable", "--above", seq + 7).status == 0
    assert manifest().seq == seq + 8


def test_only_the_owners_key_changes_his_word(run: Run, app: Path) -> None:
    run(*SIGN)
    write_key_file(Path("other"), KeyPair.generate())
    refused = run("rollout", "app.manifest", "--key-file", "other", "--open")
    assert refused.status == 1
    assert "is not the key" in refused.err
    assert run("rollout", "none.manifest", "--key-file", "owner", "--open").status == 1
    assert run(*ROLLOUT).status == 2


def test_verify_and_inspect_read_it(run: Run, app: Path) -> None:
    run(*SIGN, "--hold")
    verified = run("verify", "app", "--public-key", PUBLIC)
    assert verified.out.splitlines()[1].startswith("version 1.2.3, revision 0: nobody takes it now")
    assert json.loads(run("verify", "app", "--public-key", PUBLIC, "--json").out)["manifest"]["seq"] == manifest().seq
    assert "nobody takes it now" in run("inspect", "app").out
    Path("app.manifest").write_bytes(Path("app.manifest").read_bytes()[:-5])
    assert run("verify", "app", "--public-key", PUBLIC).status == 1
    assert run("inspect", "app").status == 0
    Path("app.manifest").unlink()
    app.write_bytes(with_section("1.3.0"))
    run(*SIGN)
    Path("app.manifest").rename("kept")
    app.write_bytes(with_section("1.4.0"))
    run(*SIGN, "--no-manifest")
    Path("kept").rename("app.manifest")
    assert "of version 1.3.0" in run("verify", "app", "--public-key", PUBLIC).err


def test_each_target_has_a_manifest_of_its_own(run: Run, app: Path) -> None:
    Path("other").write_bytes(with_section("1.2.3", machine=AARCH64))
    run(*SIGN)
    run("sign", "other", "--key-file", "owner", "--hold")
    run(*ROLLOUT, "--note", "both")
    assert (set(manifest().signatures), set(manifest("other.manifest").signatures)) == ({"x86_64"}, {"aarch64"})
    assert (manifest().terms.hold, manifest("other.manifest").terms.hold) == (Hold.GO_ON, Hold.HELD)


def test_a_zipapp_has_one_for_every_target_that_it_fits(run: Run, app: Path) -> None:
    Path("app.pyz").write_bytes(make_zipapp({"__main__.py": b"print()"}))
    assert run("embed", "app.pyz", "--version", "1.2.3").status == 0
    assert run("sign", "app.pyz", "--key-file", "owner").status == 0
    found = manifest("app.pyz.manifest")
    assert set(found.signatures) >= {"x86_64", "aarch64", "armv7"}
    assert all(found.for_target(target) is not None for target in found.signatures)


def test_an_old_build_under_a_higher_version_is_a_new_release(run: Run, app: Path) -> None:
    Path("old-build").write_bytes(app.read_bytes())
    run("sign", "old-build", "--key-file", "owner")
    app.write_bytes(with_section("1.3.0"))
    run(*SIGN)
    said = run("sign", "old-build", "--version", "1.3.1", "--key-file", "owner")
    assert said.status == 0
    assert manifest("old-build.manifest").seq > manifest().seq
    assert run("verify", "old-build", "--public-key", PUBLIC).out.splitlines()[1].startswith("version 1.3.1")
