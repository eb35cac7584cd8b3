"""Keeps a node at work beside a program: the same in an application's thread and under ``run``.

The node itself is imported only when it is made, so that no program waits for its heavy imports.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from pypatcher.events import Emit
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.tasks import keep_running
from pypatcher.update.activation import Activation

if TYPE_CHECKING:
    from pypatcher.node.node import Node

__all__ = ["keep_node"]

_PAUSES = (5.0, 600.0)


async def keep_node(
    config: NodeConfig,
    program: NodeProgram,
    activation: Activation,
    emit: Emit,
    made: Callable[[Node], None] = lambda _: None,
) -> None:
    """Be a node until cancelled: whatever ends it, it is made anew after a pause that grows; ``made`` is told each."""

    def make() -> Node:
        from pypatcher.node.node import Node

        return Node(config, program, emit, activation.look_again)

    async def be_node() -> None:
        node = await asyncio.to_thread(make)
        made(node)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(activation.run())
            tasks.create_task(node.run())

    await keep_running("no updates for now", be_node, _PAUSES)
