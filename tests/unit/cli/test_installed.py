"""guard, status, rollback and adopt on a real signed program; how systemd's words about an end are read."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from pypatcher.artifact import sign_file
from pypatcher.artifact.replace import open_program
from pypatcher.artifact.verify import read_release
from pypatcher.cli.guard import end_was_requested
from pypatcher.errors import CannotReplaceError
from pypatcher.events import FetchFailed, FetchStarted, PreflightFailed, ReleaseStaged
from pypatcher.install import Installation, owner_verifies
from pypatcher.keys import KeyPair, OwnerKey, encode_key
from pypatcher.node.device import own_target
from pypatcher.node.report import REPORT_LIMIT, NodeReport, Report, decode_report, encode_report
from pypatcher.version import Version
from tests.support.devices import compile_app
from tests.unit.cli.conftest import Run

KEY = KeyPair.from_seed(bytes(range(32)))
PUBLIC = encode_key(OwnerKey(KEY.public))
TARGET = own_target(Path(sys.executable), Path(sys.executable))
OTHER_USER = (4711, 4712) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("releases")
    old, new = compile_app(folder / "old", "1.0.0"), compile_app(folder / "new", "2.0.0")
    for path in (old, new):
        sign_file(path, KEY, None, TARGET)
    return old, new


@pytest.fixture
def app(releases: tuple[Path, Path], tmp_path: Path) -> Path:
    (tmp_path / "opt").mkdir()
    return Path(shutil.copy(releases[0], tmp_path / "opt" / "app"))


def test_a_new_device_adopts_its_first_release(run: Run, releases: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "opt").mkdir()
    program = tmp_path / "opt" / "app"
    assert run("adopt", releases[0], program, "--public-key", PUBLIC).status == 0
    assert program.read_bytes() == releases[0].read_bytes()
    status = run("status", program, "--public-key", PUBLIC, "--json")
    assert (status.status, status.json["running"]) == (1, "1.0.0")
    assert status.json["needs"] == ["it does not run: start it, or its service"]


def test_a_first_release_can_be_started_whatever_mode_its_copy_has(
    run: Run, releases: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "opt").mkdir()
    os.chown(tmp_path / "opt", *OTHER_USER)
    copied = Path(shutil.copy(releases[0], tmp_path / "copied"))
    copied.chmod(0o600)
    program = tmp_path / "opt" / "app"
    assert run("adopt", copied, program).status == 0
    found = program.stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o755, *OTHER_USER)


def test_status_changes_nothing_and_says_what_cannot_be_started(run: Run, app: Path) -> None:
    app.chmod(0o644)
    said = run("status", app)
    assert (said.status, "chmod 755" in said.out) == (1, True)
    assert [path.name for path in app.parent.iterdir()] == ["app"]


def with_staged(app: Path, release: Path) -> Installation:
    """The program ran once, took the release and ended."""
    installation = Installation(app, owner_verifies(OwnerKey(KEY.public), TARGET))
    installation.settle("run")
    with installation.updater_lock(), installation.new_partial() as partial, open_program(release) as descriptor:
        partial.write(release.read_bytes())
        installation.stage(partial, read_release(descriptor).info)
    return installation


def test_confirm_ends_the_trial_of_what_runs_and_of_nothing_else(
    run: Run, releases: tuple[Path, Path], app: Path
) -> None:
    assert "not on trial" in run("confirm", app).err
    assert [path.name for path in app.parent.iterdir()] == ["app"]
    running = with_staged(app, releases[1])
    assert str(running.settle("run").activated) == "2.0.0"
    confirmed = run("confirm", app, "--json")
    assert (confirmed.status, confirmed.json["version"]) == (0, "2.0.0")
    assert run("status", app, "--json").json["trial"] is None
    assert run("confirm", app).status == 1


def test_confirm_refuses_a_version_that_does_not_run(run: Run, releases: tuple[Path, Path], app: Path) -> None:
    running = with_staged(app, releases[1])
    running.settle("run")
    running.end_start(requested=True)
    refused = run("confirm", app)
    assert (refused.status, "does not run" in refused.err) == (1, True)


def test_adopting_keeps_the_way_back_and_rollback_takes_it(run: Run, releases: tuple[Path, Path], app: Path) -> None:
    assert run("guard", "--public-key", PUBLIC, app).status == 0
    assert run("adopt", releases[1], app).status == 0
    assert run("status", app, "--json").json["previous"] == "1.0.0"
    assert "1.0.0 again" in run("rollback", app).out
    assert app.read_bytes() == releases[0].read_bytes()
    refused = run("status", app, "--json").json["refused"]
    assert [one["reason"] for one in refused] == ["2.0.0 was rolled back by hand"]
    assert run("rollback", app).status == 1


def test_adopt_refuses_another_owners_release_and_what_is_damaged(
    run: Run, releases: tuple[Path, Path], app: Path, tmp_path: Path
) -> None:
    other = encode_key(OwnerKey(KeyPair.generate().public))
    before = app.read_bytes()
    assert run("adopt", releases[1], app, "--public-key", other).status == 1
    damaged = tmp_path / "damaged"
    damaged.write_bytes(releases[1].read_bytes()[:-1] + b"?")
    assert run("adopt", damaged, app).status == 1
    assert app.read_bytes() == before
    assert [path.name for path in app.parent.glob(".app.pypatcher/partial-*")] == []


def test_adopt_changes_nothing_under_a_running_program(run: Run, releases: tuple[Path, Path], app: Path) -> None:
    running = Installation(app, owner_verifies(OwnerKey(KEY.public), TARGET))
    running.settle("run")
    refused = run("adopt", releases[1], app)
    assert (refused.status, "stop it first" in refused.err) == (1, True)
    assert app.read_bytes() == releases[0].read_bytes()


def test_the_guard_of_a_unit_keeps_its_starts_apart(run: Run, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1.7e9]
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(round(seconds, 3))
        clock[0] += seconds

    monkeypatch.setattr("pypatcher.install.pacing.time.time", lambda: clock[0])
    monkeypatch.setattr("pypatcher.cli.guard.time.sleep", wait)
    guard = ("guard", "--public-key", PUBLIC, app)
    for by, seconds in (("unit", 0), ("unit", 60), ("unit", 1), ("person", 1), ("unit", 3), ("unit", -999)):
        with monkeypatch.context() as changed:
            if by == "unit":
                changed.setenv("INVOCATION_ID", "0" * 32)
            else:
                changed.delenv("INVOCATION_ID", raising=False)
            clock[0] += seconds
            assert run(*guard).status == 0
    assert waited == [4.0, 1.0]


def test_the_guard_never_prevents_a_start(run: Run, app: Path, tmp_path: Path) -> None:
    app.write_bytes(b"not a program any more")
    assert run("guard", "--public-key", PUBLIC, app).status == 0
    assert run("guard", "--public-key", PUBLIC, tmp_path / "nothing" / "here").status == 0
    assert run("guard", "--ended", "--public-key", PUBLIC, app).status == 0
    assert run("guard", "--public-key", "nonsense", app).status == 2


def test_status_says_what_a_person_is_needed_for(run: Run, app: Path) -> None:
    app.write_bytes(b"not a program any more")
    said = run("status", app)
    assert said.status == 1
    assert "put a signed release" in said.out
    assert run("status", app.parent / "other").status == 2


@pytest.mark.parametrize(
    ("environment", "requested"),
    [
        ({"MAINPID": "7"}, True),
        ({"MAINPID": "7", "EXIT_CODE": "exited", "EXIT_STATUS": "0"}, False),
        ({"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "0"}, False),
        ({"EXIT_CODE": "killed", "EXIT_STATUS": "TERM"}, True),
        ({"EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}, False),
        ({"EXIT_CODE": "dumped", "EXIT_STATUS": "ABRT"}, False),
        ({"EXIT_CODE": "exited", "EXIT_STATUS": "86", "PYPATCHER_RESTART_STATUS": "86"}, True),
        ({"EXIT_CODE": "exited", "EXIT_STATUS": "203"}, False),
        ({"SERVICE_RESULT": "success", "EXIT_CODE": "killed", "EXIT_STATUS": "TERM"}, True),
        ({"SERVICE_RESULT": "timeout", "EXIT_CODE": "killed", "EXIT_STATUS": "TERM"}, False),
        ({"SERVICE_RESULT": "watchdog", "EXIT_CODE": "dumped", "EXIT_STATUS": "ABRT"}, False),
        ({"SERVICE_RESULT": "oom-kill", "EXIT_CODE": "killed", "EXIT_STATUS": "TERM"}, False),
        ({}, False),
    ],
)
def test_an_end_was_asked_for_if_systemd_or_the_program_itself_did_it(
    environment: dict[str, str], requested: bool
) -> None:
    assert end_was_requested(environment) is requested


def test_a_report_is_written_at_once_after_news_and_each_minute() -> None:
    now = [1000.0]
    report = NodeReport("at=03:30", now=lambda: now[0], clock=lambda: now[0])
    assert report.seconds_until_due() == 0.0
    report.looked(3)
    said = decode_report(report.take())
    assert said is not None
    assert (said.looked, said.heard, said.error, said.blocked) == (1000.0, 3, "", "")
    assert (said.mode, said.last_heard) == ("at=03:30", 1000.0)
    assert report.seconds_until_due() == 60.0
    now[0] += 45
    report.answered()
    assert report.seconds_until_due() == 15.0
    answered = decode_report(report.take())
    assert answered is not None
    assert (answered.looked, answered.heard) == (1045.0, 3)
    assert report.note(FetchFailed("2.0.0", "192.0.2.1:1", "it\nstalled", 7, 8))
    assert report.seconds_until_due() == 0.0
    said = decode_report(report.take())
    assert said is not None
    assert "it?stalled" in said.error
    assert (said.wasted_lan, said.wasted) == (7, 8)
    report.note(PreflightFailed("no room"))
    assert report.seconds_until_due() == 0.0
    report.note(FetchStarted("2.0.0", "192.0.2.1:1", 7))
    report.note(ReleaseStaged("2.0.0", "/x"))
    said = decode_report(report.take())
    assert said is not None
    assert said.blocked == ""


def test_a_program_that_is_whole_again_blocks_nothing_any_more(app: Path) -> None:
    report, device = NodeReport(), Installation(app, owner_verifies(OwnerKey(KEY.public), TARGET))

    def blocked() -> str:
        found = decode_report(report.take())
        assert found is not None
        return found.blocked

    whole = app.read_bytes()
    app.write_bytes(whole[:-1])
    with pytest.raises(CannotReplaceError) as found:
        device.check_wanted(Version(9, 0, 0))
    report.note(PreflightFailed(str(found.value)))
    report.looked(1, is_sound=device.running_info().id is not None)
    assert "cannot be updated" in blocked()
    app.write_bytes(whole)
    report.looked(1, is_sound=device.running_info().id is not None)
    assert blocked() == ""
    report.note(PreflightFailed("no room"))
    report.looked(1, is_sound=True)
    assert blocked() == "no room"


def test_a_report_of_any_content_fits_its_limit_and_reads_back() -> None:
    long = "\U0001f600" * 300
    worst = Report(1.0, 2.0, 3.0, 4, long, 5.0, long, 6.0, long, 7.0, long, -8, 9, 10)
    assert len(encode_report(worst)) <= REPORT_LIMIT
    assert decode_report(encode_report(worst)) == worst
    for damaged in (b"", b"{}", b"[]", b'{"format": 2}', encode_report(worst)[:-5], bytes(REPORT_LIMIT + 1)):
        assert decode_report(damaged) is None


def test_a_rollback_names_the_release_that_takes_over_then(run: Run, releases: tuple[Path, Path], app: Path) -> None:
    assert run("guard", "--public-key", PUBLIC, app).status == 0
    assert run("adopt", releases[1], app).status == 0
    third = compile_app(app.with_name("third"), "3.0.0")
    sign_file(third, KEY, None, TARGET)
    running = with_staged(app, third)
    said = run("rollback", app)
    assert "goes back to version 1.0.0; version 3.0.0 is staged, and takes over at its next start" in said.err
    assert str(running.settle("run").version) == "3.0.0"
