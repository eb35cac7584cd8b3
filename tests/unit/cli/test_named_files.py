"""Commands that write to a file that a person names: over nothing but what they make, by one rule for all of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pypatcher.keys import KeyPair, encode_key, write_key_file
from tests.support.programs import make_elf, with_section

Run = Callable[..., Any]
PAIR = KeyPair.from_seed(bytes(range(32)))
PUBLIC = encode_key(PAIR.public)
COMMANDS = {
    "embed": "embed plain --version 2.0.0 --out NAME",
    "sign": "sign app --key-file owner --out NAME",
    "fetch": f"fetch --public-key {PUBLIC} --target x86_64 --timeout 1 --bootstrap= --out NAME",
    "unit": "unit --out NAME --offline /opt/app/app",
    "lookup": f"lookup --public-key {PUBLIC} --save NAME",
}
"""Each is to say it before anything else happens: fetch and lookup find no network here."""
NO_PROGRAMS = ("a secret key", "a public key", "a text", "a pipe", "a folder", "a link to a key")
OTHERS = {
    "fetch": ("a program", "another owner's release"),
    "unit": ("a program", "a unit by hand"),
    "lookup": ("a program",),
}


def put(what: str, name: str) -> Path:
    """Such a thing of that name; returns the file in which it must be as it was."""
    path = Path(name)
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a folder":
        path.mkdir()
    elif what == "a link to a key":
        path.symlink_to("owner")
        return Path("owner")
    elif what == "another owner's release":
        shutil.copy("others", path)
    elif what.endswith("key"):
        shutil.copy("owner.pub" if "public" in what else "owner", path)
    elif what == "a program":
        path.write_bytes(make_elf())
    else:
        path.write_text("[Unit]\nDescription=mine\n" if "unit" in what else "precious\n")
    return path


@pytest.fixture
def desk(run: Run) -> Path:
    """A folder with a key, programs with and without a region, and a release of somebody else's."""
    Path("app").write_bytes(with_section("1.2.3"))
    Path("plain").write_bytes(make_elf())
    Path("others").write_bytes(with_section("1.0.0"))
    write_key_file(Path("owner"), PAIR, "x86_64")
    write_key_file(Path("another"), KeyPair.from_seed(bytes(32)), "x86_64")
    assert run("sign", "others", "--key-file", "another", "--no-manifest").status == 0
    return Path.cwd()


@pytest.mark.parametrize(
    ("command", "what"),
    [(command, what) for command in COMMANDS for what in (*NO_PROGRAMS, *OTHERS.get(command, ()))],
)
def test_nothing_else_is_written_over(run: Run, desk: Path, command: str, what: str) -> None:
    kept = put(what, "there")
    before = kept.read_bytes() if kept.is_file() else kept.stat()
    names = set(desk.iterdir())
    outcome = run(*COMMANDS[command].replace("NAME", "there").split())
    assert outcome.status == 1
    assert "there" in outcome.err
    assert ("move it away" in outcome.err) is kept.is_file()
    assert (kept.read_bytes() if kept.is_file() else kept.stat()) == before
    assert set(desk.iterdir()) == names


@pytest.mark.parametrize("command", ["embed", "sign", "unit"])
def test_what_the_command_made_before_is_written_over(run: Run, desk: Path, command: str) -> None:
    words = COMMANDS[command].replace("NAME", "there").split()
    Path("there").touch()
    assert run(*words).status == 0
    made = Path("there").read_bytes()
    Path("link").symlink_to("there")
    assert made
    assert run(*COMMANDS[command].replace("NAME", "link").split()).status == 0
    assert Path("link").is_symlink()
    assert Path("there").read_bytes() == made


@pytest.mark.parametrize("command", ["fetch", "sign"])
def test_no_other_manifest_file_is_written_over_beside_it(run: Run, desk: Path, command: str) -> None:
    Path("there.manifest").write_text("of an Android app")
    outcome = run(*COMMANDS[command].replace("NAME", "there").split())
    assert outcome.status == 1
    assert "there.manifest" in outcome.err
    assert Path("there.manifest").read_text() == "of an Android app"
    assert not Path("there").exists()


def test_an_older_releases_manifest_goes_over_nothing_else(run: Run, desk: Path) -> None:
    assert run("sign", "app", "--key-file", "owner").status == 0
    Path("app-1.2.3.manifest").write_text("precious")
    Path("app").write_bytes(with_section("1.2.4"))
    unsigned = Path("app").read_bytes()
    outcome = run("sign", "app", "--key-file", "owner")
    assert outcome.status == 1
    assert "app-1.2.3.manifest: it is there, and is no manifest" in outcome.err
    assert (Path("app-1.2.3.manifest").read_text(), Path("app").read_bytes()) == ("precious", unsigned)
    Path("app-1.2.3.manifest").unlink()
    assert run("sign", "app", "--key-file", "owner").status == 0
    assert Path("app-1.2.3.manifest").exists()


def test_the_brake_of_a_rollout_is_written_over_nothing_else(run: Run, desk: Path) -> None:
    assert run("sign", "app", "--key-file", "owner").status == 0
    Path("app.hold").write_text("precious")
    words = ["rollout", "app.manifest", "--steps", "1%,all", "--no-stable", "--key-file", "owner"]
    outcome = run(*words)
    assert outcome.status == 1
    assert "app.hold" in outcome.err
    assert Path("app.hold").read_text() == "precious"
    assert not Path("app.steps").exists()
    Path("app.hold").unlink()
    assert run(*words).status == 0
    assert run(*words).status == 0
    Path("app.steps").write_text("precious")
    outcome = run(*words)
    assert "app.steps: it is there, and is no list of steps" in outcome.err
    assert Path("app.steps").read_text() == "precious"
