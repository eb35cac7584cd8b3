"""The complete, verified files of this installation that may be announced and served.

Looks them up; changes nothing, and sends nothing.
"""

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

__all__ = ["LocalRelease", "held"]


@dataclass(frozen=True, slots=True)
class LocalRelease:
    """A complete, verified file on this machine that may be announced and served.

    Attributes:
        path: where it lies now. Open it for each use: a rename over it harms none that runs.
        info: what the owner signed about it.
        sha512: 64 bytes over the whole file, region included.
    """

    path: Path
    info: PatchInfo
    sha512: bytes


def held(files: Files, layout: Layout, examiner: Examiner) -> tuple[LocalRelease, ...]:
    """``staged``, ``waiting``, `P` and ``previous``, each file once, unless refused; the newest first."""
    state = Operations(files, layout).read_state()
    refused = () if state is None else state.refused
    found_here: list[LocalRelease] = []
    for entry in (layout.staged, layout.waiting, layout.target, layout.previous):
        found = examiner.examine(files, entry)
        known = [one.sha512 for one in found_here]
        if found.id is None or found.info is None or found.id.sha512 in (*refused, *known):
            continue
        found_here.append(LocalRelease(layout.path(entry), found.info, found.id.sha512))
    return tuple(sorted(found_here, key=lambda one: one.info.version, reverse=True))
