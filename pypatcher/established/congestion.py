"""How much may be on its way, and how fast it leaves: CUBIC (RFC 9438), HyStart++ (RFC 9406), pacing. Pure.

Not here: what was lost (``recovery``).
"""

from __future__ import annotations

__all__ = ["Cubic", "Pacer"]

_INITIAL_PACKETS = 10
_INITIAL_BYTES = 14720
_MINIMUM_PACKETS = 2
_BETA = 0.7
_C = 0.4
_FRIENDLY = 3 * (1 - _BETA) / (1 + _BETA)
_NEVER = float("inf")

# HyStart++ (RFC 9406 section 4.3); pacing stands for its limit on bursts.
_MIN_THRESHOLD, _MAX_THRESHOLD = 0.004, 0.016
_SAMPLES = 8
_CSS_DIVISOR = 4
_CSS_ROUNDS = 5


class Cubic:
    """The congestion window, in bytes."""

    def __init__(self, datagram: int) -> None:
        """For packets of ``datagram`` bytes."""
        self.datagram = datagram
        self.window = min(_INITIAL_PACKETS * datagram, max(_INITIAL_BYTES, 2 * datagram))
        self.in_flight = 0
        self.threshold = _NEVER
        self.recovery_since = -1.0
        self._epoch = -1.0
        self._max = 0.0
        self._prior = 0.0
        self._friendly = 0.0
        self._k = 0.0
        self._round_end = -1
        self._last_min = self._this_min = self._baseline = _NEVER
        self._samples = 0
        self._css_rounds = -1

    @property
    def in_slow_start(self) -> bool:
        """Whether it doubles in each round trip."""
        return self.window < self.threshold

    def acked(self, size: int, sent_at: float, now: float, rtt: float, limited: bool) -> None:
        """A packet of that size arrived.

        Args:
            size: its bytes.
            sent_at: when it left.
            now: the time.
            rtt: the smoothed round-trip time.
            limited: this side had nothing more to send, so the window was not what held it back.
        """
        if limited:
            return
        if sent_at <= self.recovery_since:
            # The window rests, but not the time that CUBIC counts, so neither does Reno's share of it.
            self._gain(size)
            return
        if self.window < self.threshold:
            self.window += size // _CSS_DIVISOR if self._css_rounds >= 0 else size
            return
        self._avoid(size, now, rtt)

    def sample(self, rtt: float, newest_acked: int, next_number: int) -> None:
        """A round-trip time was measured: slow start ends before packets are lost, where delays tell so."""
        if self.window >= self.threshold:
            return
        if newest_acked > self._round_end:
            if self._css_rounds >= 0:
                self._css_rounds += 1
                if self._css_rounds > _CSS_ROUNDS:
                    self.threshold = self.window
                    return
            self._round_end = next_number - 1
            self._last_min, self._this_min, self._samples = self._this_min, _NEVER, 0
        self._this_min = min(self._this_min, rtt)
        self._samples += 1
        if self._samples < _SAMPLES or self._last_min == _NEVER:
            return
        if self._css_rounds >= 0:
            if self._this_min < self._baseline:
                self._css_rounds = -1
        elif self._this_min >= self._last_min + max(_MIN_THRESHOLD, min(self._last_min / 8, _MAX_THRESHOLD)):
            self._baseline = self._this_min
            self._css_rounds = 0

    def lost(self, newest_sent_at: float, now: float) -> None:
        """Packets were lost, the newest of which left then: once in a round trip the window shrinks."""
        if newest_sent_at <= self.recovery_since:
            return
        self.recovery_since = now
        window = float(self.window)
        self._max = window * (1 + _BETA) / 2 if window < self._max else window
        self._prior = window
        self.window = max(int(window * _BETA), _MINIMUM_PACKETS * self.datagram)
        self.threshold = float(self.window)
        self._css_rounds = -1
        self._begin(now)

    def collapse(self) -> None:
        """Nothing arrived for long (RFC 9002 section 7.6)."""
        self.window = _MINIMUM_PACKETS * self.datagram
        self.recovery_since = -1.0
        self._epoch = -1.0

    def _begin(self, now: float) -> None:
        """The window grows from here on without doubling."""
        window = float(self.window)
        self._epoch = now
        self._friendly = window
        if self._max <= window:
            self._max = window
            self._k = 0.0
        else:
            self._k = ((self._max - window) / self.datagram / _C) ** (1 / 3)

    def _gain(self, size: int) -> None:
        """So many bytes arrived: what Reno would have."""
        alpha = 1.0 if self._friendly >= self._prior else _FRIENDLY
        self._friendly += alpha * size / float(self.window) * self.datagram

    def _avoid(self, size: int, now: float, rtt: float) -> None:
        if self._epoch < 0:
            self._begin(now)
        window, since = float(self.window), now - self._epoch
        self._gain(size)
        if self._at(since) < self._friendly:
            self.window = max(self.window, int(self._friendly))
        else:
            target = max(window, min(self._at(since + rtt), 1.5 * window))
            self.window = int(window + (target - window) * size / window)

    def _at(self, seconds: float) -> float:
        return _C * (seconds - self._k) ** 3 * self.datagram + self._max


class Pacer:
    """A bucket of bytes that fills at the rate of a window per round trip, and a quarter more.

    Timers have steps of a millisecond: who waits, waits for several packets at once.
    """

    _BURST_PACKETS = 16
    _BURST_SECONDS = 0.002

    def __init__(self, datagram: int) -> None:
        """For packets of ``datagram`` bytes."""
        self.datagram = datagram
        self._tokens = float(_INITIAL_BYTES)
        self._filled_at = 0.0
        self._rate = 0.0

    def update(self, window: int, rtt: float, slow_start: bool) -> None:
        """The window or the round-trip time changed."""
        self._rate = (2.0 if slow_start else 1.25) * window / max(rtt, 1e-6)

    def budget(self, now: float) -> float:
        """Bytes that may leave at once; without a round-trip time as many as one likes."""
        rate = self._rate
        if rate <= 0:
            return _NEVER
        most = max(self._BURST_PACKETS * self.datagram, rate * self._BURST_SECONDS)
        self._tokens = min(most, self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        return self._tokens

    def spend(self, size: int) -> None:
        """So many bytes left."""
        self._tokens -= size

    def next_time(self, now: float) -> float:
        """When something may leave again."""
        wanted = min(self._BURST_PACKETS * self.datagram, self._rate * self._BURST_SECONDS)
        return now + max(0.001, (max(wanted, self.datagram) - self._tokens) / self._rate)
