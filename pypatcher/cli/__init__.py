"""The command line: one thin module a command (design.md "Where the code lives")."""

from __future__ import annotations

from pypatcher.cli.dispatch import main

__all__ = ["main"]
