"""A service that keeps itself up to date: a decorator and one call."""

import asyncio
import logging
import os
import sys

import pypatcher

OWNER = "qq139pmqgnno7zcw53gddb9krmkaewbzj3z61excu4q16tkyxu6y"  # yours: it is in owner.key.pub
GREETING = "hello"


@pypatcher.public_key(OWNER)
async def main() -> None:
    version = pypatcher.Version.current(default="0.0.0")  # of the signed file; from its sources it has none
    print(f"{GREETING} from {version}, arguments {sys.argv[1:]}, process {os.getpid()}", flush=True)
    await pypatcher.spawn(pypatcher.UpdaterMode.Now)
    await asyncio.Event().wait()  # the service's own work would be here


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pypatcher").setLevel(logging.INFO)  # shows what its node does
    asyncio.run(main())
