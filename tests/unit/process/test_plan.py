"""How a program can be restarted, decided from its surroundings alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pypatcher.errors import SettingError
from pypatcher.process.plan import RESTART_STATUS_VARIABLE, RestartFacts, Restarting, RestartPlan, decide_restart

INVOCATION = {"INVOCATION_ID": "0" * 32}
STATUS = {RESTART_STATUS_VARIABLE: "86"}
MAIN = {"SYSTEMD_EXEC_PID": "40"}

SHELL = RestartFacts(
    is_onefile=True,
    launcher=40,
    launcher_parent=30,
    launcher_parent_name="bash",
    cgroup="/user.slice/user-0.slice/session-1.scope",
    own_pid_namespace=False,
    leads_terminal=False,
    environment={},
)
SERVICE = replace(SHELL, launcher_parent=1, launcher_parent_name="systemd", cgroup="/system.slice/app.service")


@pytest.mark.parametrize("environment", [{}, INVOCATION, INVOCATION | MAIN | STATUS])
def test_program_of_one_process_executes_its_new_file(environment):
    around = replace(SERVICE, is_onefile=False, launcher=None, environment=environment)
    assert decide_restart(around) == RestartPlan(Restarting.EXEC)


def test_onefile_below_a_shell_leaves_a_helper():
    assert decide_restart(SHELL).how is Restarting.HELPER


def test_onefile_whose_launcher_was_killed_leaves_a_helper():
    assert decide_restart(replace(SHELL, launcher=None)).how is Restarting.HELPER


def test_main_process_of_a_unit_that_asks_leaves_with_the_status():
    plan = decide_restart(replace(SERVICE, environment=INVOCATION | MAIN | STATUS))
    assert plan == RestartPlan(Restarting.STATUS, 86)


def test_main_process_of_an_older_systemd_is_told_by_its_parent():
    assert decide_restart(replace(SERVICE, environment=INVOCATION | STATUS)).how is Restarting.STATUS


def test_status_is_for_anybody_who_sets_it_outside_systemd():
    around = replace(SHELL, launcher_parent_name="runsv", environment=STATUS)
    assert decide_restart(around) == RestartPlan(Restarting.STATUS, 86)


def test_unit_that_does_not_ask_for_a_status_waits_for_its_next_start():
    plan = decide_restart(replace(SERVICE, environment=INVOCATION | MAIN))
    assert not plan.at_once
    assert RESTART_STATUS_VARIABLE in plan.reason


def test_below_a_services_shell_it_waits_even_with_the_status():
    around = replace(SERVICE, launcher_parent=39, launcher_parent_name="sh", environment=INVOCATION | STATUS)
    assert not decide_restart(replace(around, environment=around.environment | {"SYSTEMD_EXEC_PID": "39"})).at_once
    assert not decide_restart(around).at_once


def test_shell_in_a_desktop_session_is_no_service():
    around = replace(SHELL, environment=INVOCATION | {"SYSTEMD_EXEC_PID": "12"})
    assert decide_restart(around).how is Restarting.HELPER


@pytest.mark.parametrize(("launcher", "parent"), [(1, 0), (7, 1)])
def test_first_process_of_a_container_waits_for_the_next_start(launcher, parent):
    around = replace(SHELL, launcher=launcher, launcher_parent=parent, own_pid_namespace=True)
    assert not decide_restart(around).at_once


def test_process_adopted_by_init_outside_a_container_leaves_a_helper():
    assert decide_restart(replace(SHELL, launcher_parent=1, launcher_parent_name="init")).how is Restarting.HELPER


def test_leader_of_a_terminal_waits_for_the_next_start():
    assert not decide_restart(replace(SHELL, leads_terminal=True)).at_once


@pytest.mark.parametrize(
    ("cgroup", "at_once"),
    [
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope", True),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.example.service", False),
        ("/system.slice/app.service/workers", False),
        ("/", True),
        ("", True),
    ],
)
def test_innermost_unit_tells_whether_it_would_end_with_the_launcher(cgroup, at_once):
    around = replace(SHELL, cgroup=cgroup, environment=INVOCATION | {"SYSTEMD_EXEC_PID": "12"})
    assert decide_restart(around).at_once is at_once


@pytest.mark.parametrize("name", ["runsv", "s6-supervise", "supervisord"])
def test_supervisor_that_starts_it_again_by_itself_is_left_to_do_so(name):
    plan = decide_restart(replace(SHELL, launcher_parent_name=name))
    assert not plan.at_once
    assert name in plan.reason


@pytest.mark.parametrize("text", ["0", "256", "-1", "eighty", "\uff18\uff16", "00860", "086", "9" * 5000])
def test_status_that_makes_no_sense_is_refused_clearly(text):
    with pytest.raises(SettingError, match=RESTART_STATUS_VARIABLE + ".*give an exit status from 1 to 255, such as 86"):
        decide_restart(replace(SHELL, environment={RESTART_STATUS_VARIABLE: text}))


def test_empty_status_counts_as_none():
    assert decide_restart(replace(SHELL, environment={RESTART_STATUS_VARIABLE: ""})).how is Restarting.HELPER
