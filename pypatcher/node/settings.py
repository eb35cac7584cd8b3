"""Every setting of a node in one place: its environment variable, its default, what makes sense.

DESIGN "What a node says, and how it is told". Arguments in code and on the command line win over the environment.
Reads the environment that it is given; touches no file and no socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pypatcher.addresses import Address, parse_addresses
from pypatcher.errors import SettingError

__all__ = ["PUBLIC_BOOTSTRAP", "Settings"]

PUBLIC_BOOTSTRAP: tuple[Address, ...] = (
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("dht.libtorrent.org", 25401),
    ("relay.pkarr.org", 6881),
)
"""The entry points that Mainline clients use; any one of them will do."""

_ANY_BIND: tuple[Address, ...] = (("0.0.0.0", 0), ("::", 0))  # noqa: S104 - a peer-to-peer node listens everywhere
_MEBIBYTE = 1 << 20
_EARLY_LOOK, _LATE_LOOK = 55.0, 300.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a node behaves.

    Attributes:
        bootstrap: DHT entry points, names or addresses; empty for none. ``PYPATCHER_BOOTSTRAP``.
        bind: addresses of the sockets, at most one a family; port 0 is any. ``PYPATCHER_BIND``.
        publish_interval: seconds between publications. ``PYPATCHER_PUBLISH_INTERVAL``.
        look_interval: seconds between looks, or None for 55 in the first 10 minutes and 300 later.
            ``PYPATCHER_LOOK_INTERVAL``.
        upload: bytes a second to outside the LAN; 0 serves nobody. ``PYPATCHER_UPLOAD``.
        state: cache folder, or None for the usual places. ``PYPATCHER_STATE``.
        json_log: one JSON object an event on stderr. ``PYPATCHER_LOG=json``.
    """

    bootstrap: tuple[Address, ...] = PUBLIC_BOOTSTRAP
    bind: tuple[Address, ...] = _ANY_BIND
    publish_interval: float = 55.0
    look_interval: float | None = None
    upload: int = _MEBIBYTE
    state: Path | None = None
    json_log: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read what the environment says; what it does not say is default.

        Raises:
            SettingError: a variable makes no sense; the message names it and says what it takes.
        """
        settings = cls()
        values: dict[str, object] = {}
        if (text := environment.get("PYPATCHER_BOOTSTRAP")) is not None:
            values["bootstrap"] = _named("PYPATCHER_BOOTSTRAP", text)
        if text := environment.get("PYPATCHER_BIND"):
            values["bind"] = _named("PYPATCHER_BIND", text)
        if text := environment.get("PYPATCHER_PUBLISH_INTERVAL"):
            values["publish_interval"] = _seconds("PYPATCHER_PUBLISH_INTERVAL", text)
        if text := environment.get("PYPATCHER_LOOK_INTERVAL"):
            values["look_interval"] = _seconds("PYPATCHER_LOOK_INTERVAL", text)
        if text := environment.get("PYPATCHER_UPLOAD"):
            values["upload"] = _bytes("PYPATCHER_UPLOAD", text)
        if text := environment.get("PYPATCHER_STATE"):
            values["state"] = Path(text)
        if text := environment.get("PYPATCHER_LOG"):
            if text != "json":
                raise SettingError(f"PYPATCHER_LOG={text!r}: the only value is 'json'")
            values["json_log"] = True
        return settings.replace(**values)

    def replace(self, **values: object) -> Settings:
        """The same settings with some values changed, checked again.

        Raises:
            SettingError: they contradict each other.
        """
        from dataclasses import replace

        settings = replace(self, **values)  # type: ignore[arg-type]
        families = [":" in host for host, _ in settings.bind]
        if not families or len(set(families)) != len(families):
            raise SettingError("PYPATCHER_BIND takes one IPv4 address, one IPv6 address, or one of each")
        return settings

    def pause_between_looks(self, uptime: float) -> float:
        """Seconds until the next look, ``uptime`` seconds after the node's start, before jitter."""
        if self.look_interval is not None:
            return self.look_interval
        return _EARLY_LOOK if uptime < 600 else _LATE_LOOK


def _named(variable: str, text: str) -> tuple[Address, ...]:
    try:
        return parse_addresses(text)
    except SettingError as error:
        raise SettingError(f"{variable}: {error}") from None


def _seconds(variable: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise SettingError(f"{variable}={text!r}: give seconds, from 0.1 to 86400")
    return seconds


def _bytes(variable: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise SettingError(f"{variable}={text!r}: give bytes a second, such as 1048576, or 0 to serve nobody")
    return int(text)
