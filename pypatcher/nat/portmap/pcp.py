"""PCP (RFC 6887): the MAP opcode for one UDP port; over IPv6 it opens the router's firewall for our own address.

Pure functions over datagrams, and a client of a few lines. A request and an answer have 60 bytes:

    request: 2, opcode 1, 2 reserved, u32 lifetime, our address in 16 bytes
    answer:  2, opcode 1 | 0x80, 1 reserved, result, u32 lifetime, u32 epoch, 12 reserved
    both:    nonce of 12 bytes, protocol 17, 3 reserved, u16 internal port, u16 external port, external address in 16

An IPv4 address in 16 bytes is the IPv4-mapped IPv6 address.
"""

from __future__ import annotations

import ipaddress
import os
import struct
from dataclasses import dataclass, replace

from pypatcher.addresses import is_ipv6
from pypatcher.errors import PortMapError
from pypatcher.nat.portmap.request import ask_router, local_address

__all__ = ["PORT", "Granted", "PcpClient", "decode_answer", "encode_request"]

PORT = 5351
_MAP, _ANSWER, _UDP = 1, 0x80, 17
_REQUEST = struct.Struct(">BBHI16s12sB3xHH16s")
_RESPONSE = struct.Struct(">BBxBII12x12sB3xHH16s")
_RESULTS = {
    1: "it speaks another version",
    2: "it does not allow that",
    3: "it did not understand",
    4: "it has no MAP",
    7: "its network is down",
    8: "it has no room",
    9: "it cannot map UDP",
    10: "this device has too many ports",
    11: "it cannot give that address or port",
    12: "there is another router between us",
}


@dataclass(frozen=True, slots=True)
class Granted:
    """A port that a router opened: its outside address (None: it did not say) and port, for so many seconds."""

    host: str | None
    port: int
    seconds: int


def encode_request(nonce: bytes, local: str, internal: int, external: int, seconds: int) -> bytes:
    """A MAP request; ``seconds`` 0 ends the mapping."""
    unknown = _packed("::" if is_ipv6(local) else "0.0.0.0")  # noqa: S104 - RFC 6887 section 11.1: any address
    return _REQUEST.pack(2, _MAP, 0, seconds, _packed(local), nonce, _UDP, internal, external, unknown)


def decode_answer(data: bytes, nonce: bytes, internal: int) -> Granted | None:
    """What the router granted, or None for a datagram that is no answer to our request.

    Raises:
        PortMapError: it refused.
    """
    if len(data) >= 4 and data[0] == 0:
        raise PortMapError("the router speaks NAT-PMP")  # a NAT-PMP router's refusal of version 2
    if len(data) >= 24 and data[:2] == bytes([2, _MAP | _ANSWER]) and data[3] and len(data) < _RESPONSE.size:
        raise PortMapError(f"the router refuses by PCP: {_RESULTS.get(data[3], f'error {data[3]}')}")
    if len(data) < _RESPONSE.size:
        return None
    version, opcode, result, seconds, _epoch, heard, protocol, inside, outside, host = _RESPONSE.unpack_from(data)
    if (version, opcode, heard, protocol, inside) != (2, _MAP | _ANSWER, nonce, _UDP, internal):
        return None
    if result:
        raise PortMapError(f"the router refuses by PCP: {_RESULTS.get(result, f'error {result}')}")
    packed = ipaddress.IPv6Address(host)
    address = packed.ipv4_mapped or packed
    return Granted(None if address.is_unspecified else str(address), outside, seconds)


class PcpClient:
    """One mapping at one router. ``open`` again renews it."""

    name = "PCP"

    def __init__(self, router: str, *, server_port: int = PORT) -> None:
        self._router = (router, server_port)
        self._nonce = os.urandom(12)
        self._external = 0

    async def open(self, port: int, seconds: int) -> Granted:
        """Ask for our UDP ``port``, the same one outside if it is free.

        Raises:
            PortMapError: refused, or no answer.
        """
        local = local_address(self._router[0])
        granted = await self._request(local, port, self._external or port, seconds)
        if not granted.port or not granted.seconds:
            raise PortMapError("the router granted nothing by PCP")
        self._external = granted.port
        # A firewall opens what is there: another IPv6 address than ours, or another family, is of no use to anybody.
        usable = granted.host is not None and (":" not in granted.host if ":" not in local else granted.host == local)
        return granted if usable else replace(granted, host=None)

    async def close(self, port: int) -> None:
        """End the mapping.

        Raises:
            PortMapError: refused, or no answer.
        """
        await self._request(local_address(self._router[0]), port, self._external, 0)

    async def _request(self, local: str, port: int, external: int, seconds: int) -> Granted:
        request = encode_request(self._nonce, local, port, external, seconds)
        # The router compares the address in the request with the one that it came from.
        source = local if is_ipv6(local) else None
        return await ask_router(
            self._router, request, lambda data: decode_answer(data, self._nonce, port), source=source
        )


def _packed(host: str) -> bytes:
    address = ipaddress.ip_address(host)
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
