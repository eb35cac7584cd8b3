"""A real disk, a real process, killed before each operation of a whole update, and of one that is rolled back."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import BinaryIO

import pytest

from pypatcher.install import Caller, Installation, Settled
from pypatcher.install.files import OsFiles
from pypatcher.version import Version
from tests.support.text_programs import program, release_of, verify_program, write_program

_OPERATIONS = ("create", "write", "sync", "sync_folder", "rename", "link", "unlink", "copy_attributes")
_MOST = 400
_KILLED = 9


def _device(path: Path) -> Installation:
    return Installation(path, verify_program, kind=lambda _: "ext4", lives=lambda *_: False)


def _settle(device: Installation, start: int) -> Settled:
    return device.settle("run", caller=Caller("run", "boot", f"s{start}", start, 1))


def _stage(device: Installation, version: str) -> None:
    data = program(version)
    with device.new_partial() as partial:
        partial.write(data)
        device.stage(partial, release_of(data).info)


def _update(path: Path) -> None:
    device = _device(path)
    _settle(device, 1)
    _stage(device, "2.0.0")
    _settle(device, 2)
    device.confirm()


def _update_that_fails(path: Path) -> None:
    device = _device(path)
    _settle(device, 1)
    _stage(device, "2.0.0")
    for start in range(2, 6):
        _settle(device, start)
        device.end_start(requested=False)
    _settle(device, 7)


def _update_by_hand(path: Path) -> None:
    device = _device(path)
    _settle(device, 1)
    with _file(path, "2.0.0") as source:
        device.stage_file(source.fileno())
    _settle(device, 2)
    device.confirm()


def _adoption(path: Path) -> None:
    device = _device(path)
    _settle(device, 1)
    device.end_start(requested=True)
    device = _device(path)  # the program does not run
    with _file(path, "2.0.0") as source:
        device.adopt(source.fileno())
    _settle(device, 2)


def _file(path: Path, version: str) -> BinaryIO:
    brought = path.with_name("brought")
    brought.write_bytes(program(version))
    return brought.open("rb")


def _dies_before(number: int, life: Callable[[Path], None], path: Path) -> bool:
    """Run ``life`` in a process that is gone before its operation ``number``; False when it has fewer."""
    pid = os.fork()
    if pid == 0:
        left = number

        def counted(method: Callable[..., object]) -> Callable[..., object]:
            def operation(*arguments: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    os._exit(_KILLED)
                return method(*arguments)

            return operation

        for name in _OPERATIONS:
            setattr(OsFiles, name, counted(getattr(OsFiles, name)))
        try:
            life(path)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == _KILLED


@pytest.mark.parametrize("life", [_update, _update_that_fails, _update_by_hand, _adoption])
def test_after_any_kill_it_is_whole_and_the_next_release_installs(
    life: Callable[[Path], None],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A kill loses nothing that was written, synced or not; the syncs still count as operations.
    monkeypatch.setattr(OsFiles, "sync", lambda *_: None)
    monkeypatch.setattr(OsFiles, "sync_folder", lambda *_: None)
    number = 0
    for number in range(1, _MOST):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = write_program(folder / "app", "1.0.0")
        killed = _dies_before(number, life, path)
        assert path.read_bytes() in {program("1.0.0"), program("2.0.0")}
        device = _device(path)
        assert _settle(device, 50).version in {Version(1, 0, 0), Version(2, 0, 0)}
        if device.status().trial is not None:
            assert device.confirm() == Version(2, 0, 0)
        assert not device.layout.path(device.layout.by_hand).exists()
        _stage(device, "3.0.0")
        assert _settle(device, 51).activated == Version(3, 0, 0)
        assert device.confirm() == Version(3, 0, 0)
        if not killed:
            break
    record_property("points", number)
    assert 20 < number < _MOST - 1


def _start(path: Path, together: Barrier, told: SimpleQueue) -> None:  # type: ignore[type-arg]
    device = Installation(path, verify_program)
    together.wait(30)
    settled = device.settle("run")
    told.put((settled.version, settled.activated, settled.reason))
    # A process that ended by itself on trial would count as a failed start.
    together.wait(30)


def test_many_processes_that_start_at_once_activate_once(tmp_path: Path) -> None:
    path = write_program(tmp_path / "app", "1.0.0")
    device = _device(path)
    device.settle("guard")
    _stage(device, "2.0.0")
    context = multiprocessing.get_context("fork")
    together, told = context.Barrier(6), context.SimpleQueue()
    children = [context.Process(target=_start, args=(path, together, told)) for _ in range(6)]
    for child in children:
        child.start()
    results = [told.get() for _ in children]
    for child in children:
        child.join()
    assert sorted(map(str, results)) == sorted(
        map(str, [(Version(2, 0, 0), Version(2, 0, 0), "")] + [(Version(2, 0, 0), None, "")] * 5)
    )
    assert path.read_bytes() == program("2.0.0")
