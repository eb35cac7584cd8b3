"""A node at work beside a program, and what it is to be: the same in an application's thread and under ``run``.

The node itself is imported only when it is made, so that no program waits for its heavy imports.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pypatcher.events import Emit
from pypatcher.install import Installation
from pypatcher.keys import OwnerKey
from pypatcher.node.device import Kind
from pypatcher.settings import Settings
from pypatcher.targets import Target
from pypatcher.tasks import keep_running
from pypatcher.update.activation import Activation
from pypatcher.update.mode import Mode

if TYPE_CHECKING:
    from pypatcher.node.node import Node

__all__ = ["NodePlan", "keep_node"]

_PAUSES = (5.0, 600.0)


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What a node is to be; see ``Node``."""

    kind: Kind
    target: Target
    owner: OwnerKey
    installation: Installation
    settings: Settings
    mode: Mode
    confirm_by_uptime: bool


async def keep_node(
    plan: NodePlan, activation: Activation, emit: Emit, made: Callable[[Node], None] = lambda _: None
) -> None:
    """Be a node until cancelled: whatever ends it, it is made anew after a pause that grows; ``made`` is told each."""

    async def be_node() -> None:
        node = await asyncio.to_thread(_make, plan, activation, emit)
        made(node)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(activation.run())
            tasks.create_task(node.run())

    await keep_running("no updates for now", be_node, _PAUSES)


def _make(plan: NodePlan, activation: Activation, emit: Emit) -> Node:
    from pypatcher.node.node import Node, namespace_for

    return Node(
        namespace_for(plan.kind, plan.target, plan.owner),
        plan.installation,
        plan.settings,
        mode=plan.mode,
        emit=emit,
        confirm_by_uptime=plan.confirm_by_uptime,
        on_change=activation.look_again,
    )
