"""``pypatcher run``: a program that knows nothing of updates, and its node beside it in one process.

Connects the supervisor (``process``), the installation (``install``) and the node: what each start and end of the
program means for a version on trial, and how a staged release takes over. Not here: signals and processes
(``process.supervisor``). design.md "`run`".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pypatcher.app.keep_node import keep_node
from pypatcher.app.starter import only_starts
from pypatcher.errors import PatcherError
from pypatcher.events import Emit, ProgramEnded, Restart, RestartWaits, TrialConfirmed
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.node.log import say_settled
from pypatcher.node.report import report_obstacle
from pypatcher.process import Hooks, Program, Supervisor, how_it_ended, told_of_run, who_stays
from pypatcher.shortage import persisting
from pypatcher.tasks import Threads, keep_running
from pypatcher.update.activation import Activation

if TYPE_CHECKING:
    from pypatcher.node.node import Node

__all__ = ["RunPlan", "run_program"]

_PAUSES = (1.0, 60.0)
_HELPERS_END = 1.0
"""Seconds for helpers to end after a program that ended well; who is there then goes on in the background."""
_SHORT = 60.0
"""Seconds in which a node hardly finds a release."""
_log = logging.getLogger("pypatcher")


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What to run and how.

    Attributes:
        node: what the node beside it is to be.
        stop_timeout: seconds from a stop signal to SIGKILL.
        obstacle: why there can be no node, if that is so; starts are counted all the same.
        ready_within: seconds after a start in which a version on trial must say READY=1; None is for ever.
    """

    program: Program
    node: NodeConfig
    stop_timeout: float
    ready_within: float | None = None
    obstacle: str = ""


async def run_program(plan: RunPlan, emit: Emit) -> int:
    """Run the program until it ends for good; returns its status, or minus the signal that ended it.

    Whatever keeps updates from working here is logged and keeps the program from nothing.

    Raises:
        OSError: no process can be made.
    """
    try:
        program = persisting(lambda: NodeProgram.find(plan.program.path, Path(sys.executable), plan.node))
    except (PatcherError, OSError) as error:
        _log.error("no updates: %s", error)
        return await Supervisor(plan.program, stop_timeout=plan.stop_timeout).run()
    runner = _Runner(plan, program, emit)
    asyncio.get_running_loop().set_default_executor(Threads())
    node = asyncio.create_task(runner.keep_node())
    try:
        return await runner.supervisor.run()
    finally:
        tasks = [task for task in (node, runner.deadline, runner.confirming) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        report_obstacle(program.installation, runner.why_not_updated)  # after the last word of the node


class _Runner:
    def __init__(self, plan: RunPlan, program: NodeProgram, emit: Emit) -> None:
        self._plan = plan
        self._program = program
        self._emit = emit
        self._installation = program.installation
        self._activation = Activation(plan.node.mode, self._installation, self._replace, self._say_waits)
        self._nodes: Sequence[Node] = ()
        self._first_start = asyncio.Event()
        self._is_ready = False
        self._started_at = time.monotonic()
        self._gets_updates = False
        self.why_not_updated = ""
        """What the last end of the program means for its updates; empty: nothing."""
        self.deadline: asyncio.Task[None] | None = None
        self.confirming: asyncio.Task[None] | None = None
        hooks = Hooks(
            before_start=self._before_start,
            started=self._started,
            ready=self._ready,
            before_stop=self._before_stop,
            ended=self._ended,
        )
        self.supervisor = Supervisor(
            plan.program, hooks=hooks, stop_timeout=plan.stop_timeout, told=told_of_run(plan.program.path)
        )

    async def keep_node(self) -> None:
        """Be a node from the program's first start on."""
        await self._first_start.wait()
        if self._plan.obstacle:
            _log.error("no updates until the environment is mended: %s", self._plan.obstacle)
            await asyncio.to_thread(report_obstacle, self._installation, self._plan.obstacle)
            return
        await keep_node(self._plan.node, self._program, self._activation, self._emit, self._made)

    def _made(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes

    def _say_waits(self, event: RestartWaits) -> None:
        self._emit(event)
        for node in self._nodes:
            node.note(event)

    async def _replace(self, version: str) -> bool:
        self._emit(Restart(version, "stop and start"))
        await self.supervisor.replace()
        return True

    # Around the program: see process.Hooks for when and in which thread.

    def _before_start(self) -> None:
        self._installation.together.wait_for_end(lambda: self.supervisor.stop_was_asked)
        settled = self._installation.settle("run")
        if settled.reason and (instead := only_starts(self._plan.program.path, self._plan.program.argv[1:])):
            settled = replace(settled, reason=instead)
        say_settled(settled, self._emit)
        report_obstacle(self._installation, settled.reason)
        self._gets_updates = not settled.reason

    def _started(self, _pid: int) -> None:
        self._started_at = time.monotonic()
        self.why_not_updated = ""
        self._first_start.set()
        self._is_ready = False
        for task in (self.deadline, self.confirming):  # of the program before
            if task is not None:
                task.cancel()
        if self._plan.ready_within is not None:
            self.deadline = asyncio.create_task(self._give_up_after(self._plan.ready_within))
        for node in self._nodes:
            node.program_started()

    async def _give_up_after(self, seconds: float) -> None:
        """A version on trial that hangs would be on trial for ever, or confirmed for having been there."""
        await asyncio.sleep(seconds)
        await keep_running("whether the program is on trial", partial(self._give_up_on_trial, seconds), _PAUSES)

    async def _give_up_on_trial(self, seconds: float) -> None:
        if not self.supervisor.hears_program:
            _log.warning("READY=1 cannot be heard: somebody removed the notify socket of the program")
            return
        trial = None if self._is_ready else (await asyncio.to_thread(self._installation.status)).trial
        # It may have said so while the disk was read.
        if trial is not None and not trial.rolling_back and not self._is_ready:
            await self.supervisor.give_up(f"{trial.version} is on trial and did not say READY=1 within {seconds:g} s")

    def _ready(self) -> None:
        self._is_ready = True
        if self.confirming is None or self.confirming.done():
            self.confirming = asyncio.create_task(keep_running("READY=1", self._confirm, _PAUSES))

    def _before_stop(self) -> None:
        self._installation.end_start(requested=True)

    def _ended(self, returncode: int) -> bool:
        seconds = time.monotonic() - self._started_at
        how, left = how_it_ended(returncode, seconds, time.time()), list[str]()
        if returncode == 0:
            with contextlib.suppress(OSError):  # whatever cannot be seen, the end is written down
                left = who_stays(_HELPERS_END)
            self._say_why_not_updated(how, left, is_short=seconds < _SHORT)
        how += f", {len(left)} processes went on in the background" if left else ""
        return self._installation.end_start(requested=False, how=how)

    def _say_why_not_updated(self, how: str, left: Sequence[str], *, is_short: bool) -> None:
        """Of a program that ended well; one that gets no updates at all was told at its start."""
        if not self._gets_updates or not (left or is_short):
            return
        self.why_not_updated = (
            f"it went to the background: its first process ended ({how}), and others that it started run on "
            f"without updates: {', '.join(left[:3])}. Start it in the foreground"
            if left
            else f"it ended by itself ({how}), and is updated only while it runs: if its work goes on elsewhere, "
            "let run start what does it, in the foreground"
        )
        self._emit(ProgramEnded(self.why_not_updated))

    async def _confirm(self) -> None:
        version = await asyncio.to_thread(self._installation.confirm)
        if version is not None:
            self._emit(TrialConfirmed(str(version), "READY=1"))
            self._activation.look_again()
