"""Which device this is, as far as rollouts ask: a number that a device keeps, and that two cards cloned do not share.

protocol.md "The manifest" (taking part). It is never sent, and is no node's key. The board's serial and one permanent
MAC are read, from files that every user may read; nothing is written here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Hardware", "device_id", "read_hardware"]

_SIZE = 16
_LIMIT = 256
_SERIALS = (
    "proc/device-tree/serial-number",
    "sys/firmware/devicetree/base/serial-number",
    "sys/class/dmi/id/board_serial",
)
_OF_INTERFACE = ("address", "addr_assign_type", "type")
_PERMANENT, _ETHERNET = "0", "1"


@dataclass(frozen=True, slots=True)
class Hardware:
    """What tells one device from another.

    Attributes:
        serial: of the board; empty for none.
        macs: permanent MACs, the one that counts first: wired before wireless, by the interface's name.
    """

    serial: bytes = b""
    macs: tuple[str, ...] = ()


def device_id(topic_hash: bytes, hardware: Hardware, stored: bytes) -> tuple[bytes, bytes]:
    """The 16 bytes, and what is to be stored for the next time (``stored`` itself, if nothing changed).

    What is stored counts while the serial is the same or, without one, while an interface with that MAC exists: dongles
    come and go, and a cloned card is another device.

    Args:
        stored: of an earlier call; empty or damaged: there was none.
    """
    known = _decode(stored)
    if known is not None:
        number, serial, mac = known
        is_same = (
            serial == hardware.serial
            if hardware.serial or serial
            else (mac in hardware.macs or not (mac or hardware.macs))
        )
        if is_same:
            return number, stored
    mac = hardware.macs[0] if hardware.macs else ""
    if hardware.serial or mac:
        named = hardware.serial + b"\0" + mac.encode("ascii", "replace")
        number = hashlib.blake2b(named, key=topic_hash, digest_size=_SIZE).digest()
    else:
        number = secrets.token_bytes(_SIZE)
    table = {"id": number.hex(), "mac": mac, "serial": hardware.serial.hex()}
    return number, json.dumps(table, sort_keys=True).encode("ascii") + b"\n"


def read_hardware(root: Path = Path("/")) -> Hardware:
    """What this machine says of itself, below ``root``."""
    serials = (_read(root / name).replace(b"\0", b"").strip() for name in _SERIALS)
    serial = next((text for text in serials if len(set(text)) > 1), b"")
    found: list[tuple[bool, str, str]] = []
    with contextlib.suppress(OSError):
        for interface in (root / "sys/class/net").iterdir():
            mac, *kinds = (_read(interface / name).decode("ascii", "replace").strip() for name in _OF_INTERFACE)
            if kinds == [_PERMANENT, _ETHERNET] and mac.strip("0:") and (interface / "device").exists():
                is_wireless = (interface / "wireless").exists() or (interface / "phy80211").exists()
                found.append((is_wireless, interface.name, mac))
    return Hardware(serial, tuple(mac for _, _, mac in sorted(found)))


def _decode(stored: bytes) -> tuple[bytes, bytes, str] | None:
    try:
        table = json.loads(stored)
        number, serial, mac = bytes.fromhex(table["id"]), bytes.fromhex(table["serial"]), table["mac"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return (number, serial, mac) if len(number) == _SIZE and isinstance(mac, str) else None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LIMIT)
    except OSError:
        return b""
