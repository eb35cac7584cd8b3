"""NAT-PMP (RFC 6886): one UDP port, and the router's outside address.

Pure functions over datagrams, and a client of a few lines.

    address request: 0, 0;                            answer: 0, 128, u16 result, u32 epoch, 4 bytes of address
    port request:    0, 1, 2 reserved, u16 internal port, u16 external port, u32 seconds
    port answer:     0, 129, u16 result, u32 epoch, u16 internal port, u16 external port, u32 seconds
"""

from __future__ import annotations

import ipaddress
import struct

from pypatcher.errors import PortMapError
from pypatcher.nat.portmap.pcp import PORT, Granted
from pypatcher.nat.portmap.request import ask_router

__all__ = ["NatPmpClient", "decode_address", "decode_port"]

_ADDRESS_REQUEST = bytes([0, 0])
_PORT_REQUEST = struct.Struct(">BBHHHI")
_PORT_ANSWER = struct.Struct(">BBHIHHI")
_ADDRESS_ANSWER = struct.Struct(">BBHI4s")
_RESULTS = {
    1: "it speaks another version",
    2: "it does not allow that",
    3: "its network is down",
    4: "it has no room",
    5: "it cannot do that",
}


def _encode_port_request(internal: int, external: int, seconds: int) -> bytes:
    """Ask for a UDP port; 0 seconds and external port 0 end the mapping."""
    return _PORT_REQUEST.pack(0, 1, 0, internal, external, seconds)


def decode_port(data: bytes, internal: int) -> Granted | None:
    """What the router granted, or None for a datagram that is no answer to our request.

    Raises:
        PortMapError: it refused.
    """
    if len(data) < 4 or data[:2] != bytes([0, 129]):
        return None
    _check(int.from_bytes(data[2:4], "big"))
    if len(data) != _PORT_ANSWER.size:
        return None
    *_, inside, outside, seconds = _PORT_ANSWER.unpack(data)
    return Granted(None, outside, seconds) if inside == internal else None


def decode_address(data: bytes) -> str | None:
    """The router's outside address, or None for a datagram that is no answer to our request.

    Raises:
        PortMapError: it refused.
    """
    if len(data) < 4 or data[:2] != bytes([0, 128]):
        return None
    _check(int.from_bytes(data[2:4], "big"))
    if len(data) != _ADDRESS_ANSWER.size:
        return None
    return str(ipaddress.IPv4Address(_ADDRESS_ANSWER.unpack(data)[4]))


class NatPmpClient:
    """One mapping at one router. ``open`` again renews it."""

    name = "NAT-PMP"

    def __init__(self, router: str) -> None:
        self._router = (router, PORT)
        self._external = 0

    async def open(self, port: int, seconds: int) -> Granted:
        """Ask for our UDP ``port``, the same one outside if it is free.

        Raises:
            PortMapError: refused, or no answer.
        """
        host = await ask_router(self._router, _ADDRESS_REQUEST, decode_address)
        request = _encode_port_request(port, self._external or port, seconds)
        granted = await ask_router(self._router, request, lambda data: decode_port(data, port))
        if not granted.port or not granted.seconds:
            raise PortMapError("the router granted nothing by NAT-PMP")
        self._external = granted.port
        return Granted(host, granted.port, granted.seconds)

    async def close(self, port: int) -> None:
        """End the mapping.

        Raises:
            PortMapError: refused, or no answer.
        """
        await ask_router(self._router, _encode_port_request(port, 0, 0), lambda data: decode_port(data, port))


def _check(result: int) -> None:
    if result:
        raise PortMapError(f"the router refuses by NAT-PMP: {_RESULTS.get(result, f'error {result}')}")
