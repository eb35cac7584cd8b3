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
