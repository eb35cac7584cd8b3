"""What the node of this program last said about itself, kept beside the program for people and ``pypatcher status``.

Nothing is decided from it. It is not synced: cards wear out.
"""

from __future__ import annotations

from pypatcher.install.files import Files
from pypatcher.install.layout import Layout

__all__ = ["read_report", "write_report"]


def read_report(files: Files, layout: Layout, limit: int) -> bytes:
    """The report, ``limit`` bytes at most; see `Installation.read_report`."""
    fd = files.open(layout.report)
    try:
        return files.read(fd, limit)
    finally:
        files.close(fd)


def write_report(files: Files, layout: Layout, data: bytes) -> None:
    """Replace the report; see `Installation.write_report`."""
    files.unlink(layout.report_new)
    fd = files.create(layout.report_new)
    try:
        files.write(fd, data)
    finally:
        files.close(fd)
    files.rename(layout.report_new, layout.report)
