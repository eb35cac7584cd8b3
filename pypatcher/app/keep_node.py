"""Restarts a node whenever it fails, after growing pauses: the same in an application's thread and under ``run``.

The node is imported only when it is made, so that no program waits for its heavy imports. Not here: what a node is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pypatcher.events import Emit
from pypatcher.keys import OwnerKey
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.tasks import keep_running
from pypatcher.update.activation import Activation

if TYPE_CHECKING:
    from pypatcher.node.node import Node

__all__ = ["keep_node"]

_PAUSES = (5.0, 600.0)
_LOOK_AT_KEY = 5.0
_NO_UPDATES = "no updates for now"


async def keep_node(
    config: NodeConfig,
    program: NodeProgram,
    activation: Activation,
    emit: Emit,
    made: Callable[[Sequence[Node]], None] = lambda _: None,
) -> None:
    """Be a node until cancelled: whatever ends it, it is made anew after a pause that grows; ``made`` is told each.

    While the owner's previous key signed the program there are two, one for each key's namespace.
    """

    def make(owners: Sequence[OwnerKey]) -> list[Node]:
        from pypatcher.node.node import Node
        from pypatcher.node.seed import settings_for

        nodes = []
        for number, owner in enumerate(owners):
            own = replace(config, settings=settings_for(config.settings, number, len(owners)))
            its = replace(program, owner=owner)
            nodes.append(Node(own, its, emit, activation.look_again, beside=number > 0))
        return nodes

    nodes: list[Node] = []

    async def be_nodes() -> None:
        nonlocal nodes
        while True:
            owners = await asyncio.to_thread(program.owners)
            nodes = await asyncio.to_thread(make, owners)
            made(nodes)
            async with asyncio.TaskGroup() as tasks:
                work = [tasks.create_task(activation.run()), *(tasks.create_task(node.run()) for node in nodes)]
                await _until_others_own(program, owners)
                for task in work:
                    task.cancel()

    def failed(why: str) -> None:
        for node in nodes[:1]:
            node.say_failed(f"{_NO_UPDATES}: {why}")

    await keep_running(_NO_UPDATES, be_nodes, _PAUSES, failed)


async def _until_others_own(program: NodeProgram, owners: Sequence[OwnerKey]) -> None:
    """Wait until the program, replaced under ``run``, lives in other namespaces."""
    if program.previous is None:
        await asyncio.Event().wait()
    while True:
        await asyncio.sleep(_LOOK_AT_KEY)
        if await asyncio.to_thread(program.owners) != owners:
            return
