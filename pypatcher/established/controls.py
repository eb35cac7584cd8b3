"""Frames that carry no data: what has to be said is read from the state, and said again if it is lost. Pure.

Not here: when a packet leaves (``outgoing``).
"""

from __future__ import annotations

from .codec import (
    HANDSHAKE_DONE,
    MAX_DATA,
    MAX_STREAM_DATA,
    MAX_STREAMS_UNI,
    NEW_CONNECTION_ID,
    PATH_RESPONSE,
    PING,
    RESET_STREAM,
    RETIRE_CONNECTION_ID,
    STOP_SENDING,
)
from .octets import varint
from .paths import Path
from .recovery import SentPacket
from .state import IdIssued, State

__all__ = ["write_controls"]

_LARGEST_CONTROL = 64


def write_controls(state: State, parts: list[bytes], packet: SentPacket, room: int) -> int:
    """Put frames for the active path into a packet with that much room; returns how much is left."""
    controls: list[tuple[int, int]] = []
    before = len(parts)
    _answers(state.paths.active, parts, packet, room)
    _once(state, parts, controls)
    room -= sum(map(len, parts[before:]))
    while room > _LARGEST_CONTROL:
        before = len(parts)
        if not _next(state, parts, controls):
            break
        room -= sum(map(len, parts[before:]))
    if controls:
        packet.controls = controls
    return room


def _answers(path: Path, parts: list[bytes], packet: SentPacket, room: int) -> None:
    """Where nothing is proved, the room is what may go there at all."""
    while path.responses and room >= _LARGEST_CONTROL:
        room -= 9
        parts.append(bytes((PATH_RESPONSE,)) + path.responses.popleft())
        packet.padded = True


def _once(state: State, parts: list[bytes], controls: list[tuple[int, int]]) -> None:
    if HANDSHAKE_DONE in state.pending:
        state.pending.discard(HANDSHAKE_DONE)
        parts.append(bytes((HANDSHAKE_DONE,)))
        controls.append((HANDSHAKE_DONE, 0))
    if state.ping:
        state.ping = False
        parts.append(bytes((PING,)))


def _next(state: State, parts: list[bytes], controls: list[tuple[int, int]]) -> bool:
    """Put in one of those of which there may be many; whether there was one."""
    if state.our_ids.to_send:
        number = state.our_ids.to_send.pop(0)
        frame = state.our_ids.frame(number)
        if frame:
            parts.append(frame)
            controls.append((NEW_CONNECTION_ID, number))
            state.events.append(IdIssued(state.our_ids.ids[number].value))
    elif state.their_ids.to_retire:
        number = state.their_ids.to_retire.pop(0)
        parts.append(bytes((RETIRE_CONNECTION_ID,)) + varint(number))
        controls.append((RETIRE_CONNECTION_ID, number))
    elif state.flow.changed:
        which = state.flow.changed.pop()
        if which < 0:
            _stream_controls(state, -1 - which, parts, controls)
        else:
            uni = which == MAX_STREAMS_UNI
            value = state.flow.receive_limit if which == MAX_DATA else state.flow.tell_streams(uni)
            parts.append(bytes((which,)) + varint(value))
            controls.append((which, 0))
    else:
        return False
    return True


def _stream_controls(state: State, stream_id: int, parts: list[bytes], controls: list[tuple[int, int]]) -> None:
    stream = state.flow.streams.get(stream_id)
    if stream is None or not state.flow.may_send(stream):
        return  # a frame of a stream that the peer does not allow yet would end the connection
    receiving, sending = stream.receiving, stream.sending
    name = varint(stream_id)
    if receiving is not None and receiving.limit_pending:
        receiving.limit_pending = False
        parts.append(bytes((MAX_STREAM_DATA,)) + name + varint(receiving.limit))
        controls.append((MAX_STREAM_DATA, stream_id))
    if receiving is not None and receiving.stop_pending:
        receiving.stop_pending = False
        parts.append(bytes((STOP_SENDING,)) + name + varint(receiving.stop_code))
        controls.append((STOP_SENDING, stream_id))
    if sending is not None and sending.reset_pending:
        sending.reset_pending = False
        parts.append(bytes((RESET_STREAM,)) + name + varint(sending.reset_code) + varint(sending.next))
        controls.append((RESET_STREAM, stream_id))
