"""Runs on the device: carries out the commands that come over the wire, and tells what the journal gets.

A request is a JSON line ``[number, [word, ...]]``; its answer ``{"reply": number, "status": ..., "output": ...}``.
Each new entry of the journal is ``{"unit": ..., "message": ...}``.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

JOURNAL = (
    "journalctl",
    "--follow",
    "--lines=all",
    "--all",
    "--output=json",
    "--output-fields=_SYSTEMD_UNIT,UNIT,MESSAGE",
)


def main() -> None:
    """Until the device is switched off."""
    device = next(Path("/dev").glob("vport*"))
    with device.open("r+b", buffering=0) as wire:  # the kernel lets nobody open it twice
        saying = threading.Lock()

        def say(**fields: object) -> None:
            with saying:
                wire.write(json.dumps(fields).encode("ascii") + b"\n")

        def tell_journal() -> None:
            with subprocess.Popen(JOURNAL, stdout=subprocess.PIPE) as journal:
                for record in journal.stdout or ():
                    entry = json.loads(record)
                    unit = entry.get("UNIT") or entry.get("_SYSTEMD_UNIT")
                    say(unit=unit, message=str(entry.get("MESSAGE")))

        threading.Thread(target=tell_journal, daemon=True).start()
        say(ready=sys.version.split()[0])
        pending = b""
        while chunk := wire.read(4096):
            *requests, pending = (pending + chunk).split(b"\n")
            for request in requests:
                number, words = json.loads(request)
                done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
                say(reply=number, status=done.returncode, output=done.stdout.decode(errors="replace"))


if __name__ == "__main__":
    main()
