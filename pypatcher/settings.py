"""Every setting of a node in one place: its environment variable, its default, what makes sense.

design.md "What a node says, and how it is told". Arguments in code and on the command line win over the environment.
Reads the environment that it is given; touches no file and no socket.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pypatcher.addresses import Address, family, is_literal, parse_addresses
from pypatcher.errors import SettingError

__all__ = ["PUBLIC_BOOTSTRAP", "Settings", "check_variables"]

PUBLIC_BOOTSTRAP: tuple[Address, ...] = (
    ("router.bittorrent.com", 6881),
    ("dht.transmissionbt.com", 6881),
    ("dht.libtorrent.org", 25401),
    ("relay.pkarr.org", 6881),
)
"""The entry points that Mainline clients use; any one of them will do."""

_ANY_BIND: tuple[Address, ...] = (("0.0.0.0", 0), ("::", 0))  # noqa: S104 - a peer-to-peer node listens everywhere
_MEBIBYTE = 1 << 20
_PUBLISH = 55.0
_EARLY_LOOK, _LATE_LOOK = 55.0, 300.0
_EARLY = 600.0
_METERED_LOOK = 6 * 3600.0
_METERED = {"upload": 0, "port_mapping": False}
"""What a metered device does, whatever else is said."""
_LOOKS_PER_GREETING, _LOOKS_WHERE_HEARD = 6, 24
_SLOWEST = 65536
"""Bytes a second: who takes half as much loses its place wherever somebody else wants it."""
_SECONDS = (0.1, 86400.0)
_DIGITS = 15
_DEVICE_ID_SIZE = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """How a node behaves.

    Attributes:
        bootstrap: DHT entry points, names or addresses; empty for none. ``PYPATCHER_BOOTSTRAP``.
        bind: addresses of the sockets, at most one per family; port 0 is any. What is bound to one address stays there.
            ``PYPATCHER_BIND``.
        publish_interval: seconds between publications. ``PYPATCHER_PUBLISH_INTERVAL``.
        look_interval: seconds between looks, or None for 55 in the first 10 minutes and 300 later.
            ``PYPATCHER_LOOK_INTERVAL``.
        upload: bytes a second to outside the LAN; 0 serves nobody. ``PYPATCHER_UPLOAD``.
        upload_day: bytes in 24 hours to outside the LAN at most, or None for 20 times the file's size alone.
            ``PYPATCHER_UPLOAD_DAY``.
        download: bytes a second from outside the LAN, 65536 or more, or None for no limit. ``PYPATCHER_DOWNLOAD``.
        download_day: bytes in 24 hours from outside the LAN after which no fetch begins, or None for no limit.
            ``PYPATCHER_DOWNLOAD_DAY``.
        port_mapping: ask the router to open our port, unless bound to one address. ``PYPATCHER_PORTMAP=0``: off.
        lan: find neighbours by multicast, unless bound to one address. ``PYPATCHER_LAN=0``: off.
        state: cache folder, or None for the usual places. ``PYPATCHER_STATE``.
        allow_volatile: install on an overlay, tmpfs or ramfs too, where an update is lost at the next boot.
            ``PYPATCHER_ALLOW_VOLATILE=1``.
        rollout_place: ``first`` or ``last`` in every rollout, or empty. ``PYPATCHER_ROLLOUT``.
        device_id: 16 bytes in place of this device's own number in rollouts, for trials; or None.
            ``PYPATCHER_DEVICE_ID``.
        rollout: nothing is taken before a manifest of the owner was heard.
        metered: every byte costs: the owner is asked every 6 hours, and nothing is published, answered, served or
            mapped; ``upload`` is 0 and ``port_mapping`` off then. ``PYPATCHER_METERED=1``.
        metered_size: bytes of the largest release that a metered device fetches without a person's word.
            ``PYPATCHER_METERED_SIZE``.
        json_log: one JSON object per event on stderr. ``PYPATCHER_LOG=json``.
    """

    bootstrap: tuple[Address, ...] = PUBLIC_BOOTSTRAP
    bind: tuple[Address, ...] = _ANY_BIND
    publish_interval: float = _PUBLISH
    look_interval: float | None = None
    upload: int = _MEBIBYTE
    upload_day: int | None = None
    download: int | None = None
    download_day: int | None = None
    port_mapping: bool = True
    lan: bool = True
    state: Path | None = None
    allow_volatile: bool = False
    rollout_place: str = ""
    device_id: bytes | None = None
    rollout: bool = False
    metered: bool = False
    metered_size: int = _MEBIBYTE
    json_log: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read what the environment says; what it does not say is default.

        Raises:
            SettingError: a variable makes no sense; the message names it and says what it takes.
        """
        values = {
            name: read(variable, text)
            for variable, (name, read) in _VARIABLES.items()
            if (text := environment.get(variable)) or (text is not None and name == "bootstrap")
        }
        return cls().replace(**values)

    def __post_init__(self) -> None:
        """Check what came from code as strictly as what came from the environment."""
        for name in ("bootstrap", "bind"):
            if not _are_addresses(getattr(self, name)):
                raise SettingError(f"{name}={getattr(self, name)!r}: give a tuple of (host, port) pairs")
        families = [family(address) for address in self.bind]
        if not families or len(set(families)) != len(families) or not all(map(is_literal, self.bind)):
            raise SettingError(
                "bind (PYPATCHER_BIND) takes one IPv4 address, one IPv6 address, or one of each; no names"
            )
        _check_seconds("publish_interval", self.publish_interval)
        if self.look_interval is not None:
            _check_seconds("look_interval", self.look_interval)
        if type(self.upload) is not int or self.upload < 0:
            raise SettingError(f"upload={self.upload!r}: give bytes a second as a whole number, or 0 to serve nobody")
        for name, least in (("upload_day", 1), ("download", _SLOWEST), ("download_day", 1), ("metered_size", 0)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise SettingError(f"{name}={value!r} (PYPATCHER_{name.upper()}): give bytes, {least} at least")
        if self.rollout_place not in ("", "first", "last"):
            raise SettingError(f"rollout_place={self.rollout_place!r} (PYPATCHER_ROLLOUT): give first or last")
        if self.device_id is not None and len(self.device_id) != _DEVICE_ID_SIZE:
            raise SettingError(f"device_id={self.device_id!r}: give {_DEVICE_ID_SIZE} bytes")
        if not isinstance(self.state, Path | None):
            raise SettingError(f"state={self.state!r}: give a pathlib.Path")
        for name in ("port_mapping", "lan", "allow_volatile", "rollout", "metered", "json_log"):
            if type(getattr(self, name)) is not bool:
                raise SettingError(f"{name}={getattr(self, name)!r}: give True or False")
        self._spare()

    def _spare(self) -> None:
        for name, value in _METERED.items() if self.metered else ():
            object.__setattr__(self, name, value)

    def replace(self, **values: object) -> Settings:
        """The same settings with some values changed.

        Raises:
            SettingError: a value makes no sense.
        """
        return replace(self, **values)  # type: ignore[arg-type]

    @property
    def publishes_as_usual(self) -> bool:
        """Whether nobody chose how often to publish."""
        return self.publish_interval == _PUBLISH

    def pause_between_greetings(self, dht_is_silent: bool, owner_is_heard: bool) -> float:
        """Seconds until one peer is asked what it knows, before jitter: 30 minutes, as long as six looks.

        Two hours where the owner is heard in the DHT; who does not hear him there dials by himself.
        """
        look = self.pause_between_looks(_EARLY)
        if dht_is_silent or self.metered:
            return look
        return (_LOOKS_WHERE_HEARD if owner_is_heard and self.look_interval is None else _LOOKS_PER_GREETING) * look

    def pause_while_wanting(self, uptime: float, wanting: float) -> float:
        """The same while a release is known of and not here, for ``wanting`` seconds by now.

        A metered device looks at once then, and each time a quarter later.
        """
        if self.metered and self.look_interval is None:
            return max(_EARLY_LOOK, wanting / 4)
        return self.pause_between_looks(uptime)

    def pause_between_looks(self, uptime: float) -> float:
        """Seconds until the next look, ``uptime`` seconds after the node's start, before jitter."""
        if self.look_interval is not None:
            return self.look_interval
        if self.metered:
            return _METERED_LOOK
        return _EARLY_LOOK if uptime < _EARLY else _LATE_LOOK


def _are_addresses(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(address, tuple)
        and len(address) == 2
        and isinstance(address[0], str)
        and type(address[1]) is int
        and 0 <= address[1] <= 65535
        for address in value
    )


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
    _check_seconds(variable, seconds, text)
    return seconds


def _check_seconds(name: str, seconds: object, text: str | None = None) -> None:
    if type(seconds) not in (int, float) or not _SECONDS[0] <= seconds <= _SECONDS[1]:  # type: ignore[operator]
        raise SettingError(f"{name}={seconds if text is None else text!r}: give seconds, from 0.1 to 86400")


def _bytes(variable: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        raise SettingError(f"{variable}={text!r}: give bytes a second, such as 1048576, or 0 to serve nobody")
    return int(text)


def _count(variable: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        raise SettingError(f"{variable}={text!r}: give bytes as a whole number, such as 200000000")
    return int(text)


def _switch(variable: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise SettingError(f"{variable}={text!r}: give 1 or 0")
    return text == "1"


def _hex(variable: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise SettingError(f"{variable}={text!r}: give {2 * _DEVICE_ID_SIZE} hex digits") from None


def _json(variable: str, text: str) -> bool:
    if text != "json":
        raise SettingError(f"{variable}={text!r}: the only value is 'json'")
    return True


_VARIABLES: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "PYPATCHER_BOOTSTRAP": ("bootstrap", _named),
    "PYPATCHER_BIND": ("bind", _named),
    "PYPATCHER_PUBLISH_INTERVAL": ("publish_interval", _seconds),
    "PYPATCHER_LOOK_INTERVAL": ("look_interval", _seconds),
    "PYPATCHER_UPLOAD": ("upload", _bytes),
    "PYPATCHER_UPLOAD_DAY": ("upload_day", _count),
    "PYPATCHER_DOWNLOAD": ("download", _count),
    "PYPATCHER_DOWNLOAD_DAY": ("download_day", _count),
    "PYPATCHER_PORTMAP": ("port_mapping", _switch),
    "PYPATCHER_LAN": ("lan", _switch),
    "PYPATCHER_STATE": ("state", lambda _, text: Path(text)),
    "PYPATCHER_ALLOW_VOLATILE": ("allow_volatile", _switch),
    "PYPATCHER_ROLLOUT": ("rollout_place", lambda _, text: text),
    "PYPATCHER_DEVICE_ID": ("device_id", _hex),
    "PYPATCHER_METERED": ("metered", _switch),
    "PYPATCHER_METERED_SIZE": ("metered_size", _count),
    "PYPATCHER_LOG": ("json_log", _json),
}
"""Variable -> setting, and how its text is read; a variable that is empty says nothing, but for the entry points."""

_OTHERS = ("PYPATCHER_RESTART_STATUS", "PYPATCHER_NO_EXTENSIONS")
"""Variables that are read elsewhere."""


def check_variables(environment: Mapping[str, str]) -> None:
    """For who writes an environment down for another day: no variable of ours is misspelt or makes no sense.

    Raises:
        SettingError: one is.
    """
    known = [*_VARIABLES, *_OTHERS]
    for name in environment:
        if name.startswith("PYPATCHER_") and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise SettingError(f"{name} is no variable of pypatcher's" + (f": {near[0]}?" if near else ""))
    Settings.from_environment(environment)
