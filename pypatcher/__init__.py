"""Secure, fully decentralized self-update for single-file programs on Linux devices.

    import pypatcher

    @pypatcher.public_key("K")
    async def main() -> None:
        await pypatcher.spawn(pypatcher.UpdaterMode.At(3, 30))
        ...                                     # the application

    asyncio.run(main())

The owner signs a build and runs it on one device; every device that trusts the owner's key finds it in the BitTorrent
Mainline DHT, fetches it from its peers, verifies it, replaces itself and restarts. README.md has the release workflow,
docs/protocol.md the bytes. This module is the public API and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from pypatcher.errors import PatcherError
from pypatcher.events import Emit, Event
from pypatcher.update.mode import Mode, UpdaterMode

if TYPE_CHECKING:
    from pypatcher.app.current import Patch, Version
    from pypatcher.app.patcher import Confirm, NamespaceKind, NodeSettings, Patcher

__all__ = [
    "Event",
    "Patch",
    "PatcherError",
    "UpdaterMode",
    "Version",
    "confirm",
    "on_event",
    "on_restart",
    "public_key",
    "spawn",
    "start",
    "stop",
]

_Main = TypeVar("_Main", bound=Callable[..., Any])


@cache
def _patcher() -> Patcher:
    """The one of this process. Commands that sign a file import this package too, and need none."""
    from pypatcher.app.patcher import Patcher

    return Patcher()


def public_key(
    key: str | None = None,
    /,
    *,
    previous: str | Mapping[str, str] | None = None,
    namespace: NamespaceKind = "pypatcher",
    **keys: str,
) -> Callable[[_Main], _Main]:
    """Trust this owner's key; decorate the application's main with the result, or ignore it.

    Args:
        key: z-base-32 text, as ``pypatcher gen`` prints it, for whatever device this is.
        previous: the key before, while the owner changes it: one for all, or a dictionary with one for each target.
            Releases of both count until one that ``key`` signed is the program.
        namespace: ``rustpatcher`` joins the devices of the Rust program of that name.
        keys: one key per target instead, such as ``armv7="..."``; the running device picks its own.

    Raises:
        KeyFileError, SettingError: a key is none, or a target is unknown.
    """
    _patcher().trust(key, keys, namespace, previous)
    return _patcher().wrap


async def spawn(mode: Mode = UpdaterMode.Now, *, confirm: Confirm = "uptime", **settings: Unpack[NodeSettings]) -> None:
    """Update this program from now on; for programs with an asyncio loop. Returns at once.

    The node runs in a thread of its own. Nothing about the network, the disk or the environment is raised; it is
    logged to the logger ``pypatcher`` and said to ``on_event``. Outside a single-file program this says so, once, and
    does nothing.

    Args:
        mode: when a staged release takes over.
        confirm: ``uptime``: a new version is confirmed after 5 minutes; ``manual``: by ``confirm()`` alone.
        settings: what the environment variables of README.md set, and wins over them; ``rollout=True``: nothing is
            taken before a manifest of the owner was heard.

    Raises:
        SettingError: an argument makes no sense, or the updater runs already.
    """
    start(mode, confirm=confirm, **settings)


def start(mode: Mode = UpdaterMode.Now, *, confirm: Confirm = "uptime", **settings: Unpack[NodeSettings]) -> None:
    """The same as ``spawn``, for programs without a loop; call it from the main thread."""
    _patcher().start(mode, confirm, settings)


def stop() -> None:
    """Stop updating and wait until the node is gone, 5 seconds at most."""
    _patcher().stop()


def confirm() -> bool:
    """The version that runs works: end its trial. Returns False when it is not on trial.

    Raises:
        OSError: that could not be written down; try again.
    """
    return _patcher().confirm()


def on_event(callback: Emit) -> Callable[[], None]:
    """Call ``callback`` with every event, in whichever thread it happens; returns the function that ends this."""
    return _patcher().on_event(callback)


def on_restart(callback: Callable[[], object]) -> None:
    """Call ``callback``, a function or coroutine function, before this program is restarted.

    The restart waits until it returns, 10 minutes at most for all of them.
    """
    _patcher().on_restart(callback)


def __getattr__(name: str) -> object:
    # Reading signed files needs more imports than an application's start should wait for.
    if name in ("Patch", "Version"):
        from pypatcher.app import current

        found: object = getattr(current, name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
