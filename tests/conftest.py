"""What every test may count on, on whatever machine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

# A device refuses to update where a reboot would undo it, and a test machine's folders may well be such a place.
os.environ["PYPATCHER_ALLOW_VOLATILE"] = "1"

# A shell that runs the suite in the background has it, and so every program that a test starts, ignore these.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _constants() -> Iterator[None]:
    """A test that leaves a constant of the package changed fails itself, and not those that follow it."""
    before = _all_constants()
    yield
    after = _all_constants()
    assert {name: after[name] for name in before if after.get(name) != before[name]} == {}


def _all_constants() -> dict[str, object]:
    return {
        f"{module}.{name}": value
        for module, loaded in list(sys.modules.items())
        if module.startswith("pypatcher.")
        for name, value in vars(loaded).items()
        if type(value) in (bool, int, float, str, bytes)
    }
