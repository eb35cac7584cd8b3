"""What the end of a connection means to whoever waits on it."""

from __future__ import annotations

from pypatcher.errors import PeerBusyError, PeerError
from pypatcher.transport.close import CloseCode, close_error


def test_what_ended_a_connection_is_told_in_words_no_peer_can_forge() -> None:
    assert isinstance(close_error(CloseCode.BUSY, True, ""), PeerBusyError)
    assert not isinstance(close_error(CloseCode.BUSY, False, ""), PeerBusyError)
    error = close_error(77, True, "x" * 500 + "\n\x1b[2J")
    assert type(error) is PeerError
    assert len(str(error)) < 200
    assert str(close_error(1, True, "\n\x1b[2J")).isprintable()
