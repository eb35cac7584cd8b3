"""systemd's notification protocol, spoken and passed on."""

from __future__ import annotations

import array
import contextlib
import fcntl
import multiprocessing
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.process import notify
from pypatcher.process.notify import Notifier, NotifyProxy, filter_message, is_proxy


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


NOBODY = 65534
CANNOT = 77


def lingering() -> socket.socket:
    """A TCP socket with unsent bytes: whoever closes it last waits for as long as it says, here 2 seconds."""
    sender = socket.socket()
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender.connect(server.getsockname())
        peer, _ = server.accept()
    peer.detach()  # open, and never read, for as long as this process lives
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 2))
    sender.setblocking(False)
    try:
        while True:
            sender.send(bytes(1 << 16))
    except BlockingIOError:
        return sender


def attack_as_nobody(address: str) -> None:
    """Exit status 0 if not one message could be sent to the socket, whose address everybody can find."""
    try:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    except OSError:  # a user namespace without other users
        os._exit(CANNOT)
    assert address in Path("/proc/net/unix").read_text()
    trap = lingering()
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [trap.fileno()]))]
    sent = 0
    attacker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with contextlib.suppress(OSError):
        for _ in range(1000):
            sent += attacker.sendmsg([b"X=1"], passed, 0, address.replace("@", "\0", 1))
    os._exit(1 if sent else 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_can_neither_fill_nor_block_the_socket(proxy, heard):
    attacker = multiprocessing.get_context("fork").Process(target=attack_as_nobody, args=(proxy.address,))
    attacker.start()
    attacker.join()
    if attacker.exitcode == CANNOT:
        pytest.skip("this process can become no other user")
    assert attacker.exitcode == 0
    assert not select.select([proxy], [], [], 0)[0]
    Notifier({"NOTIFY_SOCKET": proxy.address}, 1).send("READY=1")
    proxy.receive()
    assert heard == ["ready"]


def test_socket_lies_in_a_folder_for_its_user_alone_and_goes_with_it(upstream):
    proxy = NotifyProxy(upstream, lambda: None, lambda: False)
    folder = Path(proxy.address).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    proxy.close()
    assert not folder.exists()


def test_what_a_killed_run_left_is_removed_a_living_ones_is_not(upstream, proxy):
    code = (
        "import os; from pypatcher.process.notify import *; p = NotifyProxy(Notifier({}, 1), print, bool);"
        "print(p.address, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = Path(killed.stdout.strip())
    assert left.exists()
    NotifyProxy(upstream, lambda: None, lambda: False).close()
    assert not left.parent.exists()
    assert Path(proxy.address).exists()


@pytest.mark.parametrize("name", ["long" * 30, "missing/folder"])
def test_without_a_usable_folder_it_lies_elsewhere_and_leaves_nothing(upstream, tmp_path, monkeypatch, name):
    folder = tmp_path / name
    if "long" in name:
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with contextlib.closing(NotifyProxy(upstream, lambda: None, lambda: False)) as proxy:
        assert stat.S_IMODE(Path(proxy.address).parent.stat().st_mode) == 0o700
        assert folder not in Path(proxy.address).parents
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("parent", ["itself", "above"])
def test_a_folder_in_which_others_can_rename_swallows_no_ready(upstream, tmp_path, monkeypatch, parent):
    folder = tmp_path / "shared" / "tmp"
    folder.mkdir(parents=True)
    (folder if parent == "itself" else folder.parent).chmod(0o777)
    monkeypatch.setenv("TMPDIR", str(folder))
    with contextlib.closing(NotifyProxy(upstream, lambda: None, lambda: False)) as proxy:
        assert folder not in Path(proxy.address).parents
    folder.chmod(0o1777)
    folder.parent.chmod(0o755)
    with contextlib.closing(NotifyProxy(upstream, lambda: None, lambda: False)) as proxy:
        assert folder in Path(proxy.address).parents


def test_a_socket_that_took_the_place_of_ours_is_known_to_be_another(proxy):
    assert proxy.is_reachable
    place = Path(proxy.address)
    place.rename(place.with_name("away"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(place))
        assert not proxy.is_reachable
        place.unlink()
        assert not proxy.is_reachable
    place.with_name("away").rename(place)
    assert proxy.is_reachable


def test_without_any_folder_ready_is_heard_all_the_same(upstream, manager, heard, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setattr(notify, "_FOLDERS", (str(tmp_path / "missing as well"),))
    with contextlib.closing(NotifyProxy(upstream, lambda: heard.append("ready"), lambda: False)) as proxy:
        assert is_proxy(proxy.address)
        Notifier({"NOTIFY_SOCKET": proxy.address}, 1).send("READY=1")
        proxy.receive()
    assert heard == ["ready"]
    assert manager.recv(4096) == b"READY=1"


def test_who_cleans_the_folder_for_temporary_files_finds_it_locked(proxy):
    """systemd-tmpfiles removes what is old from /tmp, sockets too, and leaves alone what is locked (BSD lock)."""
    folder = os.open(Path(proxy.address).parent, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(folder)
    assert proxy.is_reachable
    Path(proxy.address).unlink()
    assert not proxy.is_reachable


def test_working_folder_is_never_where_the_socket_lies(upstream, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", ".")
    monkeypatch.setattr(notify, "_FOLDERS", ())
    with contextlib.closing(NotifyProxy(upstream, lambda: None, lambda: False)) as proxy:
        assert proxy.address.startswith("@")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("pypatcher-")] == []


def test_program_knows_whether_run_started_it(proxy):
    assert is_proxy(proxy.address)
    assert not any(
        map(is_proxy, ["", "/run/systemd/notify", "@pypatcher-1/x", "/tmp/pypatcher-run-1", "/tmp/pypatcher-1/notify"])
    )
