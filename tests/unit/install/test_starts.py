"""What became of the open start, for every kind of process that asks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pypatcher.install import starts
from pypatcher.install.starts import CLAIM_TICKS, Caller, Fate, current_caller, fate, process_lives, process_starttime
from pypatcher.install.trial import Start

BY_RUN = Start("boot", "unit", 10, 1, "run", True)
BY_GUARD = Start("boot", "unit", 10, 1, "guard", False)


def dead(pid: int, starttime: int) -> bool:
    return False


def alive(pid: int, starttime: int) -> bool:
    return True


def test_no_open_start_has_no_fate() -> None:
    assert fate(None, Caller("run", "boot", "a", 1, 1), dead) is Fate.NONE


@pytest.mark.parametrize("start", [BY_RUN, BY_GUARD])
def test_another_boot_is_a_reboot_whoever_asks(start: Start) -> None:
    for launcher in ("run", "guard", "spawn"):
        assert fate(start, Caller(launcher, "later", "unit", 10, 1, main=True), alive) is Fate.REBOOTED


def test_the_same_process_is_its_own_start_also_after_an_exec() -> None:
    assert fate(BY_RUN, Caller("spawn", "boot", "other", 10, 1), alive) is Fate.OWN


def test_a_reused_pid_is_another_process() -> None:
    assert fate(BY_RUN, Caller("run", "boot", "other", 10, 2), dead) is Fate.ENDED


def test_a_start_whose_process_lives_makes_the_caller_a_second_one() -> None:
    assert fate(BY_RUN, Caller("spawn", "boot", "other", 11, 5), alive) is Fate.ALIVE


def test_a_start_whose_process_is_gone_ended() -> None:
    assert fate(BY_RUN, Caller("spawn", "boot", "other", 11, 5), dead) is Fate.ENDED


def test_the_units_main_process_claims_the_guards_start_once() -> None:
    main = Caller("spawn", "boot", "unit", 11, 5, main=True)
    assert fate(BY_GUARD, main, dead) is Fate.CLAIMABLE
    claimed = main.claim(BY_GUARD)
    assert claimed == Start("boot", "unit", 11, 5, "guard", True)
    assert fate(claimed, main, alive) is Fate.OWN
    assert fate(claimed, Caller("spawn", "boot", "unit", 12, 6, main=True), alive) is Fate.ALIVE


def test_a_shell_that_inherited_the_invocation_claims_nothing() -> None:
    assert fate(BY_GUARD, Caller("spawn", "boot", "unit", 11, 5, main=False), dead) is Fate.ALIVE


def test_a_guard_sees_that_the_last_program_never_reached_spawn() -> None:
    assert fate(BY_GUARD, Caller("guard", "boot", "next", 11, 5), dead) is Fate.ENDED
    assert fate(BY_GUARD, Caller("guard", "boot", "unit", 11, 5), dead) is Fate.OWN
    assert fate(BY_GUARD, Caller("run", "boot", "unit", 11, 5), dead) is Fate.ENDED
    assert fate(BY_GUARD, Caller("spawn", "boot", "next", 11, 5, main=True), dead) is Fate.ENDED


def test_a_guards_start_that_nobody_claimed_lapses_for_a_shell_alone() -> None:
    for ticks, expected in ((CLAIM_TICKS, Fate.ALIVE), (CLAIM_TICKS + 1, Fate.LAPSED)):
        assert fate(BY_GUARD, Caller("spawn", "boot", "other", 11, 1 + ticks), alive) is expected
    late = 1 + 2 * CLAIM_TICKS
    assert fate(BY_GUARD, Caller("spawn", "boot", "unit", 11, late, main=True), alive) is Fate.CLAIMABLE
    assert fate(BY_GUARD, Caller("guard", "boot", "next", 11, late), alive) is Fate.ENDED
    assert fate(BY_RUN, Caller("spawn", "boot", "other", 11, late), alive) is Fate.ALIVE
    unknown = Start("boot", "unit", 10, 0, "guard", False)
    assert fate(unknown, Caller("spawn", "boot", "other", 11, late), alive) is Fate.ALIVE


def test_a_guards_start_is_open_for_a_claim_and_others_are_not() -> None:
    assert not Caller("guard", "boot", "unit", 1, 1).start().claimed
    assert Caller("spawn", "boot", "unit", 1, 1).start().claimed


def test_only_the_process_that_systemd_started_is_the_main_process() -> None:
    pid = os.getpid()
    main = current_caller("spawn", {"INVOCATION_ID": "i1", "SYSTEMD_EXEC_PID": str(pid)})
    assert (main.main, main.start_id, main.pid) == (True, "i1", pid)
    shell = current_caller("spawn", {"INVOCATION_ID": "i1", "SYSTEMD_EXEC_PID": str(pid + 1)})
    assert not shell.main
    assert shell.start_id != "i1"
    onefile = current_caller("spawn", {"INVOCATION_ID": "i1", "SYSTEMD_EXEC_PID": "7"}, main_pid=7)
    assert onefile.main
    assert current_caller("guard", {"INVOCATION_ID": "i1"}).start_id == "i1"


def test_a_process_lives_until_it_ended_even_when_nobody_waited() -> None:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as child:
        starttime = process_starttime(child.pid)
        assert starttime is not None
        assert process_lives(child.pid, starttime)
        assert not process_lives(child.pid, starttime + 1)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not process_lives(child.pid, starttime)


def test_the_guard_of_another_unit_ends_no_start_of_this_one() -> None:
    """Attack by nobody: four instances that start together would refuse a good release."""
    first = Caller("guard", "boot", "one", 10, 1000, unit="app@1.service").start()
    again = Caller("guard", "boot", "next", 12, 1002, unit="app@1.service")
    other = Caller("guard", "boot", "two", 11, 1001, unit="app@2.service")
    older = Caller("guard", "boot", "two", 11, 1001)
    assert fate(first, again, dead) is Fate.ENDED
    assert fate(first, other, dead) is Fate.ALIVE
    assert fate(first, older, dead) is Fate.ENDED
    late = Caller("guard", "boot", "two", 11, 1001 + CLAIM_TICKS, unit="app@2.service")
    assert fate(first, late, dead) is Fate.LAPSED


@pytest.mark.parametrize(
    ("cgroup", "service"),
    [
        ("0::/system.slice/system-app.slice/app@1.service", "app@1.service"),
        ("0::/user.slice/user-0.slice/user@0.service/app.slice/app.service/worker", "app.service"),
        ("9:name=systemd:/system.slice/app.service\n4:memory:/other.service", "app.service"),
        ("0::/", ""),
    ],
)
def test_the_service_is_told_by_the_cgroup(tmp_path: Path, cgroup: str, service: str) -> None:
    (tmp_path / "cgroup").write_text(cgroup + "\n")
    assert starts._service(tmp_path / "cgroup") == service
