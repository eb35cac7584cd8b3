"""The story: programs under units of ``pypatcher unit`` and real systemd update themselves, all on one device.

The device's loopback is all the network there is: a private DHT, seeders and the programs are services side by side.
Under ``pypatcher run`` a C program becomes its new version. A onefile that updates itself leaves with status 86 and is
started as its new version. A zipapp becomes a version that crashes at once, is brought back by the guard, and takes the
one that is fixed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cross.workshop import StepFailedError, fresh_folder, say
from pypatcher.process.unit import RESTART_STATUS
from qemu.device import CACHE, Device
from qemu.machine.board import Board
from qemu.machine.contents import ENTRY_POINT, add_releases, new_device
from qemu.machine.disk import check_disk, make_disk, read_file
from qemu.machine.guest import Guest
from qemu.machine.releases import BROKEN, FIXED, NEW, OLD, Releases
from qemu.machine.service import Service
from qemu.machine.system import System

__all__ = ["tell"]

_MEGABYTES = 512
_DHT_NODES = 10
_LAST = {"c": NEW, "onefile": NEW, "zipapp": FIXED}


def tell(device: Device, system: System, kinds: Sequence[str]) -> None:
    """Let it happen to these kinds of programs.

    Raises:
        StepFailedError: something else happened.
    """
    work = fresh_folder(CACHE / "machine" / f"{device.target.name}-story")
    releases = Releases.made(device)
    content = new_device(work / "content", device, system)
    add_releases(content, device, releases)
    disk = make_disk(work / "disk", content, _MEGABYTES)
    with _switched_on(device, system, disk) as guest:
        nodes = ("--bind", ENTRY_POINT, "--nodes", str(_DHT_NODES))
        guest.run("systemd-run", "--quiet", "--unit=testnet", device.pypatcher, "testnet", *nodes)
        for kind in kinds:
            _STORIES[kind](Service(guest, device, releases, kind, OLD))
        guest.switch_off()
    check_disk(disk)
    with _switched_on(device, system, disk) as guest:
        for kind in kinds:
            version, wanted = _LAST[kind], f"version {_LAST[kind]}"
            guest.wait_for(f"{kind}.service", wanted, lambda said, wanted=wanted: wanted in said)  # type: ignore[misc]
            say(f"{kind}: {version} runs after a reboot")
        guest.switch_off()
    check_disk(disk)
    for kind in kinds:
        if read_file(disk, f"/opt/{kind}/app") != releases.file(kind, _LAST[kind]).read_bytes():
            raise StepFailedError(f"{kind}: the file on the disk is not the release, byte for byte")


def _see_run_update(service: Service) -> None:
    """A program under ``pypatcher run``: the unit stays up, its program changes, and is on trial for 5 minutes."""
    service.install_unit(with_key=True)
    service.wait_for_version(OLD)
    say(f"{service.unit}: {OLD} runs under `pypatcher run`")
    main = service.show("MainPID")
    service.publish(NEW)
    service.wait_for_version(NEW)
    service.check(NEW, trial=NEW, confirmed=OLD)
    if (service.show("MainPID"), service.show("NRestarts")) != (main, "0"):
        raise StepFailedError(f"{service.unit}: the unit was restarted, which `run` is there to avoid")
    say(f"{service.unit}: {NEW} runs in the same unit, on trial")
    service.rest()


def _see_onefile_update(service: Service) -> None:
    """A onefile under a plain unit: it leaves with the status that systemd takes for a restart."""
    service.install_unit(with_key=False)
    service.wait_for_version(OLD)
    say(f"{service.unit}: {OLD} runs by itself")
    service.publish(NEW)
    service.wait_for("its exit", "exited", f"status={RESTART_STATUS}/")
    service.wait_for_version(NEW)
    service.guest.wait_for_event(service.unit, "node.started", version=NEW)
    service.check(NEW, trial=NEW, confirmed=OLD)
    service.check_nothing_leaked()
    if (restarts := service.show("NRestarts")) != "1":
        raise StepFailedError(f"{service.unit} was restarted {restarts} times")
    say(f"{service.unit}: left with {RESTART_STATUS}, {NEW} runs, on trial; no process and no folder of {OLD} is left")
    service.confirm(NEW)
    service.check(NEW, trial=None, confirmed=NEW)
    say(f"{service.unit}: {NEW} is confirmed")
    service.rest()


def _see_crash(service: Service) -> None:
    """A zipapp, guarded: a release that dies before any of it could count is undone, its successor is taken."""
    service.install_unit("--guard", with_key=True)
    service.wait_for_version(OLD)
    service.guest.wait_for_event(service.unit, "node.started", version=OLD)
    say(f"{service.unit}: {OLD} runs, guarded")
    service.publish(BROKEN)
    for _ in range(3):
        service.wait_for(f"an end of {BROKEN}", "Main process exited")
    service.guest.wait_for_event(service.unit, "trial.rolled_back", version=BROKEN, to=OLD)
    service.wait_for_version(OLD)
    service.guest.wait_for_event(service.unit, "node.started", version=OLD)
    status = service.check(OLD, trial=None, confirmed=OLD)
    if len(status["refused"]) != 1:
        raise StepFailedError(f"{service.unit}: {BROKEN} is not refused: {status}")
    say(f"{service.unit}: {BROKEN} crashed, the guard brought {OLD} back: {status['refused'][0]['reason']}")
    service.publish(FIXED)
    service.wait_for_version(FIXED)
    service.guest.wait_for_event(service.unit, "node.started", version=FIXED)
    service.check(FIXED, trial=FIXED, confirmed=OLD)
    service.confirm(FIXED)
    service.check(FIXED, trial=None, confirmed=FIXED)
    say(f"{service.unit}: {FIXED} runs and is confirmed")


_STORIES = {"c": _see_run_update, "onefile": _see_onefile_update, "zipapp": _see_crash}


@contextlib.contextmanager
def _switched_on(device: Device, system: System, disk: Path) -> Iterator[Guest]:
    start = time.monotonic()
    first = ("/lib/systemd/systemd", "--unit=multi-user.target")
    board = Board(device.target, system, disk, *first, console=disk.with_name("console"), processors=2)
    try:
        guest = Guest(board)
        say(f"{device.target.name}: systemd is up after {time.monotonic() - start:.0f} s")
        yield guest
    finally:
        board.stop()
