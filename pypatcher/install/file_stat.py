"""What a file is to an installation: enough to see that it is still the same, with the same content. Reads nothing."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

__all__ = ["FileStat", "file_stat"]


@dataclass(frozen=True, slots=True)
class FileStat:
    """What a file is to us: enough to see that it is still the same one, with the same content."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int = 0
    gid: int = 0
    size_on_disk: int = 0

    @property
    def regular(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    def same_content(self, other: FileStat | None) -> bool:
        """Whether inode, size and modification time are the same (install.md, activation step 6)."""
        mine = (self.device, self.inode, self.size, self.mtime_ns)
        return other is not None and mine == (other.device, other.inode, other.size, other.mtime_ns)


def file_stat(result: os.stat_result) -> FileStat:
    """What the kernel said about it."""
    return FileStat(
        device=result.st_dev,
        inode=result.st_ino,
        size=result.st_size,
        mtime_ns=result.st_mtime_ns,
        ctime_ns=result.st_ctime_ns,
        mode=result.st_mode,
        uid=result.st_uid,
        gid=result.st_gid,
        size_on_disk=512 * result.st_blocks,
    )
