"""An established connection: packets that anybody can send, and frames that only who has the keys can.

Each function takes any bytes and returns nothing; whatever it raises is a finding. See ``targets``.
"""

from __future__ import annotations

from pypatcher.established import Established, FlowLimits
from pypatcher.established.protection import Sealer
from pypatcher.transport.stream import DEFAULT_WINDOW
from tests.support.virtual_path import CLIENT, handover

__all__ = ["WINDOWS", "frames", "packets"]

WINDOWS = 4 * DEFAULT_WINDOW
"""Bytes that a peer may have us hold ahead of readers, on four streams."""

_LIMITS = FlowLimits(1 << 20, DEFAULT_WINDOW, DEFAULT_WINDOW, DEFAULT_WINDOW, 4, 4)
_PREFIX = b"\x43server00"
_LONGEST_PACKET = 1400
_NOW = 100.0


def frames(data: bytes) -> None:
    """A client's packets with these frames: the server goes on, or ends that connection, and answers little."""
    start = handover(False, limits=_LIMITS)
    server = Established(start, _NOW)
    sealer = Sealer(start.suite, start.receive_secret)
    parts = [data[at : at + _LONGEST_PACKET] for at in range(0, len(data), _LONGEST_PACKET)]
    packets = [sealer.seal(_PREFIX, number, part) for number, part in enumerate(parts)]
    for header, sealed in packets:
        server.receive_trains([(*sealer.finish([header], [sealed])[0], CLIENT)], _NOW)
        server.take_events()
        assert sum(len(answer) for answer, _ in server.send(_NOW)) <= 1 << 15
    timer = server.timer()
    assert timer is not None
    server.on_timer(timer)
    server.send(timer)


def packets(data: bytes) -> None:
    """Datagrams for a connection from somebody without its keys: nothing comes of them."""
    server = Established(handover(False, limits=_LIMITS), _NOW)
    for size in (20, 60, len(data)):
        server.receive([(b"\x40server00" + data[:size], CLIENT), (data[:size] or b"@", CLIENT)], _NOW)
    assert server.closing is None
    assert server.take_events() == []
    assert not server.state.flow.streams
