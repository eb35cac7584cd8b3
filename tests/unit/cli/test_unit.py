"""``pypatcher unit``: whose option it is, and what would keep the unit from working."""

from __future__ import annotations

import os
import sys
import zipapp
from pathlib import Path

import pytest

from pypatcher.artifact import embed_region, sign_file
from pypatcher.cli import unit
from pypatcher.keys import KeyPair, encode_key
from pypatcher.trusted_path import who_else_controls
from pypatcher.version import Version
from tests.unit.cli.conftest import Run

PAIR = KeyPair.generate()
KEY = encode_key(PAIR.public)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program whose place is root's alone, whoever runs the tests."""
    monkeypatch.setattr(unit, "who_else_controls", lambda _: "")
    path = tmp_path / "app"
    path.write_bytes(Path("/bin/true").read_bytes())
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("writers", ["user 4711", "everybody"])
def test_no_unit_lets_root_run_what_others_can_change(
    run: Run, program: Path, monkeypatch: pytest.MonkeyPatch, writers: str
) -> None:
    monkeypatch.setattr(unit, "who_else_controls", who_else_controls)
    if writers == "everybody":
        program.parent.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(program.parent, 4711, 4711)
    outcome = run("unit", "--out", "app.service", program)
    assert (outcome.status, outcome.out) == (2, "")
    assert f"as root, and {writers if os.geteuid() == 0 else 'user'}" in outcome.err
    assert "--user" in outcome.err
    assert not Path("app.service").exists()
    assert run("unit", "--user", "nobody", program).status == 0
    assert run("unit", "--offline", program).status == 0


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
    said = [line for line in outcome.err.splitlines() if "will not find" not in line]  # the test's folder in /tmp
    assert len(said) == 3
    assert "is not executable here" in said[0]
    assert "no signature region" in said[1]
    assert "there is no user nobody-of-this-name here" in said[2]


def test_a_folder_that_is_somebody_elses_is_said(run: Run, program: Path) -> None:
    outcome = run("unit", "--user", "nobody", program)
    assert "does not belong to nobody" in outcome.err


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("/tmp/app", "a /tmp of its own (PrivateTmp=yes)"),
        ("/var/tmp/x/app", "a /var/tmp of its own (PrivateTmp=yes)"),
        ("/run/app", "/run is in memory, and empty after a boot"),
        ("/var/run/user/1000/app", "/var/run is in memory"),
        ("/dev/shm/app", "/dev/shm is in memory"),
    ],
)
def test_a_place_that_the_unit_does_not_find_is_said(run: Run, place: str, why: str) -> None:
    outcome = run("unit", "--offline", place)
    assert (outcome.status, f"ReadWritePaths={Path(place).parent}" in outcome.out) == (0, True)
    assert why in outcome.err
    assert f"will not find {place}" in outcome.err
    assert "move it" in outcome.err
    itself = run("unit", "--offline", "--public-key", KEY, "--pypatcher", place, "/opt/x/app")
    assert f"will not find {place}" in itself.err
    home = run("unit", "--offline", "--public-key", KEY, "--pypatcher", "/home/x/bin/pypatcher", "/home/x/app")
    assert (home.status, home.err) == (0, "")


def test_an_interpreter_that_the_unit_does_not_find_is_said(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "app"
    script.write_text("#!/dev/shm/venv/bin/python -I\n")
    script.chmod(0o755)
    assert "will not find /dev/shm/venv/bin/python: /dev/shm is in memory" in run("unit", "--user", "x", script).err


def test_a_folder_through_which_the_user_does_not_get_is_said(
    run: Run, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pypatcher.process.unit.why_lost", lambda _: "")  # of where the test has its folder
    program.parent.chmod(0o700)
    closed = next(folder for folder in reversed(program.parents) if not folder.stat().st_mode & 0o001)
    assert f"nobody cannot reach {program}: {closed} lets others not in" in run("unit", "--user", "nobody", program).err
    assert "cannot reach" not in run("unit", "--user", "root", program).err
    assert "cannot reach" not in run("unit", "--user", "nobody", "/bin/true").err


@pytest.fixture
def python_app(tmp_path: Path) -> Path:
    """A zipapp that calls start(), signed."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "__main__.py").write_text("import pypatcher\npypatcher.start()\n")
    path = tmp_path / "pyapp"
    zipapp.create_archive(source, path, interpreter=sys.executable)
    embed_region(path, Version(1, 0, 0))
    sign_file(path, PAIR, None, None)
    path.chmod(0o755)
    return path


def test_a_program_that_updates_itself_is_started_with_a_guard(run: Run, python_app: Path) -> None:
    outcome = run("unit", "--public-key", KEY, python_app)
    assert f"ExecStart={python_app}" in outcome.out.splitlines()
    assert " guard " in outcome.out
    assert "updates itself: the unit starts it directly" in outcome.err


def test_of_two_nodes_one_wins_and_it_is_said_which(run: Run, python_app: Path) -> None:
    outcome = run("unit", "--public-key", KEY, "--mode", "at=03:30", python_app)
    assert " run " in outcome.out
    assert "under `pypatcher run` these make no node" in outcome.err


def test_a_unit_is_written_whole_or_not_at_all(run: Run, program: Path, tmp_path: Path) -> None:
    out = tmp_path / "app.service"
    assert run("unit", "--public-key", KEY, "--out", out, program).status == 0
    written = out.read_text()
    assert written.endswith("WantedBy=multi-user.target\n")
    assert out.stat().st_mode & 0o777 == 0o644
    assert run("unit", "--public-key", KEY, "--out", out, tmp_path / "missing").status == 1
    assert run("unit", "--public-key", KEY, "--mode", "never", "--out", out, program).status == 2
    assert out.read_text() == written
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".app.service")] == []


def test_a_unit_for_another_machine_looks_at_nothing_here(run: Run) -> None:
    outcome = run("unit", "--public-key", KEY, "--user", "nobody-of-this-name", "--offline", "/opt/x/app")
    assert (outcome.status, outcome.err) == (0, "")
    assert f"ExecStart=/opt/pypatcher/bin/pypatcher run --public-key={KEY} -- /opt/x/app" in outcome.out.splitlines()
    elsewhere = run("unit", "--public-key", KEY, "--offline", "--pypatcher", "/usr/bin/pypatcher", "/opt/x/app")
    assert "ExecStart=/usr/bin/pypatcher run" in elsewhere.out
    assert run("unit", "--offline", "app").status == 2


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("PYPATCHER_UPLAOD=0", "PYPATCHER_UPLAOD is no variable of pypatcher's: PYPATCHER_UPLOAD?"),
        ("PYPATCHER_UPLOAD=much", "PYPATCHER_UPLOAD='much'"),
    ],
)
def test_a_variable_that_is_unknown_or_senseless_is_said(
    run: Run, program: Path, assignment: str, message: str
) -> None:
    outcome = run("unit", "--environment", assignment, program)
    assert (outcome.status, outcome.out, message in outcome.err) == (2, "", True)


def test_a_unit_does_not_wait_for_the_network(run: Run, program: Path) -> None:
    assert "network" not in run("unit", "--public-key", KEY, program).out
