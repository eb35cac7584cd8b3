"""A plain ELF program under the supervisor of ``pypatcher run``: passed through, replaced, never left alone."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.packagings import REPOSITORY, wait_until

SOURCE = Path(__file__).parent / "supervised_app.c"


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("native")
    for version in "12":
        command = ["cc", "-o", str(folder / version), f'-DVERSION="{version}"', str(SOURCE)]
        subprocess.run(command, check=True)
    return {version: folder / version for version in "12"}


class Unit:
    """The supervisor as a service would run it."""

    def __init__(self, folder: Path, programs: dict[str, Path]) -> None:
        self.folder = folder
        self.programs = programs
        self.path = Path(shutil.copy(programs["1"], folder / "app"))
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, *arguments: str, preexec: Callable[[], None] | None = None, **variables: str
    ) -> subprocess.Popen[bytes]:
        names = {"APP_STARTS": "starts", "APP_NOTES": "notes", "HOOKS": "hooks", "REPLACE": "next"}
        environment = {name: str(self.folder / value) for name, value in names.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.supervised", str(self.path), *arguments],
            cwd=REPOSITORY,
            env={"PATH": os.environ["PATH"], **environment, **variables},
            preexec_fn=preexec,  # noqa: PLW1509 - the tests have one thread
            stdin=subprocess.DEVNULL,
            stderr=(self.folder / "errors").open("ab"),
        )
        return self.process

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def starts(self) -> list[list[str]]:
        return [line.split() for line in self.lines("starts")]

    def wait_for_running(self, count: int = 1) -> int:
        wait_until(lambda: self.lines("notes").count("running 0") >= count, lambda: f"{count}: {self.lines('errors')}")
        return int(self.starts()[-1][1])

    def replace(self, version: str = "2") -> None:
        shutil.copy(self.programs[version], self.folder / "copy")
        (self.folder / "copy").rename(self.folder / "next")

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for start in self.starts():
            try:
                os.kill(int(start[1]), signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def unit(tmp_path: Path, programs: dict[str, Path]) -> Iterator[Unit]:
    made = Unit(tmp_path, programs)
    yield made
    made.close()


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("status", [0, 3, 86, 255])
def test_ends_with_the_programs_exit_status(unit, status):
    assert unit.start("exit", str(status)).wait(20) == status
    assert unit.lines("hooks") == ["before_start", f"ended {status}"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGUSR1])
def test_ends_by_the_signal_that_ended_the_program(unit, number):
    assert unit.start("die", str(int(number))).wait(20) == -number


def test_program_that_is_not_there_ends_with_127(unit):
    unit.path.unlink()
    assert unit.start().wait(20) == 127
    assert "No such file" in unit.lines("errors")[0]


@pytest.mark.parametrize("content", [b"", b"no program", b"\x7fELF"])
def test_program_that_cannot_be_executed_ends_with_126(unit, content):
    unit.path.write_bytes(content)
    assert unit.start().wait(20) == 126


def test_arguments_and_parent_are_passed_through(unit):
    process = unit.start("wait", "two words", "--option")
    pid = unit.wait_for_running()
    assert unit.starts() == [
        ["1", str(pid), str(process.pid), "15", str(unit.path), "wait", "two", "words", "--option"]
    ]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN + 3])
def test_signals_reach_the_program(unit, number):
    process = unit.start("wait")
    unit.wait_for_running()
    process.send_signal(number)
    wait_until(lambda: f"signal {int(number)}" in unit.lines("notes"), "the signal")
    assert process.poll() is None


def test_a_nuitka_onefile_hears_signals_as_they_are(unit):
    process = unit.start("nuitka", "interrupted")
    unit.wait_for_running()
    process.send_signal(signal.SIGUSR1)  # which would end the launcher alone
    wait_until(lambda: "signal 10" in unit.lines("notes"), "the signal")
    unit.replace()
    unit.wait_for_running(2)
    process.terminate()
    assert process.wait(20) == 0
    assert unit.lines("notes") == ["running 0", "signal 10", "signal 15", "running 0", "signal 15"]


def test_interrupt_typed_at_a_terminal_reaches_the_program_once(unit):
    keyboard, terminal = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    process = unit.start("interrupted", preexec=take_terminal)
    unit.wait_for_running()
    os.write(keyboard, b"\x03")
    wait_until(lambda: "signal 2" in unit.lines("notes"), "the signal")
    process.send_signal(signal.SIGUSR1)
    wait_until(lambda: "signal 10" in unit.lines("notes"), "a later signal")
    assert unit.lines("notes").count("signal 2") == 1
    process.terminate()
    assert process.wait(20) == 0
    os.close(keyboard)
    os.close(terminal)


def test_stop_is_told_before_it_reaches_the_program_which_decides(unit):
    process = unit.start("wait", AGAIN="5")
    unit.wait_for_running()
    process.terminate()
    assert process.wait(20) == 0
    assert unit.lines("hooks") == ["before_start", "before_stop"]


@pytest.mark.parametrize("launcher", [(), ("nuitka",)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_signal_without_a_handler_ends_both_alike(unit, number, launcher):
    process = unit.start(*launcher, "wait", AGAIN="5")
    unit.wait_for_running()
    process.send_signal(number)
    assert process.wait(20) == -number


def test_program_is_not_left_alone_when_the_supervisor_is_killed(unit):
    process = unit.start("wait")
    pid = unit.wait_for_running()
    process.kill()
    wait_until(lambda: not is_running(pid), "the program's end")
    assert "signal 15" in unit.lines("notes")


def test_replaces_the_program_and_stays_itself(unit):
    process = unit.start("wait", "argument")
    for number in range(1, 6):
        old = unit.wait_for_running(number)
        unit.replace("21"[(number - 1) % 2])
        unit.wait_for_running(number + 1)
        assert not is_running(old)
    assert [start[0] for start in unit.starts()] == ["1", "2", "1", "2", "1", "2"]
    assert {tuple(start[2:]) for start in unit.starts()} == {tuple(unit.starts()[0][2:])}
    assert unit.lines("hooks")[:5] == ["before_start", "before_stop", "activate", "before_start", "replaced"]
    process.terminate()
    assert process.wait(20) == 0


def test_kills_a_program_that_ignores_the_stop_signal(unit):
    process = unit.start("stubborn", STOP_TIMEOUT="0.2")
    old = unit.wait_for_running()
    unit.replace()
    new = unit.wait_for_running(2)
    assert not is_running(old)
    assert unit.starts()[1][0] == "2"
    process.kill()
    os.kill(new, signal.SIGKILL)


def test_starts_again_as_long_as_the_trial_says_so(unit):
    assert unit.start("exit", "3", AGAIN="3").wait(20) == 3
    assert unit.lines("hooks") == ["before_start", "ended 3"] * 4


def test_stop_between_two_starts_ends_it(unit):
    process = unit.start("exit", "3", AGAIN="1000000")
    wait_until(lambda: len(unit.starts()) > 2, "some starts")
    process.terminate()
    assert process.wait(20) in (-signal.SIGTERM, 3)


def test_ready_is_heard_and_passed_on_without_the_programs_main_pid(unit):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(unit.folder / "notify"))
        manager.settimeout(20)
        process = unit.start("ready", NOTIFY_SOCKET=str(unit.folder / "notify"))
        assert manager.recv(4096) == b"READY=1"
        assert manager.recv(4096) == b"READY=1\nSTATUS=at work"
    wait_until(lambda: "ready" in unit.lines("hooks"), "the hook")
    process.terminate()
    process.wait(20)


def test_ready_is_heard_without_a_service_manager(unit):
    unit.start("ready")
    wait_until(lambda: "ready" in unit.lines("hooks"), "the hook")


def test_manager_hears_of_no_stop_while_the_program_is_replaced(unit):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(unit.folder / "notify"))
        manager.settimeout(20)
        unit.start("stopping", NOTIFY_SOCKET=str(unit.folder / "notify"))
        assert manager.recv(4096) == b"READY=1"
        assert manager.recv(4096) == b"STATUS=bye"


def test_watchdog_is_kept_while_no_program_runs(unit):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(unit.folder / "notify"))
        manager.settimeout(20)
        unit.start("stubborn", NOTIFY_SOCKET=str(unit.folder / "notify"), WATCHDOG_USEC="200000", STOP_TIMEOUT="0.5")
        assert manager.recv(4096) == b"WATCHDOG=1"
        unit.wait_for_running()
        while manager.recv(4096) != b"READY=1":
            continue
        unit.replace()
        assert [manager.recv(4096) for _ in range(5)] == [b"WATCHDOG=1"] * 5


def test_descriptors_that_we_opened_are_not_inherited(unit):
    unit.start("wait")
    pid = unit.wait_for_running()
    own = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if int(entry.name) > 2}
    assert not any(name.startswith(("socket:", "anon_inode:", "pipe:")) for name in own)


LAUNCHER = """#!/bin/sh
# A launcher script, as many programs have one: it leaves something behind, in a session of its own, and becomes them.
(setsid sh -c 'echo left $$ 0 >> "$APP_NOTES"; {before}exec sleep 600' &)
exec "$0.real" "$@"
"""


@pytest.mark.parametrize("before", ["", "trap '' TERM; "], ids=["ends at once", "ignores SIGTERM"])
def test_what_a_launcher_script_left_behind_ends_with_it(unit, before):
    def left() -> list[int]:
        return [int(line.split()[1]) for line in unit.lines("notes") if line.startswith("left")]

    def launcher(path: Path) -> None:
        path.write_text(LAUNCHER.format(before=before))
        path.chmod(0o755)

    unit.path.rename(unit.folder / "app.real")
    launcher(unit.path)
    unit.start("serve")
    unit.wait_for_running()
    wait_until(left, "the launcher's helper")
    launcher(unit.folder / "copy")
    (unit.folder / "copy").rename(unit.folder / "next")
    unit.wait_for_running(2)
    wait_until(lambda: len(left()) == 2, "the second one's helper")
    first, second = left()
    assert not is_running(first)
    assert is_running(second)
    assert unit.process is not None
    unit.process.terminate()
    assert unit.process.wait(20) == 0
    assert not is_running(second)
