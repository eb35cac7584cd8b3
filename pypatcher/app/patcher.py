"""Self-update of the Python program that runs: ``public_key``, ``spawn``, ``start``, ``stop`` and what goes with them.

One `Patcher` per process. The application's thread does as little as possible: it finds out which file it is, activates
a staged release if one waits, and starts the node's thread. No failure of the network, the disk or the environment is
raised into the application. Not here: the node (``node``), the restart (``process.restart``). design.md "Who uses it"
and "Staging, activating, restarting, going back".
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

from pypatcher.addresses import Address
from pypatcher.app.thread import NodeThread
from pypatcher.errors import PatcherError, SettingError
from pypatcher.events import Emit, Event, EventBus, Restart, RestartWaits, TrialConfirmed
from pypatcher.install import Settled
from pypatcher.keys import OwnerKey, parse_public_key
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.node.device import NamespaceKind
from pypatcher.node.log import json_lines, log_as_json, say_settled
from pypatcher.node.report import report_obstacle
from pypatcher.process import Notifier, Program, Restarter, detect, has_lost_its_bundle, is_proxy, is_under_run
from pypatcher.process.ending import Ending
from pypatcher.process.masks import as_main_blocks
from pypatcher.settings import Settings
from pypatcher.shortage import persisting
from pypatcher.targets import find_target
from pypatcher.update.mode import Mode

__all__ = ["Confirm", "NamespaceKind", "NodeSettings", "Patcher"]

_log = logging.getLogger("pypatcher")
_Main = TypeVar("_Main", bound=Callable[..., Any])

_LOST_BUNDLE = (
    "the launcher of this onefile has ended, and deleted what it unpacked: a onefile that makes a daemon of itself "
    "loses its modules, so start it in the foreground"
)
_UNDER_RUN = (
    "`pypatcher run` keeps this program up to date, so its own start() makes no second node: what it says of keys, "
    "mode, confirm= and settings, and on_restart callbacks, do not count. Give them to `run`, or start the program "
    "without it: `pypatcher unit --guard` writes such a unit"
)

Confirm: TypeAlias = Literal["uptime", "manual"]


class NodeSettings(TypedDict, total=False):
    """The settings that ``spawn`` and ``start`` take; see ``Settings``."""

    bootstrap: tuple[Address, ...]
    bind: tuple[Address, ...]
    publish_interval: float
    look_interval: float | None
    upload: int
    upload_day: int | None
    download: int | None
    download_day: int | None
    port_mapping: bool
    lan: bool
    state: Path | None
    allow_volatile: bool
    rollout_place: str
    device_id: bytes | None
    rollout: bool
    metered: bool
    metered_size: int
    json_log: bool


class Patcher:
    """Updates the program of this process."""

    def __init__(self) -> None:
        self.bus = EventBus()
        self._keys: dict[str | None, OwnerKey] = {}
        self._previous: dict[str | None, OwnerKey] = {}
        self._kind: NamespaceKind = "pypatcher"
        self._lock = threading.RLock()
        self._running: _Running | None = None
        self._looked = False
        self._thread: NodeThread | None = None
        self._on_restart: list[Callable[[], object]] = []
        self._json_lines: Callable[[], None] | None = None
        self._ending = Ending()

    def trust(
        self,
        key: str | None,
        keys: Mapping[str, str],
        kind: NamespaceKind,
        previous: str | Mapping[str, str] | None = None,
    ) -> None:
        """Set whose releases this program takes: one key, or one per target, and the owner's key before it.

        Raises:
            KeyFileError, SettingError: a key is none, a target is unknown, or there is no key at all.
        """
        if (key is None) == (not keys):
            raise SettingError('give one key, public_key("..."), or one per target, public_key(armv7="...", ...)')
        if kind not in ("pypatcher", "rustpatcher"):
            raise SettingError(f"namespace {kind!r} is unknown: choose pypatcher or rustpatcher")
        if threading.current_thread() is threading.main_thread():
            self._ending.attach()  # spawn may be called in another one
        self._kind = kind
        self._keys = _read_keys(key if key is not None else keys)
        self._previous = {} if previous is None else _read_keys(previous)

    def wrap(self, main: _Main) -> _Main:
        """The application's main, sync or async, such that a staged release is activated before it runs, and that a
        restart ends it in good order.
        """
        if inspect.iscoroutinefunction(main):

            @functools.wraps(main)
            async def async_main(*args: Any, **keywords: Any) -> Any:
                running = self._prepare(main_waits=True)
                if running is None:
                    return await main(*args, **keywords)
                with running.restarter.around_main():
                    return await main(*args, **keywords)

            return async_main  # type: ignore[return-value]

        @functools.wraps(main)
        def sync_main(*args: Any, **keywords: Any) -> Any:
            running = self._prepare(main_waits=True)
            if running is None:
                return main(*args, **keywords)
            with running.restarter.around_main():
                return main(*args, **keywords)

        return sync_main  # type: ignore[return-value]

    def start(self, mode: Mode, confirm: Confirm, settings: NodeSettings) -> None:
        """Start the node, once; see ``pypatcher.start``."""
        if not self._keys:
            raise SettingError('call pypatcher.public_key("...") first, or decorate main with it')
        if confirm not in ("uptime", "manual"):
            raise SettingError(f"confirm={confirm!r}: choose 'uptime' or 'manual'")
        if not isinstance(mode, Mode):
            raise SettingError(f"{mode!r} is no mode: choose UpdaterMode.Now, .OnRestart or .At(hour, minute)")
        with self._lock:
            if self._thread is not None:
                raise SettingError("the updater runs already: call spawn() or start() once")
            try:
                base = Settings.from_environment(os.environ)
            except SettingError as error:
                # Whoever set this device's environment is not there to see an exception; the application must run.
                _log.error("no updates until the environment is mended: %s", error)
                return
            chosen = base.replace(**settings)
            running = self._prepare()
            if running is None:
                return
            if running.under_run:
                _log.warning("%s", _UNDER_RUN)
                return
            running.restarter.attach()
            self._write_json(wanted=chosen.json_log)
            if chosen.json_log:
                log_as_json()
            config = NodeConfig(
                self._keys,
                self._kind,
                self._previous,
                settings=chosen,
                mode=mode,
                confirm_by_uptime=confirm == "uptime",
            )
            self._thread = NodeThread(
                config,
                running.program,
                self.bus.emit,
                settle=running.settle,
                restart=self._request_restart,
                by_itself=running.restarter.plan.at_once,
            )
            try:
                self._thread.start()
            except RuntimeError as error:
                _log.error("no updates until the next start: %s", error)
            _say_ready(os.environ)

    def stop(self) -> None:
        """Stop the node and wait for it; a staged release stays for the next start."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def confirm(self) -> bool:
        """End the trial of the running version; False when it is not on trial.

        Raises:
            OSError: the disk is full or broken; try again.
        """
        running, thread = self._running, self._thread
        version = None if running is None else running.program.installation.confirm()
        if version is None:
            return False
        self.bus.emit(TrialConfirmed(str(version), "the application"))
        if thread is not None:
            thread.look_again()
        return True

    def on_event(self, callback: Emit) -> Callable[[], None]:
        """Call ``callback`` with every event; returns the function that ends this."""

        def call(event: Event) -> None:
            with as_main_blocks():
                callback(event)

        return self.bus.subscribe(call)

    def on_restart(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` before a restart; it delays it by not returning yet, 10 minutes at most."""
        with self._lock:
            self._on_restart.append(callback)
            if self._running is not None:
                self._running.restarter.on_restart(callback)

    def _prepare(self, *, main_waits: bool = False) -> _Running | None:
        """Find out what runs, and activate what waits, once; None outside a single-file program.

        Under ``run`` nothing is activated or judged here: releases come by its key, whichever key the program names.

        Args:
            main_waits: the application has not begun.

        Raises:
            RestartExit: another program lies at our path now; this process becomes it.
        """
        with self._lock:
            if self._looked:
                return self._running
            self._looked = True
            try:
                config = NodeConfig(self._keys, self._kind, self._previous)
                running = persisting(lambda: _Running(detect(), config, self.bus, self._ending))
            except (PatcherError, OSError) as error:
                _log.warning("no updates: %s", error)
                return None
            self._running = running
            for callback in self._on_restart:
                running.restarter.on_restart(callback)
        if running.program.installation.has_pending():
            if running.under_run:
                running.program.installation.recognise()
            else:
                with contextlib.suppress(SettingError):  # `start` says so
                    self._write_json(wanted=Settings.from_environment(os.environ).json_log)
                if main_waits:
                    running.program.installation.together.wait_for_end()
                if running.settle().must_exec:
                    running.restarter.restart()
        return running

    def _write_json(self, *, wanted: bool) -> None:
        """Events on stderr as JSON lines, and no other way, or not so."""
        if wanted and self._json_lines is None:
            self._json_lines = self.bus.subscribe(json_lines())
        elif not wanted and self._json_lines is not None:
            self._json_lines()
            self._json_lines = None
        self.bus.logs_events = not wanted

    def _request_restart(self, version: str) -> bool:
        """False if it is to be asked for again."""
        running = self._running
        if running is None:
            return True
        plan = running.restarter.plan
        if not plan.at_once:
            waits = RestartWaits(version, plan.reason)
            self.bus.emit(waits)
            if self._thread is not None:
                self._thread.note(waits)
            return True
        if running.restarter.request(functools.partial(self._activate, running), self._end_node):
            self.bus.emit(Restart(version, plan.how.value))
        return running.restarter.is_requested

    def _end_node(self) -> None:
        """The application is told to end: nothing of ours is left to do when it has."""
        thread = self._thread
        if thread is not None:
            thread.end()

    def _activate(self, running: _Running) -> None:
        """The last act of this process: its application has ended, the next one is to find the new file at P."""
        self.stop()
        running.program.installation.together.wait_for_end(lambda: self._ending.stopped)
        running.settle_again(ends=True)


def _say_ready(environment: Mapping[str, str]) -> None:
    """Tell systemd that the unit is up. Below ``pypatcher run`` that would end a trial: the program must say it."""
    if not is_proxy(environment.get("NOTIFY_SOCKET", "")):
        Notifier(environment, os.getpid()).send("READY=1")


def _read_keys(keys: str | Mapping[str, str]) -> dict[str | None, OwnerKey]:
    if isinstance(keys, str):
        return {None: parse_public_key(keys)}
    return {find_target(target).name: parse_public_key(text) for target, text in keys.items()}


class _Running:
    """The program of this process, and whose releases it takes."""

    def __init__(self, process: Program, config: NodeConfig, bus: EventBus, ending: Ending) -> None:
        self.restarter = Restarter(process, ending=ending)
        self.program = NodeProgram.find(process.path, process.executable, config)
        self.program.installation.runs_from_here(functools.partial(process.packaging.was_replaced, process))
        self.under_run = is_under_run(process)
        self._process = process
        self._bus = bus
        self._settled: Settled | None = None

    def settle(self) -> Settled:
        """Bring the program's path to what it should be; the start is counted once."""
        if self._settled is None:
            self.settle_again()
        return self._settled  # type: ignore[return-value]

    def settle_again(self, *, ends: bool = False) -> None:
        """The same; it ``ends`` after the application has ended."""
        settled = self.program.installation.settle("spawn", main_pid=self._process.launcher, ends=ends)
        if not ends and not settled.must_exec and has_lost_its_bundle(self._process):
            settled = dataclasses.replace(settled, program=None, reason=_LOST_BUNDLE)
        self._settled = settled
        say_settled(self._settled, self._bus.emit)
        report_obstacle(self.program.installation, self._settled.reason)
