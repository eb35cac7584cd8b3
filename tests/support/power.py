"""A disk that loses power: an image on a loop device, copied without a sync while a program is in the midst.

The copy is what the card would hold: what the filesystem has sent to its device so far, and nothing of its memory. It
is mounted elsewhere, where the journal or log is replayed as after a real cut. Which filesystems there are to mount is
the kernel's to say.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.one_update import Disturbance, Kit, UpdateScenario, check, child, complete_in_child, fresh, perform

__all__ = ["DISKS", "Cut", "Disk", "kernel_has", "make_disk", "make_image", "mounted", "snapshot"]


@dataclass(frozen=True)
class Disk:
    """A filesystem and how it is mounted; ``megabytes`` is about the least that it can be made with."""

    filesystem: str
    options: str = "defaults"
    megabytes: int = 16

    def __str__(self) -> str:
        return f"{self.filesystem} {self.options}"


DISKS = (
    Disk("ext4"),
    Disk("ext4", "noauto_da_alloc"),
    Disk("btrfs", megabytes=112),
    Disk("f2fs", megabytes=64),
)
_MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "btrfs": ("mkfs.btrfs", "-q", "-f"), "f2fs": ("mkfs.f2fs", "-q", "-f")}


def kernel_has(filesystem: str) -> bool:
    """Whether it can be mounted here; a kernel that has it as a module is asked to load it."""
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", filesystem], check=False)
    return filesystem in Path("/proc/filesystems").read_text(encoding="ascii").split()


def make_image(path: Path, kit: Kit, mount_at: Path, disk: Disk) -> Path:
    """An image with the old program in ``device/app``, synced."""
    with make_disk(path, mount_at, disk):
        fresh(mount_at / "device", kit)
    return path


@contextlib.contextmanager
def make_disk(path: Path, mount_at: Path, disk: Disk) -> Iterator[Path]:
    """An image with nothing on it, mounted for the block."""
    with path.open("wb") as file:
        file.truncate(disk.megabytes << 20)
    subprocess.run([*_MAKE[disk.filesystem], path], check=True, stdout=subprocess.DEVNULL)
    with mounted(path, mount_at, disk):
        yield mount_at


@contextlib.contextmanager
def mounted(image: Path, at: Path, disk: Disk) -> Iterator[Path]:
    """The image, mounted; it is unmounted whatever happens."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", disk.filesystem, "-o", f"loop,{disk.options}", image, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


class Cut:
    """A device that is stopped just before one of its file-changing calls, on a disk of its own.

    Use it as a context manager; `look` says what a power cut now would leave, and may be asked again later.
    """

    def __init__(
        self, folder: Path, template: Path, kit: Kit, scenario: UpdateScenario, *, point: int, disk: Disk
    ) -> None:
        self._name = f"{scenario}, {disk}, cut before call {point}"
        self._folder, self._kit, self._scenario, self._disk = folder, kit, scenario, disk
        self._disturbance = Disturbance(point, "stop")
        self._stack = contextlib.ExitStack()
        self._template = template
        self._looks = 0

    def __enter__(self) -> Cut:
        self._folder.mkdir()
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self._folder)
            image = self._folder / "image"
            _write(image, _read(self._template))
            at = stack.enter_context(mounted(image, self._folder / "mount", self._disk))
            program, notes = at / "device" / "app", self._folder / "notes"

            def work() -> str:
                perform(program, self._kit, self._scenario)
                return ""

            pid = stack.enter_context(child(work, self._disturbance, notes))
            stack.callback(_kill, pid)
            _, status = os.waitpid(pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), f"{self._name}: it did not get there: {notes.read_text()}"
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def look(self, when: str) -> str:
        """Cut the power now: what is wrong with the device at its next boot, or empty."""
        # A new file each time: mount takes a loop device that still has the file, with what it remembers of it.
        self._looks += 1
        copy = snapshot(self._folder / "image", self._folder / f"copy-{self._looks}")
        with mounted(copy, self._folder / "after", self._disk) as at:
            program = at / "device" / "app"
            complaint = check(program, self._kit)
            complaint = complaint or complete_in_child(program, self._kit, self._scenario, self._folder / "later")
        copy.unlink()
        return f"{self._name} {when}: {complaint}" if complaint else ""


def snapshot(image: Path, copy: Path) -> Path:
    """The image as it was at one instant, which a copy is not while the kernel writes to it.

    What two readings in a row have in common everywhere was all there at once, between the two.
    """
    before = _read(image)
    while (now := _read(image)) != before:
        before = now
    _write(copy, now)
    return copy


def _read(image: Path) -> dict[int, bytes]:
    """What is in a sparse file: its length under -1, its data by offset."""
    extents: dict[int, bytes] = {}
    with image.open("rb") as file:
        extents[-1] = os.fstat(file.fileno()).st_size.to_bytes(8)
        end = 0
        with contextlib.suppress(OSError):  # ENXIO: only a hole is left
            while True:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
                end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                extents[start] = os.pread(file.fileno(), end - start, start)
    return extents


def _write(image: Path, extents: dict[int, bytes]) -> None:
    with image.open("wb") as file:
        file.truncate(int.from_bytes(extents.pop(-1)))
        for start, data in extents.items():
            os.pwrite(file.fileno(), data, start)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
