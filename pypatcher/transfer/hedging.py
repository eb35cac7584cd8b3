"""Whether a second fetch may run beside a slow one, and which of two slow ones ends. Pure; the clock is passed in.

A peer that sends just enough not to stall must not keep a device from its update for hours: a slow transfer gets a
rival from another holder, and who finishes first wins. When both are slow, one is dropped: the newcomer, unless it
would end clearly sooner. The slower the survivor, the sooner the next rival comes: where the device's own line is slow,
rivals take little of it. A newer release is always worth a rival. design.md "Transport and transfer" has the numbers.
Not here: from whom is fetched (``budgets``, the updater).
"""

from __future__ import annotations

from collections import deque

from pypatcher.version import Version

__all__ = ["Race", "Runner"]

_AT_ONCE = 2
_GRACE = 30.0
_PATIENCE = 300.0
_DECENT_RATE = 65536.0
_CHECK = 10.0
_CLEARLY = 1.5
_SAMPLE, _SAMPLES = 5.0, 5
_RIVAL_PAUSES = (30.0, 600.0)


class Runner:
    """One fetch under way, its rate, and how long it will take. Times are monotonic seconds.

    Attributes:
        version: of the release.
        size: of the file, in bytes.
        received: of them so far.
        came: bytes that the peer sent; what was here already is not among them.
    """

    def __init__(self, version: Version, size: int, now: float, decent: float = _DECENT_RATE) -> None:
        self.version = version
        self.size = size
        self.received = self.came = 0
        self._started, self._decent = now, decent
        self._samples = deque([(now, 0)], maxlen=_SAMPLES)

    def progressed(self, received: int, now: float, came: int | None = None) -> None:
        """So many bytes are here, of which the peer sent ``came``, or all."""
        self.received, self.came = received, received if came is None else came
        if now - self._samples[-1][0] >= _SAMPLE:
            self._samples.append((now, self.came))

    def rate(self, now: float) -> float:
        """Bytes a second lately."""
        since, before = self._samples[0]
        return (self.came - before) / max(now - since, _SAMPLE)

    def left(self, now: float) -> float:
        """Seconds until it is done at its present rate."""
        rate = self.rate(now)
        return (self.size - self.received) / rate if rate > 0 else float("inf")

    def is_slow(self, now: float) -> bool:
        """Whether somebody else should be tried beside it; known after half a minute."""
        elapsed = now - self._started
        return elapsed >= _GRACE and elapsed + self.left(now) > max(_PATIENCE, self.size / self._decent)


class Race:
    """The fetches that run side by side on one device.

    Args:
        limit: bytes a second that this device takes at most, if it has such a limit: half of it is fast enough.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._decent = _DECENT_RATE if limit is None else min(_DECENT_RATE, limit / 2)
        self._running: list[Runner] = []
        self._not_before = 0.0

    def wait(self, version: Version, now: float) -> float:
        """Seconds until a fetch of that version may enter, or until that should be asked again; 0 is at once."""
        if not self._running:
            return 0.0
        if len(self._running) >= _AT_ONCE:
            return _CHECK
        (alone,) = self._running
        pause = max(0.0, self._not_before - now)
        return pause if version > alone.version or alone.is_slow(now) else max(pause, _CHECK)

    def enter(self, version: Version, size: int, now: float) -> Runner:
        """A fetch begins."""
        runner = Runner(version, size, now, self._decent)
        self._running.append(runner)
        return runner

    def leave(self, runner: Runner) -> None:
        """It ended; once is enough."""
        if runner in self._running:
            self._running.remove(runner)
        if not self._running:
            self._not_before = 0.0

    def judge(self, now: float) -> Runner | None:
        """The one that must stop now, because another would end sooner and both are slow; it has left."""
        if len(self._running) < _AT_ONCE or not all(runner.is_slow(now) for runner in self._running):
            return None
        older, younger = self._running
        loser = older if _CLEARLY * younger.left(now) < older.left(now) else younger
        self.leave(loser)
        shortest, longest = _RIVAL_PAUSES
        fastest = max(runner.rate(now) for runner in self._running)
        self._not_before = now + min(max(longest * fastest / self._decent, shortest), longest)
        return loser

    def rest(self, now: float) -> None:
        """There is no room for a rival on this device: none for ten minutes."""
        self._not_before = now + _RIVAL_PAUSES[1]

    def outstanding(self) -> int:
        """Bytes that those under way will still write."""
        return sum(max(0, runner.size - min(runner.came, runner.received)) for runner in self._running)
