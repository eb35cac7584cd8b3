"""What a node says: one small frozen type per event, and the bus that carries them.

Events are the one account of what a node does; the log, the JSON lines and the progress bar all read them (design.md
"What a node says"). Node ids are 64 hex digits, owner keys z-base-32, addresses ``host:port``, versions text. No
event carries a secret. Nothing here knows who emits or who listens.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import ClassVar, TypeAlias

__all__ = [
    "AddressesChanged",
    "ClockDiffers",
    "DhtJoined",
    "DhtSilent",
    "Emit",
    "Event",
    "EventBus",
    "FetchFailed",
    "FetchProgress",
    "FetchStarted",
    "FleetSilent",
    "NodeStarted",
    "NodeStopped",
    "PortMapped",
    "PreflightFailed",
    "ProgramEnded",
    "RecordPublished",
    "ReleaseActivated",
    "ReleaseConflicts",
    "ReleaseFound",
    "ReleaseOffered",
    "ReleaseRefused",
    "ReleaseServed",
    "ReleaseStaged",
    "ReleaseWithheld",
    "Restart",
    "RestartWaits",
    "TrialConfirmed",
    "TrialRolledBack",
    "TrialStarted",
]

_log = logging.getLogger("pypatcher")


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events; ``name`` is the dotted name that scripts match."""

    name: ClassVar[str]
    level: ClassVar[int] = logging.INFO

    def to_dict(self) -> dict[str, object]:
        """The event's fields as plain values, ``event`` first."""
        return {"event": self.name, **asdict(self)}

    def __str__(self) -> str:
        return f"{self.name} " + " ".join(f"{key}={value}" for key, value in asdict(self).items())


@dataclass(frozen=True, slots=True)
class NodeStarted(Event):
    """The node listens. ``addresses`` are its own sockets', ``mode`` the updater's.

    ``outside`` is where others may reach it as far as it knows yet, ``nat`` is easy, hard or unknown: see
    ``AddressesChanged``.
    """

    name: ClassVar[str] = "node.started"
    node_id: str
    addresses: tuple[str, ...]
    namespace: str
    version: str
    mode: str
    outside: tuple[str, ...] = ()
    nat: str = "unknown"


@dataclass(frozen=True, slots=True)
class AddressesChanged(Event):
    """Others reach the node there now, as far as it knows; ``nat`` is easy, hard or unknown."""

    name: ClassVar[str] = "addresses.changed"
    addresses: tuple[str, ...]
    nat: str


@dataclass(frozen=True, slots=True)
class DhtJoined(Event):
    """A node of the DHT answered: the first, or the first after ``DhtSilent``."""

    name: ClassVar[str] = "dht.joined"


@dataclass(frozen=True, slots=True)
class FleetSilent(Event):
    """For a day of uptime nobody met this device, or nobody gave it the owner's manifest; or somebody is in the way."""

    name: ClassVar[str] = "fleet.silent"
    level: ClassVar[int] = logging.WARNING
    reason: str


@dataclass(frozen=True, slots=True)
class DhtSilent(Event):
    """No node of the DHT has answered for ``seconds``.

    The device goes on trying. Until one answers it can update only from its own LAN.
    """

    name: ClassVar[str] = "dht.silent"
    level: ClassVar[int] = logging.WARNING
    seconds: int
    reason: str


@dataclass(frozen=True, slots=True)
class ClockDiffers(Event):
    """A peer's clock shows another minute than ours: it is ``minutes`` ahead, behind if negative."""

    name: ClassVar[str] = "clock.differs"
    level: ClassVar[int] = logging.WARNING
    peer: str
    minutes: int


@dataclass(frozen=True, slots=True)
class PortMapped(Event):
    """A router opened our port. ``protocol`` is PCP, NAT-PMP or UPnP.

    ``address`` is where it says that the port is; over IPv6 our own address, to which it lets strangers in now.
    """

    name: ClassVar[str] = "port.mapped"
    protocol: str
    address: str


@dataclass(frozen=True, slots=True)
class RecordPublished(Event):
    """A record of ours is in a minute slot, on ``stored`` DHT nodes."""

    name: ClassVar[str] = "record.published"
    version: str
    minute: int
    stored: int


@dataclass(frozen=True, slots=True)
class ReleaseFound(Event):
    """Somebody has a release, signed by the owner, that is newer than ours. ``source`` says where it was heard."""

    name: ClassVar[str] = "release.found"
    version: str
    node_id: str
    source: str


