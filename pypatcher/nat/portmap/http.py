"""As much of HTTP/1.1 as a router's UPnP needs: one request, one bounded answer, then the connection ends.

Pure functions, and one that moves the bytes. The answer is hostile input. Not here: what is asked (``upnp_messages``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pypatcher.addresses import Address, format_address
from pypatcher.errors import PortMapError

__all__ = ["encode_http_request", "exchange", "parse_answer"]

_LARGEST_ANSWER = 128 * 1024
_TIMEOUT = 5.0


def encode_http_request(
    method: str, path: str, server: Address, headers: Mapping[str, str], body: bytes = b""
) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {format_address(server)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def parse_answer(data: bytes) -> tuple[int, bytes]:
    """Status and body of a whole answer.

    Raises:
        PortMapError: it is no HTTP, or not whole.
    """
    head, found, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    status = lines[0].split(b" ", 2)
    if not found or len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].isdigit():
        raise PortMapError("the router's answer is no HTTP")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip().lower()
    if headers.get(b"transfer-encoding") == b"chunked":
        body = _join_chunks(body)
    elif (length := headers.get(b"content-length", b"")).isdigit():
        if len(length) > 9 or len(body) < int(length):
            raise PortMapError("the router's answer ends early")
        body = body[: int(length)]
    return int(status[1][:3]), body


async def exchange(server: Address, request: bytes) -> tuple[int, bytes]:
    """Send a request, read the answer: 128 KiB and 5 s at most.

    Raises:
        PortMapError: no answer, or one that makes no sense.
    """
    writer = None
    try:
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_connection(*server, limit=_LARGEST_ANSWER)
            writer.write(request)
            await writer.drain()
            data = b""
            while chunk := await reader.read(_LARGEST_ANSWER + 1 - len(data)):
                data += chunk
    except (OSError, TimeoutError) as error:
        raise PortMapError(f"the router {format_address(server)} does not answer: {str(error) or 'timeout'}") from None
    finally:
        if writer is not None:
            writer.close()
    if len(data) > _LARGEST_ANSWER:
        raise PortMapError("the router's answer is too long")
    return parse_answer(data)


def _join_chunks(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        digits = body[at:end].partition(b";")[0].strip()
        try:
            size = int(digits, 16) if end >= 0 and len(digits) <= 6 else -1
        except ValueError:
            size = -1
        start = end + 2
        if size < 0 or len(body) - start < size:
            raise PortMapError("the router's answer ends early")
        if size == 0:
            return b"".join(parts)
        parts.append(body[start : start + size])
        at = start + size
        if body.startswith(b"\r\n", at):
            at += 2
