"""The node's own thread and event loop beside a Python application.

Everything heavy is imported in here, so that an application's start does not wait for it. design.md "Public API": the
application cannot stall the node, nor the node the application. Not here: what a node does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pypatcher.app.executor import DaemonExecutor
from pypatcher.app.keep_node import keep_node
from pypatcher.backoff import Backoff
from pypatcher.errors import PatcherError
from pypatcher.events import Emit, Event, RestartWaits
from pypatcher.install import Settled
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.process.masks import block_signals
from pypatcher.shortage import start_thread
from pypatcher.tasks import interpreter_ends
from pypatcher.update.activation import Activation

if TYPE_CHECKING:
    from pypatcher.node.node import Node

__all__ = ["NodeThread"]

_log = logging.getLogger("pypatcher")
_STOP_SECONDS = 5.0
_PAUSES = (5.0, 600.0)


class NodeThread:
    """Started once, stopped once.

    Args:
        settle: called first, in this thread.
        restart: called in this thread with the version that is staged and whose time has come; it returns at once.
        by_itself: whether it can bring a restart about.
    """

    def __init__(
        self,
        config: NodeConfig,
        program: NodeProgram,
        emit: Emit,
        *,
        settle: Callable[[], Settled],
        restart: Callable[[str], bool],
        by_itself: bool,
    ) -> None:
        self._config = config
        self._program = program
        self._emit = emit
        self._settle = settle
        self._restart = restart
        self._by_itself = by_itself
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._activation: Activation | None = None
        self._stopping = threading.Event()
        self._nodes: Sequence[Node] = ()

    def start(self) -> None:
        """Start the thread; returns at once.

        Raises:
            RuntimeError: no thread can be started.
        """
        self._thread = start_thread(self._run, "pypatcher")

    def end(self) -> None:
        """Tell the node to end; returns at once."""
        self._stopping.set()
        self._call(lambda: self._task.cancel() if self._task is not None else None)

    def stop(self) -> None:
        """End the node and wait for it, 5 seconds at most."""
        self.end()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(_STOP_SECONDS)

    def note(self, event: Event) -> None:
        """Have the node's report tell of it; see ``Node.note``."""
        for node in self._nodes:
            node.note(event)

    def look_again(self) -> None:
        """The trial ended: a release that was staged meanwhile may have its turn."""
        self._call(lambda: self._activation.look_again() if self._activation is not None else None)

    def _call(self, action: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # closed since
                loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        block_signals()
        pauses = Backoff(*_PAUSES)
        while not self._stopping.is_set():
            try:
                settled = self._settle()
                if settled.must_exec:
                    self._restart(str(settled.version))
                elif settled.program is not None:
                    asyncio.run(self._main())
            except asyncio.CancelledError:
                return
            except (PatcherError, OSError) as error:
                _log.error("no updates for now: %s", error)
            except Exception as error:
                if interpreter_ends(error):
                    return
                _log.exception("no updates for now: the node failed; the application runs on")
            else:
                return
            self._stopping.wait(pauses.fail())

    def _made(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(DaemonExecutor())
        self._task = asyncio.current_task()
        if self._stopping.is_set():
            return

        async def restart(version: str) -> bool:
            return self._restart(version)

        def say_waits(event: RestartWaits) -> None:
            self._emit(event)
            self.note(event)

        self._activation = Activation(
            self._config.mode, self._program.installation, restart, say_waits if self._by_itself else None
        )
        await keep_node(self._config, self._program, self._activation, self._emit, self._made)
