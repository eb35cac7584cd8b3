"""What a command of ours left behind, however it was called."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """Its exit status, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its output, one JSON object."""
        values: dict[str, Any] = json.loads(self.out)
        return values
