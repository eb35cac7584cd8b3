"""``python -m pypatcher`` is the console script ``pypatcher``. Nothing else lives here."""

from __future__ import annotations

import sys

from pypatcher.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
