"""The Python program of the story: says its version and arguments, and keeps itself up to date.

It confirms its version when it gets SIGUSR1.
"""

import asyncio
import json
import os
import signal
import sys

import pypatcher

GREETING = "hello"


@pypatcher.public_key(**json.loads(os.environ["OWNER_KEYS"]))
async def main() -> None:
    print(f"{GREETING}: version {pypatcher.Version.current()}, arguments {sys.argv[1:]}", flush=True)
    await pypatcher.spawn(pypatcher.UpdaterMode.Now)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, pypatcher.confirm)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
