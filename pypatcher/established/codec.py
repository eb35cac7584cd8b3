"""Numbers and frames as bytes (RFC 9000 sections 16 and 19), and the errors that end a connection. Pure.

Not here: what a frame means, and which ones are allowed.
"""

from __future__ import annotations

from .octets import cut, number_at, stands_at

__all__ = [
    "FrameReader", "Train", "TransportError", "apart", "behind_long_headers", "have_short_headers", "short_run",
]  # fmt: skip

Train = tuple[bytes, int, tuple[str, int]]
"""Joined datagrams; the size of each, of which the last may have less; and their address."""

# Error codes (RFC 9000 section 20.1, RFC 9001 section 6).
INTERNAL_ERROR = 0x1
FLOW_CONTROL_ERROR = 0x3
STREAM_LIMIT_ERROR = 0x4
STREAM_STATE_ERROR = 0x5
FINAL_SIZE_ERROR = 0x6
FRAME_ENCODING_ERROR = 0x7
CONNECTION_ID_LIMIT_ERROR = 0x9
PROTOCOL_VIOLATION = 0xA
CRYPTO_BUFFER_EXCEEDED = 0xD
KEY_UPDATE_ERROR = 0xE
AEAD_LIMIT_REACHED = 0xF
NO_VIABLE_PATH = 0x10
UNEXPECTED_MESSAGE = 0x10A

# Frame types (RFC 9000 section 19).
PADDING = 0x00
PING = 0x01
ACK = 0x02
ACK_ECN = 0x03
RESET_STREAM = 0x04
STOP_SENDING = 0x05
CRYPTO = 0x06
NEW_TOKEN = 0x07
STREAM = 0x08
STREAM_OFFSET_LENGTH = 0x0E
"""One that says both; 1 more if it is the last."""
MAX_DATA = 0x10
MAX_STREAM_DATA = 0x11
MAX_STREAMS_BIDI = 0x12
MAX_STREAMS_UNI = 0x13
DATA_BLOCKED = 0x14
STREAM_DATA_BLOCKED = 0x15
STREAMS_BLOCKED_BIDI = 0x16
STREAMS_BLOCKED_UNI = 0x17
NEW_CONNECTION_ID = 0x18
RETIRE_CONNECTION_ID = 0x19
PATH_CHALLENGE = 0x1A
PATH_RESPONSE = 0x1B
TRANSPORT_CLOSE = 0x1C
APPLICATION_CLOSE = 0x1D
HANDSHAKE_DONE = 0x1E

LARGEST = (1 << 62) - 1


class TransportError(Exception):
    """The peer broke the protocol: the connection ends with this code."""

    def __init__(self, code: int, frame_type: int, reason: str) -> None:
        """``frame_type`` is the frame that was wrong; 0 if it was none in particular."""
        super().__init__(reason)
        self.code = code
        self.frame_type = frame_type
        self.reason = reason


class FrameReader:
    """Walks through the frames of one packet."""

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes) -> None:
        """From the first byte on."""
        self.data = data
        self.pos = 0
        self.end = len(data)

    def varint(self) -> int:
        """The next number.

        Raises:
            TransportError: the packet ends before.
        """
        pos = self.pos
        if pos >= self.end:
            raise TransportError(FRAME_ENCODING_ERROR, 0, "Failed to parse frame")
        data = self.data
        first = data[pos]
        if first < 0x40:
            self.pos = pos + 1
            return first
        size = 1 << (first >> 6)
        if pos + size > self.end:
            raise TransportError(FRAME_ENCODING_ERROR, 0, "Failed to parse frame")
        self.pos = pos + size
        if size == 2:
            return (first & 0x3F) << 8 | data[pos + 1]
        if size == 4:
            return number_at(data, pos, 4) & 0x3FFFFFFF
        return number_at(data, pos, 8)

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes.

        Raises:
            TransportError: the packet ends before.
        """
        pos = self.pos
        if count > self.end - pos:
            raise TransportError(FRAME_ENCODING_ERROR, 0, "Failed to parse frame")
        self.pos = pos + count
        return cut(self.data, pos, pos + count)


def short_run(train: bytes, start: int, size: int, called: int) -> int:
    """Where packets with short headers to one connection id end, of which the first begins at ``start``; if it has a
    long header, where it ends. All but the last are of ``size`` bytes, and the id of ``called``."""
    end, stop = start + size, len(train)
    if train[start] >> 6 != 1:
        return min(end, stop)
    name = train[start + 1 : start + 1 + called]
    while end < stop and train[end] >> 6 == 1 and stands_at(train, end + 1, name):
        end += size
    return min(end, stop)


def have_short_headers(trains: list[Train]) -> bool:
    """Whether all of these do; the packets of a train have alike headers."""
    for train in trains:  # noqa: SIM110 - a generator would cost more than it says
        if train[0][0] >> 7:
            return False
    return True


def apart(trains: list[Train]) -> list[tuple[bytes, tuple[str, int]]]:
    """Each datagram of them."""
    datagrams: list[tuple[bytes, tuple[str, int]]] = []
    for data, size, address in trains:
        for start in range(0, len(data), size):
            datagrams.append((data[start : start + size], address))
    return datagrams


def behind_long_headers(datagram: bytes) -> bytes:
    """The packet with a short header that shares a datagram with others (RFC 9000 section 12.2); empty if none does."""
    reader = FrameReader(datagram)
    try:
        while reader.pos < reader.end:
            first = datagram[reader.pos]
            if not first & 0x80:
                return datagram[reader.pos :] if first & 0x40 else b""
            reader.take(5)
            for _ in range(2):
                reader.take(reader.take(1)[0])
            if first & 0x30 == 0:  # INITIAL has a token
                reader.take(reader.varint())
            elif first & 0x30 == 0x30:  # RETRY has no length
                return b""
            reader.take(reader.varint())
    except TransportError:
        pass
    return b""
