"""Ending what a program leaves behind; whole programs do it in tests/packagings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SCRIPT = """
import logging, os, signal, subprocess
from pypatcher.process import children

logging.basicConfig(format="%(message)s")
helper = subprocess.Popen(["sleep", "60"])
kill = os.kill
os.kill = lambda pid, number: None  # as to one that waits for a broken disk
children.end_children(0.2)
kill(helper.pid, signal.SIGKILL)
print(helper.wait())
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_who_cannot_be_killed_is_named_and_left_behind() -> None:
    done = run(SCRIPT)
    assert done.stdout.strip() == "-9", done.stderr
    assert "(sleep, state S)" in done.stderr


DAEMON = """
import os, time
from pypatcher.process import children

reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    daemon = os.fork()
    if daemon:
        os.write(writer, str(daemon).encode())
        os._exit(0)
    time.sleep(600)
os.wait()
daemon = int(os.read(reader, 9))
groups = {{os.getpid(): "/system.slice/app.{kind}", daemon: "/system.slice/app.{kind}/below"}}
children._cgroup_of = lambda pid: groups.get(pid, "/system.slice/other.service")
children.end_children(5.0, service={service})
if children._start_of(daemon) is None:
    print("ended")
else:
    print("lives")
    os.kill(daemon, 9)
"""


@pytest.mark.parametrize(
    ("kind", "service", "fate"), [("service", True, "ended"), ("service", False, "lives"), ("scope", True, "lives")]
)
def test_a_daemon_ends_with_the_service_that_it_belongs_to(kind: str, service: bool, fate: str) -> None:
    done = run(DAEMON.format(kind=kind, service=service))
    assert done.stdout.strip() == fate, done.stderr
