"""``pypatcher`` with short intervals, as a process: ``python -m tests.support.quick_run run --public-key ...``."""

from __future__ import annotations

import sys

from pypatcher.cli.dispatch import main
from pypatcher.update import activation

if __name__ == "__main__":
    activation._LOOK_AGAIN = 0.5
    activation._PATIENCE_WITH_OTHERS = 5.0
    sys.exit(main())
