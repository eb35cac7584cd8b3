"""What every test may count on, on whatever machine."""

from __future__ import annotations

import os
import signal

# A device refuses to update where a reboot would undo it, and a test machine's folders may well be such a place.
os.environ["PYPATCHER_ALLOW_VOLATILE"] = "1"

# A shell that runs the suite in the background has it, and so every program that a test starts, ignore these.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)
