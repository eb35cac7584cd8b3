"""The congestion window over round trips, on a clock that is passed in."""

from __future__ import annotations

from pypatcher.established.congestion import Cubic

_DATAGRAM, _RTT = 1200, 0.05


def _round_trip(cubic: Cubic, sent_at: float) -> float:
    """A window's packets left then and arrive; the next moment."""
    now = sent_at + _RTT
    for _ in range(cubic.window // _DATAGRAM):
        cubic.acked(_DATAGRAM, sent_at, now, _RTT, limited=False)
    return now


def _after_a_loss(packets: int) -> tuple[Cubic, float]:
    """A window of so many packets that has just shrunk, in its recovery; and the time."""
    cubic = Cubic(_DATAGRAM)
    cubic.window, cubic.threshold = packets * _DATAGRAM, 0.0
    cubic.lost(0.9, 1.0)
    return cubic, 1.0


def test_a_window_rests_while_it_recovers() -> None:
    cubic, now = _after_a_loss(20)
    shrunk = cubic.window
    assert shrunk == 14 * _DATAGRAM

    for _ in range(14):
        cubic.acked(_DATAGRAM, 0.99, now + _RTT, _RTT, limited=False)

    assert cubic.window == shrunk


def test_what_reno_would_gain_while_a_window_rests_counts_later() -> None:
    recovered, now = _after_a_loss(20)
    for _ in range(14):
        recovered.acked(_DATAGRAM, 0.99, now + _RTT, _RTT, limited=False)
    late, _ = _after_a_loss(20)

    now = _round_trip(recovered, now + _RTT)
    _round_trip(late, now - _RTT)

    # A round trip more of what Reno gains beside CUBIC: 3 * 0.3 / 1.7 packets, a little less as the window is larger.
    assert 0.3 < (recovered.window - late.window) / _DATAGRAM < 0.6
