"""A table that strangers can fill stays bounded: what was used least recently goes first.

One function and one limit. Not here: what a table holds, and when an entry is too old (its owner says so).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

__all__ = ["TABLE_LIMIT", "bound"]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

TABLE_LIMIT = 4096
"""Entries of one table."""


def bound(table: OrderedDict[_Key, _Value]) -> None:
    """Forget the oldest beyond 4096."""
    while len(table) > TABLE_LIMIT:
        table.popitem(last=False)
