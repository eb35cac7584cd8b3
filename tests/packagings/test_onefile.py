"""A onefile is a launcher and the application: neither, nor an unpacked folder, stays behind after a restart."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import socket
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.support.packagings import REPOSITORY, build, wait_until

UPDATES = 5


@pytest.mark.parametrize("how", ["sleep", "async-main"])
def test_hands_over_to_a_helper_outside_systemd(device, onefile, how):
    world = device(onefile)
    world.stage(1)
    launcher = world.start(how, "an argument", "", COLOUR="blue", LD_LIBRARY_PATH="/nowhere")
    assert launcher.wait(30) == 0
    old, new = world.wait_for_starts(2)
    wait_until(lambda: "end" in world.notes(), "the new version's end")
    assert (old["version"], new["version"]) == ("1", "2")
    assert new["bundled"] == "bundled with 2"
    assert new["argv"][1:] == old["argv"][1:] == [how, "an argument", ""]
    for what in ("directory", "umask", "blocked", "ignored", "descriptors", "session"):
        assert new[what] == old[what], what
    assert _without_bundle(new) == _without_bundle(old)
    assert new["environment"]["COLOUR"] == "blue"
    assert old["unpacked"] not in str(new["environment"])
    assert "finally colorsys" in world.notes() or how != "sleep"
    world.wait_for_end()
    assert world.notes().count("atexit registered before pypatcher was imported") == 2
    assert world.notes().count("atexit registered by the application") == 2
    assert world.buffered() == ["1", "2"]
    assert not [text for text in world.notes() if "after activation" in text]
    assert world.errors() == ""
    assert world.unpacked() == []


def test_leaves_nothing_behind_after_five_updates(device, onefile):
    world = device(onefile)
    world.stage(UPDATES)
    world.start("sleep-stay")
    last = world.wait_for_starts(UPDATES + 1)[-1]
    assert last["version"] == "2"
    wait_until(lambda: len(world.processes()) == 2, "launcher and application alone")
    assert len(world.unpacked()) == 1
    # As kill, or systemd, would stop it; the process that we know ended long ago.
    os.kill(_parent(last["pid"]), signal.SIGTERM)
    world.wait_for_end()
    assert world.unpacked() == []


def test_leaves_with_the_status_that_its_unit_asked_for(device, onefile):
    world = device(onefile)
    world.stage(1)
    unit = {"INVOCATION_ID": "0" * 32, "PYPATCHER_RESTART_STATUS": "86"}
    main_process = ("sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$@"', "sh")
    assert world.start("sleep", wrapper=main_process, **unit).wait(30) == 86
    world.wait_for_end()
    assert world.unpacked() == []
    assert world.start("sleep", wrapper=main_process, **unit).wait(30) == 7
    assert [start["version"] for start in world.starts()] == ["1", "2"]
    assert {start["plan"] for start in world.starts()} == {"STATUS"}


def test_executes_the_new_file_at_a_start_where_nobody_else_would(device, onefile):
    world = device(onefile)
    world.stage(1)
    main_process = ("sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$@"', "sh")
    process = world.start("sleep", wrapper=main_process, INVOCATION_ID="0" * 32)
    assert process.wait(30) == 7
    old, new = world.starts()
    assert old["plan"] == "NEXT_START"
    assert new["version"] == "2"
    assert new["bundled"] == "bundled with 2"
    world.wait_for_end()
    assert world.unpacked() == []


def test_waits_for_the_next_start_where_its_terminal_would_close(device, onefile):
    world = device(onefile)
    keyboard, terminal = pty.openpty()

    def lead_terminal() -> None:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    assert world.start("sleep", preexec=lead_terminal).wait(30) == 7
    assert world.starts()[0]["plan"] == "NEXT_START"
    os.close(keyboard)
    os.close(terminal)


def test_restarts_although_its_launcher_was_killed(device, onefile):
    world = device(onefile)
    world.stage(1)
    world.hold.touch()
    launcher = world.start("sleep")
    old = world.wait_for_starts(1)[0]
    launcher.kill()
    launcher.wait()
    world.hold.unlink()
    assert world.wait_for_starts(2)[1]["version"] == "2"
    world.wait_for_end()
    # The killed launcher's folder is its own leak; the restart adds none.
    assert world.unpacked() == [Path(old["unpacked"]).name]


def test_passes_on_the_socket_that_it_was_started_with(device, onefile):
    world = device(onefile)
    world.stage(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        passed = f'exec 3<&{listening.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        world.start("sleep", wrapper=("bash", "-c", passed, "bash"), descriptors=(listening.fileno(),))
        new = world.wait_for_starts(2)[1]
    assert new["socket"]
    # PyInstaller's launcher puts the application's number there, Nuitka's leaves its own.
    assert new["environment"]["LISTEN_PID"] in (str(new["pid"]), str(new["parent"]))
    world.wait_for_end()


def test_is_replaced_by_force_when_it_does_not_end(device, onefile):
    world = device(onefile)
    world.stage(1)
    assert world.start("stubborn-thread").wait(30) == 0
    wait_until(lambda: "end" in world.notes(), "the new version's end")
    world.wait_for_end()
    assert world.unpacked() == []


def test_worker_that_it_starts_from_its_own_file_does_not_update(device, onefile):
    world = device(onefile)
    world.start("worker-started").wait(30)
    assert len(world.starts()) == 1
    world.wait_for_end()


@pytest.mark.parametrize(("how", "timeout"), [("sleep-stay", "20"), ("ignores-stop-stay", "0.2")])
def test_leaves_nothing_behind_below_run_either(device, onefile, how, timeout):
    world = device(onefile)
    replacement = world.state / "replacement"
    variables = {"REPLACE": str(replacement), "HOOKS": str(world.state / "hooks"), "STOP_TIMEOUT": timeout}
    run = (sys.executable, "-m", "tests.support.supervised")
    process = world.start(how, wrapper=run, PYTHONPATH=str(REPOSITORY), **variables)
    world.wait_for_starts(1)
    shutil.copy(build(onefile, "2"), world.state / "copy")
    (world.state / "copy").rename(replacement)
    assert world.wait_for_starts(2)[1]["version"] == "2"
    assert len(world.processes()) == 3
    assert len(world.unpacked()) == 2  # and the folder of run's notify socket
    process.terminate()
    wait_until(lambda: process.poll() is not None or how != "sleep-stay", "its end")
    if how != "sleep-stay":
        hooks = world.state / "hooks"
        wait_until(lambda: hooks.read_text().count("before_stop") == 2, "the stop")
        time.sleep(1.0)  # a launcher that is sent the stop while it deletes the folder of an application that died ends
        os.kill(world.starts()[1]["pid"], signal.SIGKILL)
    world.wait_for_end()
    assert world.unpacked() == []


def _without_bundle(start: dict) -> dict:
    """The environment without what the launcher adds for the application."""
    own = ("_PYI_", "NUITKA_", "LD_LIBRARY_PATH")
    return {name: value for name, value in start["environment"].items() if not name.startswith(own)}


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
