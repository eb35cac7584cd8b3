"""Connection ids of both sides (RFC 9000 section 5.1): which are given out, used and taken back. Pure.

Not here: on which path one is used (``paths``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .codec import (
    CONNECTION_ID_LIMIT_ERROR,
    FRAME_ENCODING_ERROR,
    NEW_CONNECTION_ID,
    PROTOCOL_VIOLATION,
    RETIRE_CONNECTION_ID,
    FrameReader,
    TransportError,
)
from .octets import varint

__all__ = ["ConnectionId", "OurIds", "TheirIds"]

_MOST_OF_THEIRS = 8
_MOST_OF_OURS = 8
_MOST_TO_RETIRE = 32
_MOST_SEEN = 1024
"""Numbers of theirs that they did not take back together: no honest peer changes so often."""
_TOKEN = 16
_LONGEST = 20


@dataclass(frozen=True, slots=True)
class ConnectionId:
    """One connection id; ``token`` is that of its stateless reset, empty if there is none."""

    number: int
    value: bytes
    token: bytes = field(default=b"", repr=False)


class OurIds:
    """What the peer calls us."""

    def __init__(self, known: list[ConnectionId], next_number: int, most: int) -> None:
        """The peer keeps at most ``most``; of ``known`` only the first was told."""
        self.ids = {each.number: each for each in known}
        self.to_send = [each.number for each in known[1:]]
        self._next = next_number
        self._told = known[0].number
        """The highest number that was told; a peer that takes others back makes us draw as many as it likes."""
        self._most = min(most, _MOST_OF_OURS)
        self._values = {each.value: each.number for each in known}

    def number_of(self, value: bytes) -> int | None:
        """Which one that is; None if it is none of ours."""
        return self._values.get(value)

    @property
    def missing(self) -> int:
        """How many more the peer would keep."""
        return max(0, self._most - len(self.ids))

    def issue(self, value: bytes, token: bytes) -> None:
        """A new one, drawn by the caller."""
        self.ids[self._next] = ConnectionId(self._next, value, token)
        self._values[value] = self._next
        self.to_send.append(self._next)
        self._next += 1

    def frame(self, number: int) -> bytes:
        """NEW_CONNECTION_ID; empty if it was taken back."""
        known = self.ids.get(number)
        if known is None:
            return b""
        self._told = max(self._told, number)
        parts = (
            bytes((NEW_CONNECTION_ID,)),
            varint(number),
            b"\0",
            bytes((len(known.value),)),
            known.value,
            known.token,
        )
        return b"".join(parts)

    def retire(self, number: int, current: bytes) -> ConnectionId | None:
        """The peer uses that one no more; ``current`` is what its packet was sent to.

        Raises:
            TransportError: it was never given out, or is the one that was used.
        """
        if number > self._told:
            raise TransportError(PROTOCOL_VIOLATION, RETIRE_CONNECTION_ID, "Cannot retire unknown connection ID")
        known = self.ids.get(number)
        if known is None:
            return None
        if known.value == current:
            raise TransportError(PROTOCOL_VIOLATION, RETIRE_CONNECTION_ID, "Cannot retire current connection ID")
        del self.ids[number], self._values[known.value]
        return known


class TheirIds:
    """What we call the peer."""

    def __init__(self, current: ConnectionId, spare: list[ConnectionId]) -> None:
        """``current`` is in use."""
        self.current = current
        self.spare = list(spare)
        self.to_retire: list[int] = []
        self._seen = {current.number, *(each.number for each in spare)}
        self._retired_below = 0
        self.reserved: dict[object, ConnectionId] = {}
        """For paths that are being looked at: one id must not be seen at two addresses (RFC 9000 section 9.5)."""

    @property
    def tokens(self) -> list[bytes]:
        """By which a stateless reset is known."""
        return [each.token for each in (self.current, *self.spare, *self.reserved.values()) if each.token]

    def change(self) -> bool:
        """Use another one from now on, if there is one."""
        if not self.spare:
            return False
        self.to_retire.append(self.current.number)
        self.current = self.spare.pop(0)
        return True

    def use_reserved(self, path: object) -> bool:
        """Use the one that was kept for ``path``, if there is one."""
        kept = self.reserved.pop(path, None)
        if kept is None:
            return False
        self.to_retire.append(self.current.number)
        self.current = kept
        return True

    def reserve(self, path: object) -> ConnectionId | None:
        """One for ``path`` alone; a peer that goes without ids is called by none there, too."""
        if not self.current.value:
            return self.current
        kept = self.reserved.get(path)
        if kept is None and self.spare:
            kept = self.reserved[path] = self.spare.pop(0)
        return kept

    def release(self, path: object) -> None:
        """``path`` is forgotten."""
        kept = self.reserved.pop(path, None)
        if kept is not None:
            self.to_retire.append(kept.number)

    def on_new(self, reader: FrameReader) -> None:
        """Read a NEW_CONNECTION_ID frame behind its type.

        Raises:
            TransportError: it cannot be, or is one too many.
        """
        number, below = reader.varint(), reader.varint()
        length = reader.take(1)[0]
        value, token = reader.take(length), reader.take(_TOKEN)
        if not 0 < length <= _LONGEST:
            raise TransportError(FRAME_ENCODING_ERROR, NEW_CONNECTION_ID, "A connection ID has 1 to 20 bytes")
        if not self.current.value:
            raise TransportError(
                PROTOCOL_VIOLATION, NEW_CONNECTION_ID, "A peer without connection IDs has none to give"
            )
        if below > number:
            raise TransportError(PROTOCOL_VIOLATION, NEW_CONNECTION_ID, "Retire Prior To is greater than its own")
        self._check_known(number, value)
        if number < self._retired_below:
            self.to_retire.append(number)  # it came after a later one that took it back (RFC 9000 section 5.1.2)
        elif number not in self._seen:
            if len(self._seen) >= _MOST_SEEN:
                raise TransportError(CONNECTION_ID_LIMIT_ERROR, NEW_CONNECTION_ID, "Connection IDs without end")
            self._seen.add(number)
            self.spare.append(ConnectionId(number, value, token))
        self._retire_below(below)
        if 1 + len(self.spare) + len(self.reserved) > _MOST_OF_THEIRS:
            raise TransportError(CONNECTION_ID_LIMIT_ERROR, NEW_CONNECTION_ID, "Too many active connection IDs")
        if len(self.to_retire) > _MOST_TO_RETIRE:
            raise TransportError(CONNECTION_ID_LIMIT_ERROR, NEW_CONNECTION_ID, "Too many pending retired ones")

    def _check_known(self, number: int, value: bytes) -> None:
        for each in (self.current, *self.spare, *self.reserved.values()):
            if (each.number == number) != (each.value == value):
                raise TransportError(PROTOCOL_VIOLATION, NEW_CONNECTION_ID, "A connection ID with two numbers")

    def _retire_below(self, below: int) -> None:
        if below <= self._retired_below:
            return
        self._retired_below = below
        self._seen = {number for number in self._seen if number >= below}
        self.to_retire += [each.number for each in self.spare if each.number < below]
        self.spare = [each for each in self.spare if each.number >= below]
        for path in [path for path, each in self.reserved.items() if each.number < below]:
            self.release(path)
        if self.current.number < below:
            self.change()
