"""What every test may count on, on whatever machine."""

from __future__ import annotations

import os

# A device refuses to update where a reboot would undo it, and a test machine's folders may well be such a place.
os.environ["PYPATCHER_ALLOW_VOLATILE"] = "1"
