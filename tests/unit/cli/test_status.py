"""``status`` never says that nobody is needed where somebody is: each way in which it could, on a real program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pypatcher.artifact import sign_file
from pypatcher.artifact.replace import open_program
from pypatcher.artifact.verify import read_release
from pypatcher.cli import needs
from pypatcher.cli.needs import WhoRuns, needs_of, unknown_of
from pypatcher.errors import CannotReplaceError
from pypatcher.install import Installation, Status, owner_verifies
from pypatcher.install.operations import Operations
from pypatcher.install.state_folder import StateFolder, open_folders
from pypatcher.install.trial import ProgramId, Trial
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.node.device import own_target
from pypatcher.node.report import NodeReport, Report, decode_report, encode_report
from pypatcher.process import how_it_ended
from tests.support.devices import compile_app
from tests.unit.cli.conftest import Run

KEY = KeyPair.from_seed(bytes(range(32)))
TARGET = own_target(Path(sys.executable), Path(sys.executable))
NOW = 1_900_000_000.0
WELL = WhoRuns(NOW, runs=True, updates=True, seconds=5000.0, uid=os.geteuid(), age=10.0)
FINE = Report(started=NOW - 5000, written=NOW - 10, looked=NOW - 20, heard=2, mode="now", last_heard=NOW - 20)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    folder = tmp_path_factory.mktemp("releases")
    built = []
    for version in ("1.0.0", "2.0.0"):
        path = compile_app(folder / version, version)
        sign_file(path, KEY, None, TARGET)
        built.append(path.read_bytes())
    return built[0], built[1]


@pytest.fixture
def app(releases: tuple[bytes, bytes], tmp_path: Path) -> Path:
    path = tmp_path / "opt" / "app"
    path.parent.mkdir()
    path.write_bytes(releases[0])
    path.chmod(0o755)
    return path


@pytest.fixture
def device(app: Path) -> Installation:
    """The program was started once, by a guard, which does not run on."""
    device = Installation(app, owner_verifies(OwnerKey(KEY.public), TARGET))
    device.settle("guard")
    return device


@contextmanager
def running(app: Path) -> Iterator[int]:
    """A process of the program that does nothing."""
    process = subprocess.Popen([app, "stay"], env={"APP_LOG": "/dev/null"})
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def report(device: Installation, **values: object) -> None:
    """What the node last said, just now."""
    now = time.time()
    fresh = {"started": now - 5000, "written": now, "looked": now, "heard": 1, "mode": "now", "last_heard": now}
    device.write_report(encode_report(Report(**{**fresh, **values})))  # type: ignore[arg-type]


def stage(device: Installation, release: bytes, tmp_path: Path) -> None:
    file = tmp_path / "release"
    file.write_bytes(release)
    with device.new_partial() as partial, open_program(file) as descriptor:
        partial.write(release)
        device.stage(partial, read_release(descriptor).info)


def test_a_program_whose_process_is_dead_needs_a_person(run: Run, app: Path, device: Installation) -> None:
    report(device, written=time.time() - 300)
    said = run("status", app)
    assert (said.status, "it does not run" in said.out) == (1, True)


def test_a_program_that_was_never_started_here_is_said_to_be_new(
    run: Run, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYPATCHER_ALLOW_VOLATILE", "1")
    said = run("status", app, "--json")
    assert (said.status, said.json["never_started"], said.json["unknown"]) == (1, True, [])
    assert said.json["needs"] == ["it was never started here: start it, or its service"]
    assert "node:       was never started here" in run("status", app).out
    assert [path.name for path in app.parent.iterdir()] == ["app"]
    with running(app):
        assert run("status", app).status == 3  # its node may begin yet
        monkeypatch.setattr(needs, "_SETTLES", 0.0)
        said = run("status", app)
    assert said.status == 1
    assert "nothing looks for updates: it was started neither by pypatcher run" in said.out


@pytest.mark.parametrize("found", ["a folder", "a text"])
def test_what_is_no_program_at_all_needs_a_person(run: Run, tmp_path: Path, found: str) -> None:
    place = tmp_path / "found"
    if found == "a text":
        place.write_text("text", encoding="ascii")
    else:
        place.mkdir()
    said = run("status", place, "--json")
    assert (said.status, said.json["running"]) == (1, None)
    assert "the program gets no updates" in said.json["needs"][0]
    assert not [need for need in said.json["needs"] if "no state folder" in need]


def test_one_that_ended_a_moment_ago_may_be_started_again(run: Run, app: Path, device: Installation) -> None:
    report(device)
    said = run("status", app)
    assert said.status == 3
    assert "needs you:  not known" in said.out


def test_one_that_runs_with_its_node_at_work_needs_nobody(run: Run, app: Path, device: Installation) -> None:
    report(device)
    with running(app), device.updater_lock():
        said = run("status", app)
    assert (said.status, "needs you:  no\n" in said.out) == (0, True)


def test_one_without_a_node_needs_a_person_once_it_had_time(
    run: Run, app: Path, device: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(device)
    with running(app):
        assert run("status", app).status == 3  # it began just now
        monkeypatch.setattr(needs, "_SETTLES", 0.0)
        report(device, blocked="port 6881 is taken")
        said = run("status", app)
    assert said.status == 1
    assert "nothing looks for updates: port 6881 is taken" in said.out


def test_bytes_written_in_vain_are_said(run: Run, app: Path, device: Installation) -> None:
    assert "wasted" not in run("status", app).out
    report(device, wasted_lan=1_500_000, wasted=40_000)
    said = "wasted:     1.5 MB from the LAN, 0.0 MB from elsewhere: written by failed fetches in a day"
    assert said in run("status", app).out


def test_another_owners_program_is_seen_without_a_key(run: Run, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_file(app, KeyPair.generate(), None, TARGET)
    monkeypatch.setattr(needs, "_SETTLES", 0.0)
    own = Installation(app, owner_verifies(OwnerKey(KEY.public), TARGET))
    assert own.settle("spawn").program is None  # so its node never starts
    with running(app):
        said = run("status", app)
    assert (said.status, "nothing looks for updates" in said.out) == (1, True)


def test_what_its_node_said_long_ago_is_not_known(run: Run, app: Path, device: Installation) -> None:
    for written in (time.time() - 300, time.time() + 300):
        report(device, written=written)
        with running(app), device.updater_lock():
            said = run("status", app, "--json")
        assert (said.status, said.json["needs"], len(said.json["unknown"])) == (3, [], 1)


def test_who_may_not_look_hears_that_it_is_not_known(
    run: Run, app: Path, device: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_self: Installation) -> Status:
        raise CannotReplaceError(f"{device.layout.state_folder} cannot be read")

    monkeypatch.setattr(Installation, "status", refused)
    said = run("status", app)
    assert (said.status, "as the service's user or root" in said.err) == (3, True)
    assert run("status", app.parent / "other").status == 2


def test_a_rollback_that_waits_for_a_restart_needs_a_person(
    run: Run, app: Path, device: Installation, releases: tuple[bytes, bytes], tmp_path: Path
) -> None:
    stage(device, releases[1], tmp_path)
    device.settle("run")
    report(device)
    Installation(app, owner_verifies(OwnerKey(KEY.public), TARGET)).roll_back()  # it runs: at the next start
    with running(app), device.updater_lock():
        said = run("status", app)
    assert said.status == 1
    assert "going back from 2.0.0" in said.out
    assert "version 2.0.0 failed, and the next start goes back: restart it" in said.out


def test_a_refused_release_is_shown_with_how_and_when_it_failed(
    run: Run, app: Path, device: Installation, releases: tuple[bytes, bytes], tmp_path: Path
) -> None:
    stage(device, releases[1], tmp_path)
    for _ in range(3):
        device.settle("run")
        device.end_start(requested=False, how=how_it_ended(-11, 2.0, NOW))
    assert str(device.settle("run").rolled_back) == "2.0.0"
    out = run("status", app).out
    assert "2.0.0: 3 failed starts, 0 reboots on trial; the last ended with signal SIGSEGV after 2 s, 2030-" in out


def test_a_missing_or_damaged_program_is_shown_with_the_way_back(
    run: Run, app: Path, device: Installation, releases: tuple[bytes, bytes], tmp_path: Path
) -> None:
    stage(device, releases[1], tmp_path)
    assert str(device.settle("guard").version) == "2.0.0"
    app.write_bytes(b"damaged")
    assert "pypatcher rollback puts version 1.0.0 back" in run("status", app).out
    app.unlink()
    assert "pypatcher rollback puts version 1.0.0 back" in run("status", app).out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"silent": NOW - 900}, "no DHT node answers since"),
        ({"last_heard": NOW - 90_000, "started": NOW - 95_000}, "nobody of the fleet was heard since"),
        ({"clock": 7}, "the clock is 7 minutes behind that of a peer"),
        ({"waits": "its terminal would close with it"}, "waits for a restart that nothing here brings about"),
        ({"blocked": "no room"}, "the node cannot take a release: no room"),
    ],
)
def test_what_its_node_lacks_is_what_it_needs(device: Installation, changes: dict[str, object], words: str) -> None:
    fields = {name: getattr(FINE, name) for name in Report.__slots__}
    said = Report(**{**fields, **changes})
    assert [words in need for need in needs_of(device, device.status(), said, WELL)] == [True]
    assert list(needs_of(device, device.status(), FINE, WELL)) == list(unknown_of(FINE, WELL)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can see as another user")
def test_a_folder_that_is_not_the_running_users_needs_a_person(device: Installation) -> None:
    as_another = WhoRuns(NOW, runs=True, updates=True, seconds=5000.0, uid=4711, age=10.0)
    (need,) = needs_of(device, device.status(), FINE, as_another)
    assert "a release could not be installed" in need


def test_mode_and_moment_of_the_next_restart_are_shown(
    run: Run, app: Path, device: Installation, releases: tuple[bytes, bytes], tmp_path: Path
) -> None:
    stage(device, releases[1], tmp_path)
    report(device, mode="at=03:30")
    with running(app), device.updater_lock():
        out = run("status", app).out
    assert "staged:     2.0.0, restart at 20" in out
    assert "mode:       at=03:30: restart at 20" in out


def test_a_metered_device_is_said_to_be_one(run: Run, app: Path, device: Installation) -> None:
    assert decode_report(NodeReport(is_metered=True).take()) is not None
    device.write_report(NodeReport("now", is_metered=True).take())
    assert "metered:    asks the owner every 6 hours" in run("status", app).out
    assert json.loads(run("status", app, "--json").out)["node"]["metered"] is True


def test_a_silent_fleet_is_told_over_restarts(device: Installation) -> None:
    """A device that its owner switches on each morning."""
    started = NodeReport(now=lambda: NOW - 90_000)
    report = decode_report(started.take())
    for seconds_ago in (80_000, 40_000, 5000):
        again = NodeReport(now=partial(float, NOW - seconds_ago))
        again.follow(report)
        report = decode_report(again.take())
    assert report is not None
    told = [need for need in needs_of(device, device.status(), report, WELL) if "nobody of the fleet" in need]
    assert len(told) == 1
    heard = NodeReport(now=lambda: NOW - 5000)
    heard.looked(1)
    heard.follow(report)
    report = decode_report(heard.take())
    assert report is not None
    assert report.unheard_since == 0.0
    assert not [need for need in needs_of(device, device.status(), report, WELL) if "nobody of the fleet" in need]


def test_a_trial_at_its_limit_without_a_way_back_is_named(device: Installation, releases: tuple[bytes, bytes]) -> None:
    with open_folders(device.layout, StateFolder.MADE) as files:
        operations = Operations(files, device.layout)
        state = operations.read_state()
        assert state is not None
        other = ProgramId(bytes(64), state.confirmed.version)
        operations.write_state(replace(state, confirmed=other, trial=Trial(state.confirmed, failed=3)))
    assert "with nothing to go back to" in device.status().needs
