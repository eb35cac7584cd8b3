"""The command line: one thin module per command (design.md "Where the code lives").

A command reads arguments, calls a room, and prints. Not here: anything that a node or an application would need too.
"""

from __future__ import annotations

from pypatcher.cli.dispatch import main

__all__ = ["main"]
