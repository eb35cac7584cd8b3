"""Several processes, programs and devices with one installation, or copies of it: none harms another."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import pytest

from pypatcher.errors import CannotReplaceError
from pypatcher.install import Installation
from pypatcher.install.locks import hold_lock, transaction
from pypatcher.install.state_folder import StateFolder, open_folders
from tests.support.installations import V1, V2, MakeInstallation, caller, download, trial_of
from tests.support.text_programs import program, verify_program, write_program


def test_a_second_process_counts_nothing(make: MakeInstallation) -> None:
    device = make(lives=lambda pid, _: pid == 1)
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run", caller=caller(1))
    before = trial_of(device)
    for pid in range(2, 8):
        assert device.settle("spawn", caller=caller(pid, "spawn")).on_trial
    assert trial_of(device) == before


def test_the_program_is_not_changed_while_another_process_runs_it(make: MakeInstallation) -> None:
    running, starting = make(), make()
    running.settle("spawn")
    download(running, "2.0.0")
    settled = starting.settle("spawn", caller=caller(7, "spawn"))
    assert (settled.version, settled.activated, settled.must_exec) == (V1, None, False)
    assert running.program.read_bytes() == program("1.0.0")


def test_an_activation_that_was_put_off_is_no_reason_to_restart(make: MakeInstallation) -> None:
    running, starting = make(), make()
    running.settle("spawn")
    download(running, "2.0.0")
    assert running.release_for_restart() is not None
    assert starting.settle("spawn", caller=caller(7, "spawn")).put_off
    assert starting.release_for_restart() is None
    download(running, "3.0.0")
    assert starting.release_for_restart() is not None


def test_two_programs_in_one_folder_do_not_meet(make: MakeInstallation) -> None:
    device = make()
    other = Installation(write_program(device.program.with_name("other"), "1.0.0"), verify_program)
    device.settle("run")
    other.settle("run")
    download(device, "2.0.0")
    assert other.settle("run").version == V1
    assert device.settle("run").version == V2


def test_the_clone_of_a_card_goes_on_as_the_original_does(make: MakeInstallation, tmp_path: Path) -> None:
    device = make()
    device.settle("run")
    download(device, "2.0.0")
    device.settle("run", caller=caller(1))
    clone = tmp_path / "clone"
    shutil.copytree(device.layout.folder, clone)
    copied = Installation(clone / "app", verify_program)
    settled = copied.settle("run", caller=caller(1, boot="the clone's"))
    assert (settled.version, settled.on_trial) == (V2, True)
    assert copied.confirm() == V2


def test_there_is_one_updater(make: MakeInstallation) -> None:
    device = make()
    with device.updater_lock() as first, make().updater_lock() as second:
        assert (first, second) == (True, False)
    with make().updater_lock() as third:
        assert third


def test_a_forked_child_does_not_keep_the_updater_lock(make: MakeInstallation) -> None:
    context = multiprocessing.get_context("fork")
    device = make()
    here, go = context.Event(), context.Event()

    def live() -> None:
        here.set()
        go.wait()

    with device.updater_lock():
        child = context.Process(target=live)
        child.start()
        here.wait()
    try:
        with make().updater_lock() as mine:
            assert mine
    finally:
        go.set()
        child.join()


def test_a_lock_that_nobody_gives_back_does_not_stop_the_start(make: MakeInstallation) -> None:
    device = make()
    device.settle("run")
    with open_folders(device.layout, StateFolder.MADE) as files, hold_lock(files, device.layout.lock):
        ticks = iter(range(100))
        with (
            pytest.raises(CannotReplaceError),
            transaction(files, device.layout, patience=1, clock=lambda: float(next(ticks))),
        ):
            raise AssertionError("two held it")
