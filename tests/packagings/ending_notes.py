"""What the programs of ``ending_app`` and their workers write down."""

import json
import os
import time
from pathlib import Path

from app_version import VERSION

STATE = Path(os.environ["APP_STATE"])


def say(file_name: str, **values: object) -> None:
    with (STATE / file_name).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"by": VERSION, "time": time.time(), "pid": os.getpid(), **values}) + "\n")


def note(text: str) -> None:
    say("notes", text=text)


def up() -> None:
    """What this program is for has begun."""
    say("starts")


def wait_until_up() -> None:
    """As an ``on_restart`` callback: a release that is there at once restarts nothing that has not begun yet."""
    deadline = time.monotonic() + 20
    while f'"by": "{VERSION}"' not in _read("starts") and time.monotonic() < deadline:
        time.sleep(0.02)


def _read(file_name: str) -> str:
    path = STATE / file_name
    return path.read_text(encoding="utf-8") if path.exists() else ""
