"""A device that no DHT node answers says so once, and says when one does again."""

from __future__ import annotations

from dataclasses import dataclass, field

from pypatcher.events import DhtJoined, DhtSilent, Event
from pypatcher.node.dht_monitor import DhtMonitor


@dataclass
class FakeDht:
    """When a node last answered, what time it is, and what was said about it."""

    last_answer: float | None = None
    now: float = 1000.0
    events: list[Event] = field(default_factory=list)

    def watch(self) -> DhtMonitor:
        return DhtMonitor(self.now)

    def pass_time(self, watching: DhtMonitor, seconds: float, *, answering: bool) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 10
            if answering:
                self.last_answer = self.now
            if (event := watching.look(self.last_answer, self.now)) is not None:
                self.events.append(event)


def test_a_device_that_nobody_answers_says_so_once_after_a_minute() -> None:
    network = FakeDht()
    watching = network.watch()
    network.pass_time(watching, 50, answering=False)
    assert network.events == []
    network.pass_time(watching, 7200, answering=False)
    [said] = network.events
    assert isinstance(said, DhtSilent)
    assert said.seconds == 60
    assert "UDP blocked" in said.reason


def test_it_says_when_somebody_answers_and_once_only() -> None:
    network = FakeDht()
    watching = network.watch()
    network.pass_time(watching, 100, answering=False)
    network.pass_time(watching, 7200, answering=True)
    assert [type(event) for event in network.events] == [DhtSilent, DhtJoined]


def test_a_later_silence_is_said_after_half_an_hour() -> None:
    network = FakeDht()
    watching = network.watch()
    network.pass_time(watching, 60, answering=True)
    network.pass_time(watching, 1780, answering=False)
    assert [type(event) for event in network.events] == [DhtJoined]
    network.pass_time(watching, 100, answering=False)
    network.pass_time(watching, 100, answering=True)
    assert [type(event) for event in network.events] == [DhtJoined, DhtSilent, DhtJoined]
    said = network.events[1]
    assert isinstance(said, DhtSilent)
    assert said.seconds == 1800


def test_a_metered_device_that_asks_seldom_is_not_called_silent() -> None:
    network = FakeDht()
    watching = DhtMonitor(network.now, is_metered=True)
    network.pass_time(watching, 60, answering=True)
    for _ in range(8):
        network.pass_time(watching, 6 * 3600, answering=False)
        network.pass_time(watching, 10, answering=True)
    assert [type(event) for event in network.events] == [DhtJoined]
    network.pass_time(watching, 14 * 3600, answering=False)
    assert [type(event) for event in network.events] == [DhtJoined, DhtSilent]


def test_with_one_family_missing_the_firewall_is_not_blamed() -> None:
    network = FakeDht()
    watching = DhtMonitor(network.now, only_family=6)
    network.pass_time(watching, 100, answering=False)
    [said] = network.events
    assert isinstance(said, DhtSilent)
    assert "IPv6, the only one" in said.reason
    assert "blocked" not in said.reason
