"""Runs a module on a clock that stands still: ``python -m tests.support.still_clock MODULE [ARGUMENT ...]``.

Before anything of ours is imported, so that whoever keeps ``time.monotonic`` keeps this one. A virtual loop moves it.
"""

from __future__ import annotations

import importlib
import runpy
import sys
import threading  # noqa: F401 - real threads wait in real time
import time

__all__ = ["advance", "advance_to", "seconds", "stand_still"]

_BASE = 1_764_000_000.0
_now = [1000.0]


def seconds() -> float:
    """Monotonic seconds."""
    return _now[0]


def advance(by: float) -> None:
    """Let time pass."""
    _now[0] += by


def advance_to(moment: float) -> None:
    """Let time pass until then; it never goes back."""
    _now[0] = max(_now[0], moment)


def stand_still() -> None:
    """From now on, for everybody who looks."""
    time.monotonic = seconds
    time.time = lambda: _BASE + seconds()
    time.sleep = advance


if __name__ == "__main__":
    # Not this module, which is __main__, but the one that others import.
    importlib.import_module("tests.support.still_clock").stand_still()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
