"""What seed takes and refuses, before it opens a socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pypatcher.artifact import sign_file
from pypatcher.keys import KeyPair, encode_key
from pypatcher.transport import Endpoint
from tests.support.programs import with_comment, with_section

Run = Callable[..., Any]
PAIR = KeyPair.from_seed(bytes(range(32)))
PUBLIC = encode_key(PAIR.public)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    async def opened(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(Endpoint, "open", opened)


@pytest.fixture
def app(run: Run) -> Path:
    """A signed program in the current folder."""
    path = Path("app")
    path.write_bytes(with_section("2.0.0"))
    sign_file(path, PAIR, None, None)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: FILE, --public-key"),
        (["app"], "required: --public-key"),
        (["app", "--public-key", "short"], "--public-key: public key 'short' is not a key"),
        (["app", "--public-key", f"armv7={PUBLIC}"], "none of the keys is for target x86_64, which app is for"),
        (["app", "--public-key", PUBLIC, "--target", "pdp11"], "unknown target 'pdp11'"),
        (["app", "--public-key", PUBLIC, "--target", "armv7"], "--target armv7: none of the files is for it"),
        (["app", "app", "--public-key", PUBLIC], "app and app are both for target x86_64"),
        (["app.pyz", "--public-key", PUBLIC], "app.pyz fits aarch64, armv7, x86_64: say by --target"),
        (["app", "--public-key", PUBLIC, "--for", "0"], "--for takes seconds, from 1 to"),
        (["app", "--public-key", PUBLIC, "--for", "nan"], "--for takes seconds, from 1 to"),
        (["app", "--public-key", PUBLIC, "--bind", "here"], "is not an address: write HOST:PORT"),
        (["app", "app.pyz", "--public-key", PUBLIC, "--namespace", "rustpatcher"], "give one file"),
    ],
)
def test_seed_says_in_one_line_what_makes_no_sense(run: Run, app: Path, arguments: list[str], message: str) -> None:
    app.with_name("app.pyz").write_bytes(with_comment("2.0.0"))
    outcome = run("seed", *arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_an_upload_limit_of_nothing_is_wrong_use(run: Run, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPATCHER_UPLOAD", "0")
    outcome = run("seed", app, "--public-key", PUBLIC)
    assert outcome.status == 2
    assert "PYPATCHER_UPLOAD=0 serves nobody" in outcome.err


def test_one_bad_file_among_good_ones_is_named_and_none_is_announced(run: Run, app: Path) -> None:
    bad = Path("bad")
    data = bytearray(with_section("2.0.0", machine=183))
    bad.write_bytes(data)
    sign_file(bad, PAIR, None, None)
    data[:] = bad.read_bytes()
    data[70] ^= 1
    bad.write_bytes(data)
    outcome = run("seed", app, bad, "--public-key", PUBLIC)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("pypatcher seed: bad is not offered: the file's hash is not the signed one")
    assert outcome.err.count("\n") == 1
