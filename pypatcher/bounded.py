"""A table that strangers can fill stays bounded: what was used least recently goes first.

Two functions and one limit. Not here: what a table holds, and when an entry is too old (its owner says so).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

__all__ = ["TABLE_LIMIT", "bound", "note"]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

TABLE_LIMIT = 4096
"""Entries of one table."""


def bound(table: OrderedDict[_Key, _Value]) -> None:
    """Forget the oldest beyond 4096."""
    while len(table) > TABLE_LIMIT:
        table.popitem(last=False)


def note(table: OrderedDict[_Key, _Value], key: _Key, value: _Value, limit: int = TABLE_LIMIT) -> None:
    """Set an entry, which is the last one to go from now on; the oldest beyond ``limit`` goes."""
    table[key] = value
    table.move_to_end(key)
    if len(table) > limit:
        table.popitem(last=False)
