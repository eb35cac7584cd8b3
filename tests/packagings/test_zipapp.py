"""A zipapp restarts in its own process, whatever its main thread does meanwhile."""

from __future__ import annotations

import signal
import socket
import sys

import pytest

CALLBACKS = ["callback-hangs", "callback-fails", "async-callback"]
PATIENT = ["sleep", "lock", "child", "c-call", "leftovers", "blocks-sigterm", "bare", "async-main", "async-spawn"]
STUBBORN = ["stubborn-swallow", "stubborn-sigwait", "stubborn-thread"]


@pytest.mark.parametrize("how", PATIENT)
def test_ends_in_good_order_and_starts_anew_in_the_same_process(device, how):
    world = device("zipapp")
    world.stage(1)
    process = world.start(how, "an argument", "")
    assert process.wait(30) == 7
    old, new = world.starts()
    assert (old["version"], new["version"]) == ("1", "2")
    assert new["argv"] == old["argv"] == ["./app", how, "an argument", ""]
    assert new["pid"] == old["pid"] == process.pid
    assert world.notes().count("atexit registered before pypatcher was imported") == 2
    assert world.notes().count("atexit registered by the application") == 2
    assert world.notes().count("on_restart") == 1
    assert world.buffered() == ["1", "2"]
    assert not [text for text in world.notes() if "after activation" in text]
    assert world.errors() == ""
    world.wait_for_end()


@pytest.mark.parametrize("how", STUBBORN)
def test_replaces_by_force_what_does_not_end(device, how):
    world = device("zipapp")
    world.stage(1)
    assert world.start(how).wait(30) == 7
    old, new = world.starts()
    assert new["version"] == "2"
    assert new["blocked"] == 0
    assert new["ignored"] == old["ignored"]
    assert world.buffered() == ["1", "2"]
    world.wait_for_end()


def test_failure_of_its_own_while_it_ends_is_shown_and_stops_nothing(device):
    world = device("zipapp")
    world.stage(1)
    assert world.start("fails-at-end").wait(30) == 7
    assert "the application's own failure" in world.errors()
    assert [start["version"] for start in world.starts()] == ["1", "2"]


def test_new_process_finds_what_the_first_one_found(device):
    world = device("zipapp")
    world.stage(1)
    world.start("blocks-sigterm", wrapper=("nohup",), COLOUR="blue").wait(30)
    old, new = world.starts()
    for what in ("environment", "directory", "umask", "blocked", "ignored", "descriptors", "session"):
        assert new[what] == old[what], what
    assert new["blocked"] == 0
    assert new["ignored"] >> (signal.SIGHUP - 1) & 1  # as nohup wanted it
    assert new["environment"]["COLOUR"] == "blue"
    assert "APP_CHANGED_BY_ITSELF" not in new["environment"]


def test_descriptors_made_inheritable_do_not_outlive_the_restart(device):
    world = device("zipapp")
    world.stage(5)
    world.start("leftovers").wait(30)
    assert len({start["descriptors"] for start in world.starts()}) == 1


def test_interpreter_and_its_options_are_kept(device):
    world = device("zipapp")
    world.stage(1)
    world.start("sleep", wrapper=(sys.executable, "-X", "utf8=1", "-W", "ignore", "-B")).wait(30)
    assert [start["argv"] for start in world.starts()] == [["./app", "sleep"]] * 2


@pytest.mark.parametrize("how", CALLBACKS)
def test_on_restart_callbacks_delay_it_and_no_more(device, how):
    world = device("zipapp")
    world.stage(1)
    assert world.start(how).wait(30) == 7
    assert [start["version"] for start in world.starts()] == ["1", "2"]
    assert "on_restart" in world.notes()
    if how == "async-callback":
        notes = world.notes()
        told = notes.index("async on_restart, before the application was told to end")
        assert told < notes.index("cancelled async-callback")


def test_restarts_at_once_when_its_file_is_another_one_at_the_start(device):
    world = device("zipapp")
    world.stage(2)
    assert world.start("at-start").wait(30) == 7
    assert [start["version"] for start in world.starts()] == ["1", "2", "1"]


def test_passes_on_the_socket_that_it_was_started_with(device):
    world = device("zipapp")
    world.stage(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        passed = f'exec 3<&{listening.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        world.start("sleep", wrapper=("bash", "-c", passed, "bash"), descriptors=(listening.fileno(),)).wait(30)
    new = world.starts()[1]
    assert new["socket"]
    assert new["environment"]["LISTEN_PID"] == str(new["pid"])
