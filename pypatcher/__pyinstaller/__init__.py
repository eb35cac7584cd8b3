"""Tells PyInstaller where our hook is (entry point ``pyinstaller40``), and nothing else."""

from __future__ import annotations

from pathlib import Path

__all__ = ["hook_folders"]


def hook_folders() -> list[str]:
    """The folder of ``hook-pypatcher.py``."""
    return [str(Path(__file__).parent)]