@dataclass(frozen=True, slots=True)
class ReleaseOffered(Event):
    """``seed`` has verified the file at ``path``, and offers it in that namespace; ``says``: who may take it."""

    name: ClassVar[str] = "release.offered"
    version: str
    path: str
    namespace: str
    says: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseWithheld(Event):
    """``seed`` does not offer the file at ``path`` as it is now."""

    name: ClassVar[str] = "release.withheld"
    level: ClassVar[int] = logging.WARNING
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseConflicts(Event):
    """The fleet has a newer release than the one that is offered here, or other bytes of its version."""

    name: ClassVar[str] = "release.conflicts"
    level: ClassVar[int] = logging.WARNING
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseServed(Event):
    """Somebody has all of a release from us now. ``network`` is its /24 or /48, in the LAN its address."""

    name: ClassVar[str] = "release.served"
    version: str
    network: str
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FetchStarted(Event):
    """A transfer of ``size`` bytes begins. ``source`` says where the peer was heard of; "an offer": it dialed us."""

    name: ClassVar[str] = "fetch.started"
    version: str
    peer: str
    size: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class FetchProgress(Event):
    """``received`` of ``size`` bytes are here; said a few times a second at most."""

    name: ClassVar[str] = "fetch.progress"
    level: ClassVar[int] = logging.DEBUG
    version: str
    peer: str
    received: int
    size: int


@dataclass(frozen=True, slots=True)
class FetchFailed(Event):
    """A transfer ended without a verified release. Such ones wrote ``wasted`` bytes in a day, and more from the LAN."""

    name: ClassVar[str] = "fetch.failed"
    level: ClassVar[int] = logging.WARNING
    version: str
    peer: str
    reason: str
    wasted_lan: int = 0
    wasted: int = 0


@dataclass(frozen=True, slots=True)
class ReleaseRefused(Event):
    """A release that this device will not take."""

    name: ClassVar[str] = "release.refused"
    level: ClassVar[int] = logging.WARNING
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class PreflightFailed(Event):
    """This device could not install a release; it says so and keeps running."""

    name: ClassVar[str] = "preflight.failed"
    level: ClassVar[int] = logging.WARNING
    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseStaged(Event):
    """A complete, verified release lies beside the program."""

    name: ClassVar[str] = "release.staged"
    version: str
    path: str


@dataclass(frozen=True, slots=True)
class ReleaseActivated(Event):
    """The program at its path is now this version."""

    name: ClassVar[str] = "release.activated"
    version: str


@dataclass(frozen=True, slots=True)
class Restart(Event):
    """The program is about to be restarted into ``version``."""

    name: ClassVar[str] = "restart"
    version: str
    how: str


@dataclass(frozen=True, slots=True)
class RestartWaits(Event):
    """``version`` is staged and its time has come, but nothing can restart the program here, so that its next
    start activates it, or other instances of the program are not ready.
    """

    name: ClassVar[str] = "restart.waits"
    level: ClassVar[int] = logging.WARNING
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class TrialStarted(Event):
    """The running version is new to this device; ``failed`` of its starts ended by themselves so far."""

    name: ClassVar[str] = "trial.started"
    version: str
    failed: int


@dataclass(frozen=True, slots=True)
class ProgramEnded(Event):
    """Under ``run`` the program ended well, and its work goes on elsewhere or was too short to be updated."""

    name: ClassVar[str] = "program.ended"
    level: ClassVar[int] = logging.WARNING
    reason: str


@dataclass(frozen=True, slots=True)
class TrialConfirmed(Event):
    """The version on trial is confirmed; ``by`` says through what."""

    name: ClassVar[str] = "trial.confirmed"
    version: str
    by: str


@dataclass(frozen=True, slots=True)
class TrialRolledBack(Event):
    """The version on trial failed; the confirmed one is back at the program's path."""

    name: ClassVar[str] = "trial.rolled_back"
    level: ClassVar[int] = logging.WARNING
    version: str
    to: str


@dataclass(frozen=True, slots=True)
class NodeStopped(Event):
    """The node is gone, its sockets closed."""

    name: ClassVar[str] = "node.stopped"
    node_id: str


Emit: TypeAlias = Callable[[Event], None]
"""What a part of the node is given to say something."""


class EventBus:
    """Hands each event to the ``pypatcher`` logger and to every subscriber, in the order they subscribed.

    Thread-safe. A subscriber that raises is logged and kept; it cannot stop the node or another subscriber.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: tuple[Emit, ...] = ()
        self.logs_events = True
        """Whether the logger hears them; not where they are written as JSON already."""

    def subscribe(self, callback: Emit) -> Callable[[], None]:
        """Call ``callback`` with every event from now on; returns the function that ends this."""
        with self._lock:
            self._subscribers += (callback,)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(known for known in self._subscribers if known is not callback)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Say it to everybody who listens."""
        if self.logs_events:
            _log.log(event.level, "%s", event)
        for callback in self._subscribers:
            try:
                callback(event)
            except Exception:
                _log.exception("an on_event callback failed on %s", event.name)
