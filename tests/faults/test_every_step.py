"""Kill, fail or fill at every file-changing call of whole updates: never a bad state, and the next attempt completes.

The scenarios are an update (stage, activate, start, confirm) and a rollback (three failed starts), under each launcher,
of real signed ELF programs on a real disk. After each disturbance the program at the path is exactly the old or the new
one and starts, and going on undisturbed ends as if nothing had happened. ``make faults`` runs every point with every
error, and all of it under strace as well; the suite every point, with the errors in turn.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypatcher.install.layout import Layout
from tests.support.one_update import (
    SCENARIOS,
    Disturbance,
    Kit,
    UpdateScenario,
    check,
    complete_in_child,
    disturb,
    fresh,
    perform_in_child,
    steps_of,
)

ALL = os.environ.get("PYPATCHER_FAULTS") == "all"
ERRORS = ("EIO", "EROFS", "EACCES", "EDQUOT", "ENOMEM", "EMFILE", "ENOSPC")
REPOSITORY = Path(__file__).resolve().parents[2]
STRACED = "openat,write,fsync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,fchmod,fchown"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit.build(tmp_path_factory.mktemp("kit"))


def report(what: str, tried: int, bad: list[str]) -> None:
    print(f"{what}: {tried} points tried, {len(bad)} bad states")
    assert not bad, "\n".join(bad[:10])
    assert tried


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_killed_just_before_or_after_any_call_it_is_old_or_new(
    scenario: UpdateScenario, kit: Kit, tmp_path: Path
) -> None:
    tried, bad = 0, []
    for point, name in enumerate(steps_of(tmp_path / "device", kit, scenario), 1):
        # Nothing changes on the disk between one call and the next: just after it is just before the next one.
        hows = ["before", *(["after"] if ALL else []), *(["half"] if name == "write" else [])]
        for how in hows:
            tried += 1
            bad += filter(None, [disturb(tmp_path / "device", kit, scenario, Disturbance(point, how))])
    report(f"killed, {scenario}", tried, bad)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_with_an_error_from_any_call_it_is_old_or_new(scenario: UpdateScenario, kit: Kit, tmp_path: Path) -> None:
    tried, bad = 0, []
    for point, _ in enumerate(steps_of(tmp_path / "device", kit, scenario), 1):
        for error in ERRORS if ALL else [ERRORS[point % len(ERRORS)]]:
            tried += 1
            bad += filter(None, [disturb(tmp_path / "device", kit, scenario, Disturbance(point, error))])
    report(f"errors, {scenario}", tried, bad)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_nothing_can_be_written_from_any_call_on_and_it_is_old_or_new(
    scenario: UpdateScenario, error: str, kit: Kit, tmp_path: Path
) -> None:
    tried, bad = 0, []
    steps = steps_of(tmp_path / "device", kit, scenario)
    for point in range(1, len(steps) + 1, 1 if ALL else 9):
        tried += 1
        bad += filter(None, [disturb(tmp_path / "device", kit, scenario, Disturbance(point, error + "+"))])
    report(f"{error} from a call on, {scenario}", tried, bad)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A filesystem of that size, mounted."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "pypatcher-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_full_after_any_number_of_blocks_it_is_old_or_new(scenario: UpdateScenario, kit: Kit, tmp_path: Path) -> None:
    tried, bad, written = 0, [], []
    sha512 = hashlib.sha512(kit.new.read_bytes()).hexdigest()
    with small_disk(tmp_path / "disk", 4096) as disk:
        program = fresh(disk / "device", kit)
        least = sum(path.stat().st_blocks for path in disk.rglob("*")) // 2
    for kilobytes in range(least + 4, least + 4 + 4 * 16, 4):
        with small_disk(tmp_path / "disk", kilobytes) as disk:
            tried += 1
            program, notes = fresh(disk / "device", kit), tmp_path / "notes"
            status = perform_in_child(program, kit, scenario, notes)
            complaint = notes.read_text() if status else check(program, kit)
            state = Layout(program).state_folder / "trial.json"
            written.append(state.exists() and sha512 in state.read_text())
            subprocess.run(["mount", "-o", "remount,size=4096k", disk], check=True)
            complaint = complaint or complete_in_child(program, kit, scenario, notes)
            bad += [f"{kilobytes} kB: {complaint}"] if complaint else []
    # From a disk with no room for anything to one on which it all fits.
    assert not written[0]
    assert written[-1]
    report(f"full disk, {scenario}", tried, bad)


def straced(program: Path, kit: Kit, scenario: UpdateScenario, *options: str) -> int:
    command = [sys.executable, "-m", "tests.support.one_update"]
    arguments = [program, kit.old.parent, scenario.kind, scenario.launcher]
    # Python's own bytecode cache would be another writer.
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["strace", "-qq", *options, *command, *arguments], env=environment, capture_output=True, check=False
    )
    return done.returncode


def kernel_calls(program: Path, kit: Kit, scenario: UpdateScenario, log: Path) -> list[tuple[str, int]]:
    """The file-changing system calls of a scenario: name, and which of that name it is."""
    assert straced(program, kit, scenario, "-o", str(log), "-e", f"trace={STRACED}") == 0
    counts: dict[str, int] = {}
    calls = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if match := re.match(r"(\w+)\(", line):
            name = match[1]
            counts[name] = counts.get(name, 0) + 1
            if name != "openat" or "O_CREAT" in line:
                calls.append((name, counts[name]))
    return calls


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", SCENARIOS if ALL else [SCENARIOS[0]], ids=str)
def test_the_kernel_sees_the_counted_calls_and_harms_nothing_at_each(
    scenario: UpdateScenario, kit: Kit, tmp_path: Path
) -> None:
    steps = steps_of(tmp_path / "device", kit, scenario)
    calls = kernel_calls(fresh(tmp_path / "device", kit), kit, scenario, tmp_path / "strace")
    assert [re.sub("at2?$", "", name) for name, _ in calls] == steps
    tried, bad = 0, []
    for number, (name, when) in enumerate(calls[:: 1 if ALL else 9]):
        for fault in ("signal=SIGKILL", f"error={ERRORS[number % len(ERRORS)]}"):
            tried += 1
            program = fresh(tmp_path / "device", kit)
            inject = f"inject={name}:{fault}:when={when}"
            straced(program, kit, scenario, "-o", "/dev/null", "-e", f"trace={name}", "-e", inject)
            complaint = check(program, kit) or complete_in_child(program, kit, scenario, tmp_path / "notes")
            bad += [f"{inject}: {complaint}"] if complaint else []
    shutil.rmtree(tmp_path / "device")
    report(f"strace, {scenario}", tried, bad)
