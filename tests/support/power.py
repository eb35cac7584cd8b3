"""A disk that loses power: an ext4 image on a loop device, copied without a sync while a program is in the midst.

The copy is what the card would hold: what the filesystem has sent to its device so far, and nothing of its memory. It
is mounted elsewhere, where the journal is replayed as after a real cut.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.one_update import Disturbance, Kit, Scenario, check, child, complete_in_child, fresh, perform

__all__ = ["Cut", "make_image", "mounted"]

_SIZE = 16 << 20


def make_image(path: Path, kit: Kit, mount_at: Path) -> Path:
    """An image with the old program in ``device/app``, synced."""
    with path.open("wb") as file:
        file.truncate(_SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)
    with mounted(path, mount_at, "defaults"):
        fresh(mount_at / "device", kit)
    return path


@contextlib.contextmanager
def mounted(image: Path, at: Path, options: str) -> Iterator[Path]:
    """The image, mounted; it is unmounted whatever happens."""
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "ext4", "-o", f"loop,{options}", image, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


class Cut:
    """A device that is stopped just before one of its file-changing calls, on a disk of its own.

    Use it as a context manager; `look` says what a power cut now would leave, and may be asked again later.
    """

    def __init__(self, folder: Path, template: Path, kit: Kit, scenario: Scenario, *, point: int, options: str) -> None:
        self._name = f"{scenario}, {options}, cut before call {point}"
        self._folder, self._kit, self._scenario, self._options = folder, kit, scenario, options
        self._disturbance = Disturbance(point, "stop")
        self._stack = contextlib.ExitStack()
        self._template = template
        self._looks = 0

    def __enter__(self) -> Cut:
        self._folder.mkdir()
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self._folder)
            image = Path(shutil.copy(self._template, self._folder / "image"))
            at = stack.enter_context(mounted(image, self._folder / "mount", self._options))
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
        copy = _snapshot(self._folder / "image", self._folder / f"copy-{self._looks}")
        with mounted(copy, self._folder / "after", self._options) as at:
            program = at / "device" / "app"
            complaint = check(program, self._kit)
            complaint = complaint or complete_in_child(program, self._kit, self._scenario, self._folder / "later")
        copy.unlink()
        return f"{self._name} {when}: {complaint}" if complaint else ""


def _snapshot(image: Path, copy: Path) -> Path:
    """The image as it was at one instant, which a copy is not while the kernel writes to it.

    What two readings in a row have in common everywhere was all there at once, between the two.
    """
    before = image.read_bytes()
    while (now := image.read_bytes()) != before:
        before = now
    copy.write_bytes(now)
    return copy


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
