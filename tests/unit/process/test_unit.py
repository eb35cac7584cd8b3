"""The unit's text: what it must say for each way to start a program, and how words are quoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from pypatcher.errors import SettingError
from pypatcher.process.unit import UnitPlan, unit_text

KEY = "xg4icmwxh3kx1odasrjqtkcmw6eb9bj4h4k57i9yhqeozmer131y"


def lines_of(program: str = "/opt/sensor/app", *arguments: str, **plan: object) -> list[str]:
    text = unit_text(UnitPlan(Path(program), arguments, ("/opt/venv/bin/pypatcher",), **plan))  # type: ignore[arg-type]
    return text.splitlines()


def test_a_self_updating_program_is_started_as_it_is_and_may_restart() -> None:
    lines = lines_of("/opt/sensor/app", "--name", "kitchen sensor")
    assert 'ExecStart=/opt/sensor/app --name "kitchen sensor"' in lines
    assert "Environment=PYPATCHER_RESTART_STATUS=86" in lines
    assert "RestartForceExitStatus=86" in lines


def test_what_every_unit_needs_for_updates_is_there() -> None:
    for keys, guarded in (((), False), ((KEY,), False), ((KEY,), True)):
        lines = lines_of(keys=keys, guarded=guarded, user="sensor")
        assert {
            "Type=notify", "NotifyAccess=all", "Restart=always", "StartLimitIntervalSec=0",
            "StateDirectory=app", "ReadWritePaths=/opt/sensor", "ProtectSystem=strict", "User=sensor",
            "RestartSec=1" if guarded else "RestartSec=5",
        } <= set(lines)  # fmt: skip


def test_with_a_key_the_program_runs_under_run_which_stops_it() -> None:
    lines = lines_of(keys=(f"armv7={KEY}",))
    assert f"ExecStart=/opt/venv/bin/pypatcher run --public-key=armv7={KEY} -- /opt/sensor/app" in lines
    assert "KillMode=mixed" in lines
    assert not any("RESTART_STATUS" in line for line in lines)


def test_a_guard_runs_around_the_program_and_never_prevents_its_start() -> None:
    lines = lines_of(keys=(KEY,), guarded=True)
    guard = f"/opt/venv/bin/pypatcher guard --public-key={KEY} /opt/sensor/app"
    assert lines.index(f"ExecStartPre=-{guard}") < lines.index("ExecStart=/opt/sensor/app")
    assert f"ExecStop=-{guard} --ended" in lines
    assert f"ExecStopPost=-{guard} --ended" in lines


def test_a_guard_without_a_key_is_refused() -> None:
    with pytest.raises(SettingError, match="public key"):
        lines_of(guarded=True)


def test_options_variables_and_the_watchdog_are_written_down() -> None:
    lines = lines_of(
        keys=(KEY,), options=("--mode=at=03:30",), environment=("PYPATCHER_UPLOAD=0", "A=two words"), watchdog=30.0
    )
    assert f"ExecStart=/opt/venv/bin/pypatcher run --public-key={KEY} --mode=at=03:30 -- /opt/sensor/app" in lines
    assert {"Environment=PYPATCHER_UPLOAD=0", 'Environment="A=two words"', "WatchdogSec=30"} <= set(lines)


@pytest.mark.parametrize("plan", [{}, {"keys": (KEY,), "guarded": True}])
def test_options_of_run_are_refused_for_a_program_without_run(plan: dict[str, object]) -> None:
    with pytest.raises(SettingError, match="--mode is for `pypatcher run`"):
        lines_of(options=("--mode=at=03:30",), **plan)


@pytest.mark.parametrize("assignment", ["PYPATCHER_UPLOAD", "=1", "A B=1", "9=1", "A=1\nExecStart=/bin/evil"])
def test_a_variable_that_is_none_is_refused(assignment: str) -> None:
    with pytest.raises(SettingError):
        lines_of(environment=(assignment,))


def test_a_program_that_never_says_ready_gets_another_type() -> None:
    lines = lines_of(kind="exec")
    assert "Type=exec" in lines
    assert "NotifyAccess=all" not in lines


def test_nothing_in_a_word_means_anything_to_systemd() -> None:
    lines = lines_of("/opt/my 100%/app", "$HOME", 'say "no"', "back\\slash", "a;b")
    expected = r'ExecStart="/opt/my 100%%/app" $$HOME "say \"no\"" "back\\slash" "a;b"'
    assert expected in lines
    assert 'ReadWritePaths="/opt/my 100%%"' in lines


@pytest.mark.parametrize("text", ["a\nExecStart=/bin/evil", "tab\there\x1b", "\x00"])
def test_a_line_cannot_be_forged(text: str) -> None:
    with pytest.raises(SettingError):
        lines_of("/opt/sensor/app", text)


@pytest.mark.parametrize("user", ["", "a b", "root\nX=1", "%u"])
def test_a_user_that_is_no_name_is_refused(user: str) -> None:
    with pytest.raises(SettingError, match="name"):
        lines_of(user=user)
