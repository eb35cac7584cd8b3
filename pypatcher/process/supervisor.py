"""``pypatcher run``: one program, started, watched, stopped, replaced and started again (design.md "`run`").

Lives here: when to start and stop, and which signals go where. Not here: one process's system calls (child), what a
start or an end means for a version on trial (the callbacks, from install and node), the command line.

``run`` stays the main process. Its program is its child, in the same process group and on the same terminal. When
the program ends, ``Supervisor.run`` returns how, and ``end_like`` ends this process alike; only if the callback says
so (a version on trial) it is started again. A program that cannot be executed counts as one that ended with 127 (not
found) or 126, so that a release which does not even start is rolled back like one that crashes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from pypatcher.errors import PatcherError
from pypatcher.process.child import Child, is_foreground, persist_in_starting, start_child, wait_for_end
from pypatcher.process.children import adopt_orphans, descendants, end_children
from pypatcher.process.detection import is_launcher
from pypatcher.process.notify import Notifier, NotifyProxy
from pypatcher.process.packaging import Program
from pypatcher.shortage import persisting
from pypatcher.tasks import in_own_thread

__all__ = ["Hooks", "Supervisor"]

_log = logging.getLogger("pypatcher")

_STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
_FROM_TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT})
_FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
)
_WAIT_AGAIN = 0.5
_PARENT_PATIENCE, _LAUNCHER_PATIENCE = 2.0, 10.0
"""Seconds to end for a program whose children were killed, and for a onefile's launcher: it deletes the unpacked
folder, which takes long on a slow card, and killed before leaves it there. Others had their time, and nothing works.
"""
_CHILDREN_GRACE = 5.0
_Result = TypeVar("_Result")
_WATCHDOG_VARIABLES = frozenset({"WATCHDOG_PID"})


@dataclass(frozen=True, slots=True)
class Hooks:
    """What happens around the program. An exception in a hook is logged and never keeps the program from running.

    Attributes:
        before_start: in a thread, before each start; P may be replaced here.
        started: with the process id of each start.
        ready: the program said READY=1.
        before_stop: before a stop that was asked for, or that a replacement needs, reaches the program.
        ended: in a thread, the program ended by itself with this status (minus the signal); True: start it again.
    """

    before_start: Callable[[], None] = lambda: None
    started: Callable[[int], None] = lambda _pid: None
    ready: Callable[[], None] = lambda: None
    before_stop: Callable[[], None] = lambda: None
    ended: Callable[[int], bool] = lambda _returncode: False


class Supervisor:
    """Runs one program. Everything but the constructor belongs to the main thread's event loop.

    Args:
        program: from ``native``.
        hooks: what happens around it.
        stop_timeout: seconds that it has from SIGTERM to SIGKILL when it is replaced.
        again_after: seconds between the end of a version on trial and its next start.
        told: variables for the program's environment.
    """

    def __init__(
        self,
        program: Program,
        *,
        hooks: Hooks | None = None,
        stop_timeout: float = 30.0,
        again_after: float = 1.0,
        told: Mapping[str, str] | None = None,
    ) -> None:
        self._program = program
        self._hooks = hooks if hooks is not None else Hooks()
        self._upstream = Notifier(program.origin.environment, os.getpid())
        self._stop_timeout = stop_timeout
        self._again_after = again_after
        self._told = dict(told or {})
        self._child: Child | None = None
        self._proxy: NotifyProxy | None = None
        self._stop: int | None = None
        self._stopped = asyncio.Event()
        self._forwarded: set[int] = set()
        self._replacement: _Replacement | None = None
        self._ready_said = False
        self._adopts_orphans = False

    @property
    def pid(self) -> int | None:
        """Process id of the program, None between two starts."""
        return None if self._child is None else self._child.pid

    async def run(self) -> int:
        """Run the program until it ends for good; returns its exit status, or minus the signal that ended it.

        A stop asked for while no program runs returns minus that signal.

        Raises:
            RuntimeError: this is not the main thread (the program would be killed at that thread's end).
            OSError: no process can be made.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a program can only be supervised from the main thread")
        with contextlib.ExitStack() as cleanup:
            self._adopts_orphans = adopt_orphans()
            self._handle_signals(cleanup)
            return await self._run_until_end(self._told | self._open_proxy(cleanup))

    async def replace(self, activate: Callable[[], None] | None = None) -> None:
        """Stop the program, call ``activate`` in a thread, start it again; returns when it was started.

        If ``activate`` fails, that is logged and the program at its path is started. If a stop is asked for meanwhile,
        this returns and ``run`` ends. One replacement at a time: a second call waits for the first one's start. It goes
        on if the caller is cancelled.
        """
        if self._replacement is None:
            self._replacement = _Replacement(activate)
            if self._child is not None:
                self._call(self._hooks.before_stop)
        replacement = self._replacement
        if self._child is not None:
            if replacement.ending is None or replacement.ending.done():
                replacement.ending = asyncio.create_task(self._end_kept(self._child))
            await asyncio.shield(replacement.ending)
        await replacement.done.wait()

    @property
    def stop_was_asked(self) -> bool:
        """Whether the program is to end for good."""
        return self._stop is not None

    @property
    def hears_program(self) -> bool:
        """Whether READY=1 of the program would be heard."""
        return self._proxy is not None and self._proxy.is_reachable

    async def give_up(self, why: str) -> None:
        """End the program as one that failed; ``ended`` then says what comes next, as if it had ended by itself."""
        if self._child is not None and self._replacement is None and self._stop is None:
            _log.warning("the program is stopped: %s", why)
            await self._end_kept(self._child)

    def _open_proxy(self, cleanup: contextlib.ExitStack) -> dict[str, str]:
        """What the program is told of the notify socket; nothing, where a sandbox allows none."""
        loop = asyncio.get_running_loop()
        try:
            proxy = NotifyProxy(self._upstream, self._on_ready, lambda: self._stop is not None)
            cleanup.callback(proxy.close)
            persisting(lambda: loop.add_reader(proxy, proxy.receive))
        except OSError as error:
            _log.warning("no notify socket for the program: %s", error)
            return {}
        cleanup.callback(loop.remove_reader, proxy)
        self._proxy = proxy
        return {"NOTIFY_SOCKET": proxy.address}

    async def _run_until_end(self, added: dict[str, str]) -> int:
        while True:
            async with self._upstream.watchdog_kept():
                await self._activate()
                await self._in_thread(self._hooks.before_start, None)
            if self._stop is not None:
                self._finish_replacement()
                return -self._stop
            if self._replacement is not None and not self._replacement.activated:
                continue  # asked for since
            returncode = await self._run_once(added)
            if self._was_asked_to_end(returncode):
                await self._end_what_is_left()
                self._finish_replacement()
                return returncode
            if self._replacement is not None:
                await self._end_what_is_left()
                continue
            if not await self._in_thread(partial(self._hooks.ended, returncode), False):
                return returncode
            await self._end_what_is_left()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), self._again_after)

    async def _run_once(self, added: dict[str, str]) -> int:
        self._forwarded.clear()
        child = self._child = await persist_in_starting(
            partial(start_child, self._program, added, _WATCHDOG_VARIABLES), self._stopped
        )
        if self._stop is not None:  # it came while no process could be made
            child.send(self._stop)
        self._finish_replacement()
        if child.failure:
            _log.error("cannot execute %s: %s", self._program.executable, os.strerror(child.failure))
        else:
            self._say_ready()
            self._call(lambda: self._hooks.started(child.pid))
        try:
            await _wait_whatever_fails(child)
        except asyncio.CancelledError:
            await self._end_child(child)
            raise
        finally:
            self._child = None
        return persisting(child.reap)

    async def _activate(self) -> None:
        replacement = self._replacement
        if replacement is not None and self._stop is None:
            replacement.activated = True
            if replacement.activate is not None:
                await self._in_thread(replacement.activate, None)

    def _finish_replacement(self) -> None:
        if self._replacement is not None:
            self._replacement.done.set()
            self._replacement = None

    async def _end_kept(self, child: Child) -> None:
        async with self._upstream.watchdog_kept():
            await self._end_child(child)

    async def _end_child(self, child: Child) -> None:
        """Stop signal, time, SIGKILL.

        SIGKILL goes to its descendants first: the launcher of a onefile program then still deletes the unpacked folder.
        """
        child.send(signal.SIGTERM)
        waiting = asyncio.create_task(wait_for_end(child))
        if await _ends_within(waiting, self._stop_timeout):
            return
        _log.warning("the program did not end within %g s; it is killed", self._stop_timeout)
        patience = _LAUNCHER_PATIENCE if is_launcher(child.pid) else _PARENT_PATIENCE
        below = descendants(child.pid)
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not below or not await _ends_within(waiting, patience):
            child.send(signal.SIGKILL)
            await waiting

    async def _end_what_is_left(self) -> None:
        """What the program started does not live on beside its next start, nor after a stop."""
        async with self._upstream.watchdog_kept():
            await self._in_thread(partial(end_children, _CHILDREN_GRACE), None)

    def _say_ready(self) -> None:
        """Once: the unit is up when its program runs, whether or not the program itself knows systemd."""
        if not self._ready_said:
            self._ready_said = True
            self._upstream.send("READY=1")

    def _handle_signals(self, cleanup: contextlib.ExitStack) -> None:
        loop = asyncio.get_running_loop()
        for number in _FORWARDED:
            if number in self._program.origin.ignored:
                continue
            with contextlib.suppress(RuntimeError):  # an emulator may have fewer signals
                loop.add_signal_handler(number, self._on_signal, number)
                cleanup.callback(loop.remove_signal_handler, number)

        if self._adopts_orphans or os.getpid() == 1:
            loop.add_signal_handler(signal.SIGCHLD, self._reap_orphans)
            cleanup.callback(loop.remove_signal_handler, signal.SIGCHLD)

    def _reap_orphans(self) -> None:
        """We are given every process below us, in a container every one of it, whose parent has ended."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if self._child is not None and ended.si_pid == self._child.pid:
                    return
                os.waitpid(ended.si_pid, 0)

    def _on_signal(self, number: int) -> None:
        if number in _STOPS:
            if self._stop is None:
                self._call(self._hooks.before_stop)
            self._stop = number
            self._stopped.set()
        self._forwarded.add(number)
        # What is typed at a terminal has reached the whole process group already.
        if self._child is not None and not (number in _FROM_TERMINAL and is_foreground()):
            self._child.send(number)

    def _was_asked_to_end(self, returncode: int) -> bool:
        return self._stop is not None or -returncode in self._forwarded

    def _on_ready(self) -> None:
        self._call(self._hooks.ready)

    def _call(self, hook: Callable[[], None]) -> None:
        try:
            hook()
        except Exception as error:
            _say_failed(error)

    async def _in_thread(self, hook: Callable[[], _Result], otherwise: _Result) -> _Result:
        try:
            return await in_own_thread(hook)
        except Exception as error:
            _say_failed(error)
            return otherwise


@dataclass(slots=True)
class _Replacement:
    activate: Callable[[], None] | None
    activated: bool = False
    ending: asyncio.Task[None] | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


def _say_failed(error: Exception) -> None:
    if isinstance(error, PatcherError | OSError):
        _log.error("a step around the program failed, and it goes on: %s", error)
    else:
        _log.error("a step around the program failed, and it goes on", exc_info=error)


async def _wait_whatever_fails(child: Child) -> None:
    """The program runs on: who waits for its end may not leave before it."""
    while True:
        try:
            await wait_for_end(child)
        except (OSError, PatcherError, RuntimeError) as error:
            _log.warning("waiting for the program failed, and is begun again: %s", error)
            await asyncio.sleep(_WAIT_AGAIN)
        else:
            return


async def _ends_within(waiting: asyncio.Task[None], seconds: float) -> bool:
    try:
        await asyncio.wait_for(asyncio.shield(waiting), seconds)
    except TimeoutError:
        return False
    return True
