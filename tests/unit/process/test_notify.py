"""systemd's notification protocol, spoken and passed on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.process.notify import Notifier, NotifyProxy, filter_message


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


@pytest.fixture
def upstream(tmp_path: Path) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}, 1)


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def proxy(upstream: Notifier, heard: list[str]) -> Iterator[NotifyProxy]:
    made = NotifyProxy(upstream, lambda: heard.append("ready"), lambda: False)
    yield made
    made.close()


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_nobody_to_notify_is_no_error(environment):
    assert not Notifier(environment, 1).send("READY=1")


def test_manager_that_went_away_is_no_error(tmp_path):
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, 1).send("READY=1")


def test_message_arrives_as_it_is(manager, upstream):
    assert upstream.send("READY=1\nSTATUS=at work")
    assert manager.recv(100) == b"READY=1\nSTATUS=at work"


def test_abstract_name_is_understood():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")
        name = listening.getsockname().decode()
        assert Notifier({"NOTIFY_SOCKET": "@" + name[1:]}, 1).send("READY=1")
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_watchdog_is_ours_only_if_meant_for_us(variables, seconds):
    assert Notifier({"NOTIFY_SOCKET": "/run/notify", **variables}, 7).watchdog == seconds


def test_main_pid_is_not_passed_on():
    assert filter_message(b"MAINPID=7\nREADY=1\nMAINPIDFDID=9", stop_requested=False) == (b"READY=1", True)


def test_stopping_is_passed_on_only_when_a_stop_was_asked_for():
    assert filter_message(b"STOPPING=1\nSTATUS=bye", stop_requested=False) == (b"STATUS=bye", False)
    assert filter_message(b"STOPPING=1\nSTATUS=bye", stop_requested=True) == (b"STOPPING=1\nSTATUS=bye", False)


@pytest.mark.parametrize("line", [b"WATCHDOG=1", b"RELOADING=1", b"EXTEND_TIMEOUT_USEC=5", b"STATUS=READY=1", b"\xff"])
def test_everything_else_is_passed_on_and_is_not_ready(line):
    assert filter_message(line, stop_requested=False) == (line, False)


@given(st.binary(max_size=200), st.booleans())
def test_no_message_gets_a_main_pid_through(message, stop_requested):
    forwarded, ready = filter_message(message, stop_requested=stop_requested)
    lines = forwarded.split(b"\n")
    assert not any(line.startswith(b"MAINPID") for line in lines)
    assert ready == (b"READY=1" in message.split(b"\n"))
    assert set(lines) <= {*message.split(b"\n"), b""}


def test_program_is_heard_and_passed_on(manager, proxy, heard):
    Notifier({"NOTIFY_SOCKET": proxy.address}, 1).send("MAINPID=3\nREADY=1")
    proxy.receive()
    assert heard == ["ready"]
    assert manager.recv(100) == b"READY=1"


def test_message_longer_than_the_managers_limit_is_dropped(proxy, heard):
    Notifier({"NOTIFY_SOCKET": proxy.address}, 1).send(b"READY=1\nSTATUS=" + b"x" * 5000)
    proxy.receive()
    assert heard == []


def test_nothing_to_receive_is_no_error(proxy):
    proxy.receive()


def test_descriptors_go_on_to_the_manager_and_are_closed_here(manager, proxy, tmp_path):
    reader, writer = os.pipe()
    Notifier({"NOTIFY_SOCKET": proxy.address}, 1).send("FDSTORE=1", [writer])
    os.close(writer)
    proxy.receive()
    message, descriptors, _flags, _source = socket.recv_fds(manager, 100, 4)
    assert message == b"FDSTORE=1"
    os.write(descriptors[0], b"through")
    assert os.read(reader, 100) == b"through"
    os.close(descriptors[0])
    assert os.read(reader, 100) == b""  # nobody holds the other end any more
    os.close(reader)
