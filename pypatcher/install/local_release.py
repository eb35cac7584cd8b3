"""What this installation has to give: complete, verified files that may be announced and served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pypatcher.install.examine import Examiner
from pypatcher.install.files import Files
from pypatcher.install.layout import Layout
from pypatcher.install.operations import Operations

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo

__all__ = ["Held", "held"]


@dataclass(frozen=True, slots=True)
class Held:
    """A complete, verified file of this installation that may be announced and served.

    Attributes:
        path: where it lies now; open it at once, an activation may rename it.
        file_size: bytes of the whole file, region included.
    """

    path: Path
    info: PatchInfo
    sha512: bytes
    file_size: int


def held(files: Files, layout: Layout, examiner: Examiner) -> tuple[Held, ...]:
    """``staged`` and `P`, unless refused, newest first."""
    state = Operations(files, layout).read_state()
    refused = () if state is None else state.refused
    found_here = []
    for entry in (layout.staged, layout.target):
        found = examiner.examine(files, entry)
        if found.id is None or found.info is None or found.stat is None or found.id.sha512 in refused:
            continue
        found_here.append(Held(layout.path(entry), found.info, found.id.sha512, found.stat.size))
    return tuple(sorted(found_here, key=lambda one: one.info.version, reverse=True))
