"""What a program was started with, so that it can be started again in the same way (design.md "Restart").

Lives here: the snapshot, taken early, of environment, working directory, umask and ignored signals, and the cleaning
of an environment from what belongs to a onefile bundle's own unpacked folder. Not here: who is restarted and how.

The snapshot is of the START, not of the moment of the restart: an application that prepends to ``PATH``, changes its
directory or ignores SIGTERM for itself must not hand that to its next version, restart after restart.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Origin", "without_bundle"]

_PYTHON_IGNORES = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Ignored by every Python at its start; whoever started us did not ask for it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Environment, working directory (None: it is gone), umask (None: unknown) and ignored signals at the start."""

    environment: Mapping[str, str] = field(repr=False)  # may hold secrets
    directory: str | None
    umask: int | None
    ignored: frozenset[int]

    @classmethod
    def of_this_process(cls) -> Origin:
        """Take the snapshot now; call it before the application changed anything."""
        try:
            directory: str | None = str(Path.cwd())
        except OSError:
            directory = None
        fields = _status_fields()
        mask = int(fields["SigIgn"], 16) if "SigIgn" in fields else 0
        ignored = frozenset(number for number in signal.valid_signals() if mask >> (number - 1) & 1)
        umask = int(fields["Umask"], 8) if "Umask" in fields else None
        return cls(dict(os.environ), directory, umask, ignored - _PYTHON_IGNORES)


def without_bundle(
    environment: Mapping[str, str], variables: Iterable[str], saved: Mapping[str, str], folder: str | None
) -> dict[str, str]:
    """``environment`` as it was before a onefile launcher, or a hook of its bundle, added to it.

    Drops ``variables`` (a ``*`` at the end stands for anything). In a bundle, whose unpacked files, deleted when it
    ends, are in ``folder``, it also puts back what the launcher ``saved`` (the name of a variable, and of the one where
    its value was kept), and takes every element that lies there out of path lists such as ``TCL_LIBRARY``.
    """
    clean = {
        name: value
        for name, value in environment.items()
        if not any(name.startswith(own[:-1]) if own.endswith("*") else name == own for own in variables)
    }
    if folder is None:
        return clean
    for name, kept_in in saved.items():
        value = clean.pop(kept_in, None)
        if value is not None:
            clean[name] = value
    for name, value in tuple(clean.items()):
        if folder not in value:
            continue
        kept = [part for part in value.split(os.pathsep) if part != folder and not part.startswith(folder + os.sep)]
        if kept:
            clean[name] = os.pathsep.join(kept)
        else:
            del clean[name]
    return clean


def _status_fields() -> dict[str, str]:
    """``/proc/self/status`` as a mapping; empty where there is no /proc."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
