"""Events: what a node says, to the log and to whoever listens."""

from __future__ import annotations

import json
import logging
import threading

import pytest

from pypatcher import events
from pypatcher.events import Event, EventBus, FetchProgress, NodeStarted, NodeStopped, RecordPublished

PUBLISHED = RecordPublished("1.2.3", 29_000_000, 7)
NAMES = [
    "node.started",
    "record.published",
    "release.found",
    "release.offered",
    "release.withheld",
    "release.conflicts",
    "release.served",
    "fetch.started",
    "fetch.progress",
    "fetch.failed",
    "release.refused",
    "port.mapped",
    "addresses.changed",
    "dht.joined",
    "dht.silent",
    "fleet.silent",
    "preflight.failed",
    "release.staged",
    "release.activated",
    "restart",
    "restart.waits",
    "clock.differs",
    "trial.started",
    "trial.confirmed",
    "trial.rolled_back",
    "program.ended",
    "node.stopped",
]


def test_every_event_of_the_design_has_its_name() -> None:
    kinds = [getattr(events, name) for name in events.__all__]
    found = [kind.name for kind in kinds if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event]
    assert sorted(found) == sorted(NAMES)


def test_an_event_is_plain_values_with_its_name_first() -> None:
    started = NodeStarted("ab" * 32, ("127.0.0.1:1",), "space", "1.2.3", "now")
    table = started.to_dict()
    assert next(iter(table.items())) == ("event", "node.started")
    assert json.loads(json.dumps(table))["addresses"] == ["127.0.0.1:1"]
    assert str(PUBLISHED) == "record.published version=1.2.3 minute=29000000 stored=7"


def test_subscribers_hear_in_order_until_they_end_it() -> None:
    bus, heard = EventBus(), []
    first = bus.subscribe(lambda event: heard.append(("first", event)))
    bus.subscribe(lambda event: heard.append(("second", event)))
    bus.emit(PUBLISHED)
    first()
    first()
    bus.emit(PUBLISHED)
    assert [who for who, _ in heard] == ["first", "second", "second"]


def test_a_subscriber_that_raises_is_logged_kept_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    bus, heard = EventBus(), []

    def broken(_event: Event) -> None:
        heard.append("broken")
        raise ValueError("my mistake")

    bus.subscribe(broken)
    bus.subscribe(lambda _event: heard.append("other"))
    bus.emit(PUBLISHED)
    bus.emit(NodeStopped("ab"))
    assert heard == ["broken", "other"] * 2
    assert "my mistake" in caplog.text


def test_events_go_to_the_logger_at_their_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="pypatcher")
    bus = EventBus()
    bus.emit(PUBLISHED)
    bus.emit(FetchProgress("1.2.3", "127.0.0.1:1", 1, 2))
    bus.emit(events.FetchFailed("1.2.3", "127.0.0.1:1", "it stalled"))
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("pypatcher", "INFO"),
        ("pypatcher", "DEBUG"),
        ("pypatcher", "WARNING"),
    ]


def test_a_library_installs_no_handler() -> None:
    assert logging.getLogger("pypatcher").handlers == []


def test_threads_may_subscribe_and_emit_at_once() -> None:
    bus, heard = EventBus(), []

    def work() -> None:
        for _ in range(200):
            end = bus.subscribe(lambda _event: None)
            bus.emit(PUBLISHED)
            end()

    bus.subscribe(heard.append)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == 800
