"""A service that keeps itself up to date: a decorator and one call."""

import asyncio
import os
import sys

import pypatcher

GREETING = "hello"


@pypatcher.public_key("OWNER_PUBLIC_KEY")
async def main() -> None:
    print(f"{GREETING} from {pypatcher.Version.current()}, arguments {sys.argv[1:]}, process {os.getpid()}", flush=True)
    await pypatcher.spawn(pypatcher.UpdaterMode.Now)
    await asyncio.Event().wait()  # the service's own work would be here


if __name__ == "__main__":
    asyncio.run(main())
