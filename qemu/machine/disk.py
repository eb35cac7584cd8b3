"""The device's disk: an ext4 image, made from a folder and read again without ever being mounted on this machine."""

from __future__ import annotations

from pathlib import Path

from cross.workshop import StepFailedError, run

__all__ = ["DISK_TOOLS", "check_disk", "make_disk", "read_file"]

DISK_TOOLS = {"mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "e2fsck": "e2fsprogs"}


def make_disk(image: Path, content: Path, megabytes: int) -> Path:
    """Make ``image`` an ext4 disk that holds a copy of ``content``, all of it root's.

    Raises:
        StepFailedError: it cannot be made, or has no room.
    """
    image.unlink(missing_ok=True)
    # In a user namespace our own files are root's, whoever we are.
    run("unshare", "--user", "--map-root-user", "mke2fs", "-q", "-t", "ext4", "-d", content, image, f"{megabytes}M")
    return image


def check_disk(image: Path) -> None:
    """Is the file system of a device that was switched off in order?

    Raises:
        StepFailedError: it is not.
    """
    run("e2fsck", "-f", "-n", image)


def read_file(image: Path, path: str) -> bytes:
    """A file's bytes, past every cache of the device's kernel; the journal must be empty.

    Raises:
        StepFailedError: there is no such file.
    """
    copy = image.with_suffix(".read")
    copy.unlink(missing_ok=True)
    try:
        run("debugfs", "-R", f"dump {path} {copy}", image)
        if not copy.exists():
            raise StepFailedError(f"{image.name} has no {path}")
        return copy.read_bytes()
    finally:
        copy.unlink(missing_ok=True)
