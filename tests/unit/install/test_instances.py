"""How the instances of one program know each other: by marks that no fork inherits and that end with their process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypatcher.install import Installation
from pypatcher.install.instances import Instances, Together, seen_instances
from pypatcher.install.state_folder import StateFolder, open_folders
from tests.support.installations import V1, V2, MakeInstallation, caller, download
from tests.support.text_programs import verify_program

_ROOT = Path(__file__).parents[3]
_INSTANCE = """\
import os, sys
from pathlib import Path
from pypatcher.install import Installation
from tests.support.text_programs import verify_program
it = Installation(Path(sys.argv[1]), verify_program)
print(it.settle("spawn").version, flush=True)
for line in sys.stdin:
    print({"ready": it.together.say_ready, "withdraw": it.together.withdraw}[line.strip()](), flush=True)
"""


class Other:
    """Another instance, in a process of its own, which does what it is told."""

    def __init__(self, program: Path, code: str = _INSTANCE) -> None:
        command = [sys.executable, "-c", code, str(program)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True)
        self.version = self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def told(self, what: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def detached(make: MakeInstallation) -> Iterator[Other]:
    """An instance that this process did not start: its parent has ended."""
    program = make().program
    script = f"import os, sys\nif os.fork(): os._exit(0)\n{_INSTANCE}"
    other = Other(program, script)
    yield other
    other.end()


def wait_for(device: Installation, ready: list[bool]) -> None:
    deadline = time.monotonic() + 20
    while [one.ready for one in seen(device)] != ready:
        assert time.monotonic() < deadline, seen(device)
        time.sleep(0.02)


def seen(device: Installation) -> tuple[object, ...]:
    return tuple(one for one in seen_instances(device.layout) if one.pid != os.getpid())


def test_an_instance_waits_until_the_other_is_ready(make: MakeInstallation, detached: Other) -> None:
    device = make()
    assert device.settle("spawn").version == V1
    [pid] = device.together.say_ready()
    assert pid > 0
    assert detached.told("ready") == "()"
    assert device.together.say_ready() == ()
    wait_for(device, [True])
    detached.told("withdraw")
    assert device.together.say_ready() == (pid,)
    device.together.withdraw()
    assert detached.told("ready") == f"({os.getpid()},)"


def test_a_mark_ends_with_its_process(make: MakeInstallation, detached: Other) -> None:
    device = make()
    device.settle("spawn")
    [pid] = device.together.say_ready()
    os.kill(pid, 9)
    deadline = time.monotonic() + 20
    while device.together.say_ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_process_started_is_no_other_instance(make: MakeInstallation) -> None:
    device = make()
    device.settle("spawn")
    child = Other(device.program)
    try:
        assert seen(device)
        assert device.together.say_ready() == ()
        assert child.told("ready") == "()"  # we are
    finally:
        child.end()


def test_a_fork_without_exec_is_no_instance(make: MakeInstallation) -> None:
    device = make()
    device.settle("spawn")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        assert seen(device) == ()
        assert device.together.say_ready() == ()
        # It does keep the program from being changed, as it runs from it.
        download(device, "2.0.0")
        assert make().settle("spawn", caller=caller(7, "spawn")).waits
    finally:
        os.close(writing)
        os.waitpid(pid, 0)
        os.close(reading)


def test_a_release_held_up_by_an_instance_is_waited_for(make: MakeInstallation, detached: Other) -> None:
    device = make()
    download(device, "2.0.0")
    assert device.settle("spawn").waits
    assert device.release_for_restart() is not None
    detached.end()
    for one in seen(device):
        os.kill(one.pid, 9)  # type: ignore[attr-defined]


def test_others_that_were_ready_and_stay_are_not_tried_soon(
    make: MakeInstallation, detached: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    device = make()
    download(device, "2.0.0")
    detached.told("ready")
    assert device.settle("spawn").waits
    assert device.release_for_restart() is None
    now = 902.0
    assert device.release_for_restart() is not None


def test_waiting_for_the_others_has_an_end(make: MakeInstallation, detached: Other) -> None:
    device = make()
    device.settle("spawn")
    detached.told("ready")
    slept: list[float] = []
    instances = Instances(device.layout)
    together = Together(device.layout, open_folders, instances, lambda: sum(slept), slept.append)
    together.wait_for_end()
    assert 60 <= sum(slept) < 61
    slept.clear()
    together.wait_for_end(lambda: len(slept) > 2)  # a stop ends it at once
    assert len(slept) == 3


def test_who_ended_lets_the_other_one_change_the_program(make: MakeInstallation, detached: Other) -> None:
    device = make()
    device.settle("spawn")
    download(device, "2.0.0")
    detached.told("ready")
    for one in seen(device):
        os.kill(one.pid, 9)  # type: ignore[attr-defined]
    device.together.wait_for_end()
    assert device.together.say_ready() == ()
    settled = device.settle("spawn", ends=True)
    assert (settled.version, settled.activated, settled.must_exec) == (V2, V2, True)


def test_another_has_changed_it_while_this_one_ended(make: MakeInstallation) -> None:
    device, other = make(), make()
    device.runs_from_here()
    device.settle("spawn")
    download(device, "2.0.0")
    with open_folders(device.layout, StateFolder.IF_THERE) as files:
        device._instances.release(files)
    assert other.settle("run").activated == V2
    settled = device.settle("spawn", ends=True)
    assert settled.must_exec
    # Its start is the next process's to count.
    with contextlib.closing(other.layout.path(other.layout.state).open()) as file:
        assert '"failed":0' in file.read().replace(" ", "")


def test_an_installation_that_cannot_be_used_waits_for_nobody(tmp_path: Path) -> None:
    device = Installation(tmp_path / "app", verify_program)
    assert device.together.say_ready() == ()
    device.together.withdraw()
    device.together.wait_for_end()
