"""The application whose whole way from one version to the next is tested: found, fetched, verified, staged, restarted.

Every start appends one JSON line to ``$APP_STATE/starts``, every event one to ``$APP_STATE/events``. When a release is
staged and the restart comes, it imports modules that nobody imported before, and notes what they hold.
"""

import json
import os
import sys
import time
from pathlib import Path

from app_version import PUBLIC_KEY, VERSION

import pypatcher
from pypatcher.update import activation

STATE = Path(os.environ["APP_STATE"])


def say(file_name: str, **values: object) -> None:
    with (STATE / file_name).open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def import_late() -> None:
    import colorsys

    import late_module

    say("late", version=VERSION, modules=[colorsys.__name__, late_module.VERSION], at=str(pypatcher.Version.current()))


@pypatcher.public_key(PUBLIC_KEY)
def main() -> None:
    say(
        "starts",
        version=VERSION,
        current=str(pypatcher.Version.current()),
        argv=sys.argv,
        environment=dict(os.environ),
        directory=str(Path.cwd()),
        pid=os.getpid(),
        sockets=sum(entry.is_socket() for entry in Path("/proc/self/fd").iterdir()),
        unpacked=getattr(sys, "_MEIPASS", ""),
    )
    pypatcher.on_event(lambda event: say("events", by=VERSION, **event.to_dict()))
    pypatcher.on_restart(import_late)
    if "QUICK_LOOKS" in os.environ:
        activation._LOOK_AGAIN = 0.5
        activation._PATIENCE_WITH_OTHERS = float(os.environ["QUICK_LOOKS"])
    pypatcher.start(pypatcher.UpdaterMode.OnRestart if "--hold" in sys.argv else pypatcher.UpdaterMode.Now)
    while not (STATE / "end").exists():
        if (STATE / "import-late").exists():
            (STATE / "import-late").unlink()
            import_late()
        time.sleep(0.05)
    pypatcher.stop()


if __name__ == "__main__":
    if "--late" in sys.argv:
        say("loaded", version=VERSION)
    while "--late" in sys.argv and not (STATE / "go").exists():  # loaded, and not begun
        time.sleep(0.05)
    main()
