"""The Python program of the story: says its version and arguments, and keeps itself up to date."""

import asyncio
import json
import os
import sys

import pypatcher

GREETING = "hello"


@pypatcher.public_key(**json.loads(os.environ["OWNER_KEYS"]))
async def main() -> None:
    print(f"{GREETING}: version {pypatcher.Version.current()}, arguments {sys.argv[1:]}", flush=True)
    await pypatcher.spawn(pypatcher.UpdaterMode.Now)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
