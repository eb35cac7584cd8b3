"""``pypatcher unit``: whose option it is, and what would keep the unit from working."""

from __future__ import annotations

from pathlib import Path

import pytest

from pypatcher.keys import KeyPair, encode_key
from tests.unit.cli.conftest import Run

KEY = encode_key(KeyPair.generate().public)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "app"
    path.write_bytes(Path("/bin/true").read_bytes())
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("option", ["--user", "--mode=now", "--public-key", "--guard"])
def test_an_option_after_the_program_is_not_taken_for_its_own(run: Run, program: Path, option: str) -> None:
    outcome = run("unit", program, option, "daemon")
    assert (outcome.status, outcome.out) == (2, "")
    assert f"{option.partition('=')[0]} comes after PROGRAM" in outcome.err
    meant = run("unit", program, "--", option, "daemon")
    assert f"ExecStart={program} {option} daemon" in meant.out.splitlines()


def test_options_of_run_end_up_in_its_command(run: Run, program: Path) -> None:
    outcome = run("unit", "--public-key", KEY, "--mode", "at=03:30", "--ready-within", "60", program, "--verbose")
    [line] = [line for line in outcome.out.splitlines() if line.startswith("ExecStart=")]
    assert line.endswith(f" run --public-key={KEY} --mode=at=03:30 --ready-within=60.0 -- {program} --verbose")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mode", "at=25:00"], "25:00 is no time of day"),
        (["--ready-within", "0"], "--ready-within takes seconds"),
        (["--watchdog", "0"], "--watchdog takes seconds"),
        (["--environment", "X"], "write NAME=VALUE"),
    ],
)
def test_nonsense_is_refused_before_anything_is_printed(
    run: Run, program: Path, options: list[str], message: str
) -> None:
    outcome = run("unit", "--public-key", KEY, *options, program)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err


def test_what_would_not_work_on_this_device_is_said_beside_the_unit(run: Run, program: Path) -> None:
    program.chmod(0o644)
    outcome = run("unit", "--public-key", KEY, "--user", "nobody-of-this-name", program)
    assert outcome.status == 0
    assert f"-- {program}" in outcome.out
    said = outcome.err.splitlines()
    assert len(said) == 3
    assert "is not executable here" in said[0]
    assert "no signature region" in said[1]
    assert "there is no user nobody-of-this-name here" in said[2]


def test_a_folder_that_is_somebody_elses_is_said(run: Run, program: Path) -> None:
    outcome = run("unit", "--user", "nobody", program)
    assert "does not belong to nobody" in outcome.err
