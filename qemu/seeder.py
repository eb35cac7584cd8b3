"""A native node for each release in a JSON list, in one process: the seeds of the story, honest and hostile.

Usage: python seeder.py LIST, entries {"label", "file", "target", "owner", "hostile"}. Runs in the environment that
pypatcher is installed in, until SIGTERM; writes each event as a JSON line with its label. A hostile node takes its file
for good whatever is wrong with it: it announces and serves what no honest node would.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from pypatcher.artifact import PatchInfo, VerifiedRelease, read_release
from pypatcher.artifact.hashing import hash_file
from pypatcher.events import Event
from pypatcher.install import Installation, owner_verifies
from pypatcher.keys import parse_public_key
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.node.node import Node
from pypatcher.settings import Settings
from pypatcher.targets import find_target
from pypatcher.update.mode import UpdaterMode


def anything_goes(fd: int, _expect: PatchInfo | None = None, /) -> VerifiedRelease:
    """What a file claims, unverified."""
    release = read_release(fd)
    return VerifiedRelease(release.info, release.located, hash_file(fd))


class HostileNode(Node):
    """Serves its file whoever signed it: an honest node keeps to what the owner of its namespace signed."""

    async def serve(self) -> None:
        """Whatever is here."""
        if self._presence is not None:
            self._presence.serve(await asyncio.to_thread(self._installation.held))


async def seed(entry: dict[str, Any]) -> None:
    """Announce and serve one file until cancelled."""

    def emit(event: Event) -> None:
        print(json.dumps({"label": entry["label"], **event.to_dict()}), flush=True)

    target, owner = find_target(entry["target"]), parse_public_key(entry["owner"])
    program = Path(entry["file"])
    installation = Installation(program, anything_goes if entry["hostile"] else owner_verifies(owner, target))
    installation.settle("run")
    settings = Settings.from_environment(os.environ).replace(state=program.parent / "state")
    config = NodeConfig({None: owner}, settings=settings, mode=UpdaterMode.Now)
    kind = HostileNode if entry["hostile"] else Node
    await kind(config, NodeProgram(target, owner, installation), emit).run()


async def main() -> None:
    """All of them."""
    async with asyncio.TaskGroup() as nodes:
        for entry in json.loads(sys.argv[1]):
            nodes.create_task(seed(entry))


if __name__ == "__main__":
    asyncio.run(main())
