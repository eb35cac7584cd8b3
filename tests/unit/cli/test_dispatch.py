"""One line an error, 2 for wrong use, 1 for a refusal, and only the command asked for is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pypatcher.cli.dispatch import COMMANDS
from pypatcher.cli.help import GROUPS

Run = Callable[..., Any]


def test_help_lists_every_command(run: Run) -> None:
    outcome = run("--help")
    assert outcome.status == 0
    for command in COMMANDS:
        assert f"\n    {command} " in outcome.out


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_narrow_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    outcome = run(*command.split(), "--help")
    assert outcome.status == 0
    assert [line for line in outcome.out.splitlines() if len(line) > 60] == []


def test_help_groups_the_commands_by_job(run: Run) -> None:
    out = run("--help").out
    titles = [title for title, _ in GROUPS]
    assert [line.rstrip(":") for line in out.splitlines() if line.rstrip(":") in titles] == titles
    assert out.index("look after a device:") < out.index("\n    rollback ") < out.index("look at the network")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_tab_completion_is_made_from_the_parsers(run: Run, shell: str) -> None:
    outcome = run("completion", shell)
    assert outcome.status == 0
    assert all(command in outcome.out for command in COMMANDS)
    assert "--min-version" in outcome.out or "min-version" in outcome.out


def test_bash_completes_commands_and_options(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(run("completion", "bash").out)
    ask = 'source "$1"; COMP_WORDS=(pypatcher "${@:2}"); COMP_CWORD=$(($#-1)); _shtab_pypatcher; echo "${COMPREPLY[*]}"'
    for words, expected in ((["rollb"], "rollback"), (["fetch", "--min"], "--min-version")):
        done = subprocess.run(["bash", "-c", ask, "bash", script, *words], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected], done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(run: Run, command: str) -> None:
    outcome = run(command, "--help")
    assert outcome.status == 0
    assert "examples:" in outcome.out
    assert f"pypatcher {command}" in outcome.out.partition("examples:")[2]


@pytest.mark.parametrize(
    "arguments", [(), ("nonsense",), ("sign",), ("sign", "app"), ("gen", "k", "--target", "pdp11")]
)
def test_wrong_use_is_one_line_and_status_2(run: Run, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert "--help" in outcome.err


def test_a_refusal_is_one_line_and_status_1(run: Run) -> None:
    outcome = run("inspect", "missing")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "pypatcher inspect: cannot read missing: No such file or directory\n"


def test_a_message_cannot_steer_the_terminal(run: Run) -> None:
    outcome = run("inspect", "mis\x1b[2Jsing\nsecond line")
    assert outcome.status == 1
    assert "\x1b" not in outcome.err
    assert outcome.err.count("\n") == 1


def test_version_says_whether_the_extensions_are_used(run: Run) -> None:
    outcome = run("--version")
    assert outcome.status == 0
    assert "extensions" in outcome.out


@pytest.mark.parametrize("command", ["gen", "sign", "verify", "inspect", "embed", "include"])
def test_commands_about_files_load_no_network_stack(command: str) -> None:
    code = (
        "import sys; from pypatcher.cli import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "import pypatcher.artifact\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "sys.exit(','.join(loaded & {'aioquic', 'cryptography', 'elftools'}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "pypatcher", "include", "--cflags"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("-I/")


def test_a_reader_that_went_away_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pypatcher", "inspect", sys.executable]
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_failure_is_json_too_for_who_asked_for_it(run: Run) -> None:
    outcome = run("inspect", "missing", "--json")
    assert outcome.status == 1
    assert outcome.json == {"error": "cannot read missing: No such file or directory"}
    assert outcome.err == "pypatcher inspect: cannot read missing: No such file or directory\n"
