"""Making keys: never over a file, the secret nowhere but in it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pypatcher.keys import decode_key, encode_key, read_key_file, read_public_file
from pypatcher.targets import load_targets

Run = Callable[..., Any]


def test_a_key_and_its_public_half_are_written(run: Run) -> None:
    outcome = run("gen", "owner.key")
    pair = read_key_file(Path("owner.key"))
    assert outcome.status == 0
    assert stat.S_IMODE(Path("owner.key").stat().st_mode) == 0o600
    assert read_public_file(Path("owner.key.pub")) == ("any", pair.public)
    assert f"public key: {encode_key(pair.public)}\n" in outcome.out
    assert f'@pypatcher.public_key("{encode_key(pair.public)}")' in outcome.out
    assert "this one program only" in outcome.out
    assert Path("owner.key").read_text() not in outcome.out
    assert len(Path("owner.key").read_text()) == 52


def test_a_key_for_a_target_says_so(run: Run) -> None:
    outcome = run("gen", "k", "--target", "armv7", "--json")
    [made] = outcome.json["keys"]
    assert (made["target"], made["path"]) == ("armv7", "k")
    assert outcome.json["paste"] == f'@pypatcher.public_key(armv7="{made["public_key"]}")'
    assert read_public_file(Path("k.pub")) == ("armv7", decode_key(made["public_key"], "it"))


def test_all_targets_get_a_key_each(run: Run) -> None:
    outcome = run("gen", "keys", "--all-targets", "--json")
    made = {key["target"]: key for key in outcome.json["keys"]}
    assert set(made) == set(load_targets())
    assert len({key["public_key"] for key in made.values()}) == len(made)
    for name, key in made.items():
        assert read_public_file(Path(f"keys/{name}.key.pub"))[0] == name
        assert f'{name}="{key["public_key"]}"' in outcome.json["paste"]
    assert stat.S_IMODE(Path("keys").stat().st_mode) == 0o700


def test_nothing_is_ever_overwritten(run: Run) -> None:
    for existing in ("a", "b.pub", "keys/armv7.key"):
        Path(existing).parent.mkdir(exist_ok=True)
        Path(existing).write_text("mine")
    for arguments in (("a",), ("b",), ("keys", "--all-targets")):
        outcome = run("gen", *arguments)
        assert outcome.status == 1
        assert "never overwritten" in outcome.err
    assert {path.name for path in Path.cwd().rglob("*") if path.is_file()} == {"a", "b.pub", "armv7.key"}
    assert Path("a").read_text() == "mine"


def test_no_secret_key_gets_the_name_of_a_public_one(run: Run) -> None:
    outcome = run("gen", "owner.pub")
    assert outcome.status == 1
    assert "choose a name without .pub" in outcome.err
    assert not list(Path().iterdir())


def test_a_folder_that_is_missing_is_told(run: Run) -> None:
    outcome = run("gen", "nowhere/k")
    assert outcome.status == 1
    assert "cannot write nowhere/k" in outcome.err
