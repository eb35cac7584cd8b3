"""What run and fetch take and refuse, before they open a socket."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from pypatcher.artifact import embed_region
from pypatcher.cli.node_options import read_settings
from pypatcher.cli.owners import read_keys
from pypatcher.errors import SettingError
from pypatcher.keys import KeyPair, encode_key
from pypatcher.node.device import own_target
from pypatcher.targets import load_targets
from pypatcher.version import Version
from tests.support.programs import with_comment

Run = Callable[..., Any]
PUBLIC = encode_key(KeyPair.from_seed(bytes(range(32))).public)
OTHER = encode_key(KeyPair.from_seed(bytes(32)).public)
NODE = "ab" * 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --public-key, PROGRAM"),
        (["--public-key", PUBLIC], "required: PROGRAM"),
        (["--public-key", "short", "--", "app"], "--public-key: public key 'short' is not a key"),
        (["--public-key", f"armv6={PUBLIC}", "--", "app"], "unknown target 'armv6'"),
        (["--public-key", PUBLIC, "--public-key", OTHER, "--", "app"], "given twice for every target"),
        (["--public-key", f"armv7={PUBLIC}", "--public-key", f"armv7={OTHER}", "--", "app"], "given twice for armv7"),
        (["--public-key", PUBLIC, "--mode", "later", "--", "app"], "'later' is no mode: choose now, on-restart"),
        (["--public-key", PUBLIC, "--mode", "at=24:00", "--", "app"], "no time of day"),
        (["--public-key", PUBLIC, "--stop-timeout", "-1", "--", "app"], "--stop-timeout takes seconds"),
        (["--public-key", PUBLIC, "--stop-timeout", "nan", "--", "app"], "--stop-timeout takes seconds"),
        (["--public-key", PUBLIC, "--bind", "somewhere", "--", "app"], "is not an address: write HOST:PORT"),
        (["--public-key", PUBLIC, "--bind", "localhost:0", "--", "app"], "bind (PYPATCHER_BIND) takes"),
        (["--public-key", PUBLIC, "--bootstrap", "router", "--", "app"], "is not an address: write HOST:PORT"),
        (["--public-key", PUBLIC, "--namespace", "other", "--", "app"], "invalid choice: 'other'"),
        (["--public-key", PUBLIC, "--confirm", "never", "--", "app"], "invalid choice: 'never'"),
    ],
)
def test_run_says_in_one_line_what_makes_no_sense(run: Run, arguments: list[str], message: str) -> None:
    outcome = run("run", *arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: --public-key"),
        (["--public-key", PUBLIC], "one of the arguments --out --check is required"),
        (["--public-key", PUBLIC, "--out", "app", "--check"], "--check: not allowed with argument --out"),
        (["--public-key", PUBLIC, "--check", "--peer", f"{NODE}@127.0.0.1:1"], "--check asks all whom it finds"),
        (["--public-key", "short", "--out", "app"], "public key 'short' is not a key"),
        (["--public-key", PUBLIC, "--out", "app", "--target", "pdp11"], "unknown target 'pdp11'"),
        (["--public-key", PUBLIC, "--out", "app", "--min-version", "1.4"], "'1.4' is not a version"),
        (["--public-key", PUBLIC, "--out", "app", "--min-version", "9999.0.0"], "major must be at most 8191"),
        (["--public-key", PUBLIC, "--out", "app", "--timeout", "0"], "--timeout takes seconds, from 1 to 86400"),
        (["--public-key", PUBLIC, "--out", "app", "--timeout", "soon"], "invalid float value: 'soon'"),
        (["--public-key", PUBLIC, "--out", "app", "--peer", "nobody"], "write NODEID@HOST:PORT"),
        (["--public-key", PUBLIC, "--out", "app", "--peer", f"{NODE[2:]}@127.0.0.1:1"], "write NODEID@HOST:PORT"),
        (["--public-key", PUBLIC, "--out", "app", "--peer", f"{'zz' * 32}@127.0.0.1:1"], "write NODEID@HOST:PORT"),
        (["--public-key", PUBLIC, "--out", "app", "--peer", f"{NODE}@127.0.0.1"], "is not an address"),
        (["--public-key", PUBLIC, "--out", "app", "--peer", f"{NODE}@127.0.0.1:0"], "port"),
    ],
)
def test_fetch_says_in_one_line_what_makes_no_sense(run: Run, arguments: list[str], message: str) -> None:
    outcome = run("fetch", *arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not Path("app").exists()


@pytest.mark.parametrize(
    ("variable", "text"), [("PYPATCHER_UPLOAD", "much"), ("PYPATCHER_LOG", "xml"), ("PYPATCHER_BIND", "here")]
)
def test_a_wrong_environment_is_wrong_use_and_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    outcome = run("fetch", "--public-key", PUBLIC, "--out", "app")
    assert outcome.status == 2
    assert variable in outcome.err


def test_a_persons_command_is_not_metered_and_a_device_is() -> None:
    args, environment = argparse.Namespace(bootstrap=None, bind=None, state=None), {"PYPATCHER_METERED": "1"}
    assert not read_settings(args, environment).metered
    assert read_settings(args, environment, by_hand=False).metered


def test_keys_are_read_by_target() -> None:
    keys = read_keys([PUBLIC, f"armv7={OTHER}"])
    assert {name: encode_key(key) for name, key in keys.items()} == {None: PUBLIC, "armv7": OTHER}
    with pytest.raises(SettingError, match="--public-key: public key 'x' is not a key"):
        read_keys(["armv7=x"])


def supervise(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``pypatcher run`` on loopback, in a process of its own: it ends as its program does."""
    command = [sys.executable, "-m", "pypatcher", "run", "--bind", "127.0.0.1:0", "--bootstrap", "", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_run_ends_as_its_program_does_though_it_gets_no_updates(tmp_path: Path) -> None:
    program = tmp_path / "app"
    program.write_text('#!/bin/sh\necho "$@"\nexit 7\n')
    program.chmod(0o755)
    done = supervise(tmp_path, "--public-key", PUBLIC, "--", "./app", "two words", "--mode", "x")
    assert (done.returncode, done.stdout) == (7, "two words --mode x\n")
    assert "no updates" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("starter", [["nice", "-n", "1"], ["env", "A=b"], ["python3"], ["ld.so"]])
def test_run_names_the_program_that_a_starter_hides(tmp_path: Path, starter: list[str]) -> None:
    app = tmp_path / "app"
    if starter == ["python3"]:
        app.write_bytes(with_comment("1.0.0", {"__main__.py": b"print('runs')"}))
        starter = [sys.executable]
    else:
        shutil.copy("/bin/echo", app)
        embed_region(app, Version(1, 0, 0))
    if starter == ["ld.so"]:
        with app.open("rb") as file:
            starter = [ELFFile(file).get_section_by_name(".interp").data().rstrip(b"\0").decode()]
    done = supervise(tmp_path, "--public-key", PUBLIC, "--", *starter, "./app", "runs")
    assert (done.returncode, done.stdout) == (0, "runs\n")
    assert "only starts ./app" in done.stderr
    assert "pypatcher embed" not in done.stderr


def test_run_follows_a_link_to_the_program(tmp_path: Path) -> None:
    shutil.copy("/bin/echo", tmp_path / "app")
    (tmp_path / "link").symlink_to("app")
    done = supervise(tmp_path, "--public-key", PUBLIC, "--", "./link", "runs")
    assert (done.returncode, done.stdout) == (0, "runs\n")
    assert f"{tmp_path / 'app'} gets no updates" in done.stderr


@pytest.mark.parametrize("variable", ["PYPATCHER_UPLOAD=much", "PYPATCHER_LOG=xml", "PYPATCHER_BIND=here"])
def test_run_starts_its_program_in_a_senseless_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    name, _, text = variable.partition("=")
    monkeypatch.setenv(name, text)
    done = supervise(tmp_path, "--public-key", PUBLIC, "--", "/bin/sh", "-c", "sleep 1; echo runs; exit 3")
    assert (done.returncode, done.stdout) == (3, "runs\n")
    assert "no updates until the environment is mended" in done.stderr
    assert name in done.stderr


def test_run_without_a_key_for_this_device_runs_the_program(tmp_path: Path) -> None:
    own = own_target(Path(sys.executable), Path(sys.executable))
    other = next(name for name in load_targets() if name != own.name)
    done = supervise(tmp_path, "--public-key", f"{other}={PUBLIC}", "--", "/bin/echo", "runs")
    assert (done.returncode, done.stdout) == (0, "runs\n")
    assert "no public key was given for this device's target" in done.stderr


@pytest.mark.parametrize(("program", "status"), [("./missing", 127), ("missing-in-path", 127), ("./plain", 126)])
def test_run_says_why_a_program_cannot_be_executed(tmp_path: Path, program: str, status: int) -> None:
    (tmp_path / "plain").write_text("no program")
    done = supervise(tmp_path, "--public-key", PUBLIC, "--", program)
    assert done.returncode == status
    assert program.strip("./") in done.stderr
    assert "Traceback" not in done.stderr
