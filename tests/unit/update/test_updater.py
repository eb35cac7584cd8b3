"""The updater goes from peer to peer and release to release; nothing ends it, and nothing is asked for in vain."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from pypatcher.errors import (
    ContentMismatchError,
    PeerBusyError,
    PeerError,
)
from pypatcher.events import FetchFailed
from pypatcher.nat.ways import EveryWay
from pypatcher.settings import Settings
from tests.support.node_fakes import run_alone
from tests.support.updater_world import NEW, NEWER, SIZE, UpdaterWorld


def test_looks_at_once_every_55_seconds_and_rarely_after_10_minutes(world: UpdaterWorld) -> None:
    run_alone(world.run(7200))
    early = [time for time in world.looks if time <= 660]
    late = [time for time in world.looks if time > 1000]
    assert world.looks[0] == 0
    assert 11 <= len(early) <= 14
    assert all(265 <= b - a <= 335 for a, b in itertools.pairwise(late))


def test_the_interval_can_be_set(world: UpdaterWorld) -> None:
    run_alone(world.run(100, Settings(look_interval=2.0)))
    assert 45 <= len(world.looks) <= 56


def test_a_release_is_found_fetched_and_staged_once(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    world.peer("10.0.0.2")
    run_alone(world.run(3600))
    assert world.staged == world.installation.staged == [NEW]
    assert len(world.asked) == 1
    assert world.heard.names() == ["release.found", "fetch.started", "fetch.progress", "release.staged"]


def test_the_newest_release_is_wanted_and_the_older_one_not_any_more(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1", info=NEW)
    world.peer("10.0.0.2", info=NEWER)
    run_alone(world.run(3600))
    assert world.staged == [NEWER]


def test_an_older_release_is_better_than_none(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1", info=NEW)
    world.peer("10.0.0.2", PeerError("gone"), info=NEWER)
    run_alone(world.run(20))
    assert world.staged == [NEW]


class OpenFor(EveryWay):
    """The way to one host is open from 15 s to 60 s, the ways to all others always."""

    def __init__(self, host: str) -> None:
        super().__init__(stranger_jitter=0.0)
        self._host = host

    def is_open(self, address: tuple[str, int]) -> bool:
        return address[0] != self._host or 15.0 <= asyncio.get_running_loop().time() <= 60.0


def test_a_way_that_opens_beside_made_up_addresses_is_used_in_time(
    world: UpdaterWorld,
) -> None:
    for number in range(200):
        world.peer(f"192.168.7.{number}", PeerError("silent"))
    world.peer("8.8.8.8")
    world.takes = 10.0
    world.ways = OpenFor("8.8.8.8")
    run_alone(world.run(600))
    assert world.staged == [NEW]
    assert next(time for time, host in world.asked if host == "8.8.8.8") <= 25


def test_who_is_busy_in_mid_transfer_pays_for_what_it_sent(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1", PeerBusyError("busy"))
    world.sends_before_errors = True
    run_alone(world.run(600, Settings(look_interval=5.0)))
    assert len(world.asked) <= 5


@pytest.mark.parametrize("moving", [True, False])
def test_a_transfer_that_breaks_because_we_moved_is_nobodys_fault(world: UpdaterWorld, moving: bool) -> None:
    world.peer("10.0.0.1", PeerError("the connection failed"))
    world.sends_before_errors = True
    world.takes = 5.0
    world.moves_while_asked = moving
    run_alone(world.run(60))
    assert len(world.asked) >= 10 if moving else len(world.asked) <= 2


@pytest.mark.parametrize("error", [PeerError("gone"), PeerBusyError("busy"), ContentMismatchError("other bytes")])
def test_one_peers_failure_leads_to_the_next_peer_at_once(world: UpdaterWorld, error: Exception) -> None:
    world.peer("10.0.0.2")
    world.peer("10.0.0.1", error)
    world.budget.succeeded(("10.0.0.1", 1))
    run_alone(world.run(1))
    assert world.hosts() == ["10.0.0.1", "10.0.0.2"]
    assert world.staged == [NEW]
    failed = next(event for event in world.heard if event.name == "fetch.failed")
    assert str(error) in str(failed)
    assert "10.0.0.1:1" in str(failed)


def test_a_peer_that_sends_rubbish_is_asked_ever_more_rarely(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1", ContentMismatchError("other bytes"))
    run_alone(world.run(24 * 3600))
    assert len(world.asked) < 16
    assert world.staged == []


def test_a_peer_that_does_not_answer_is_asked_ever_more_rarely(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1", PeerError("nobody there"))
    run_alone(world.run(24 * 3600))
    assert len(world.asked) < 40


def test_a_busy_peer_is_no_bad_peer(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1", PeerBusyError("busy"))
    run_alone(world.run(600))
    assert len(world.asked) >= 18
    assert world.budget.wait(NEW.hash.hex(), ("10.0.0.1", 1), 600.0) <= 30


def test_failed_bytes_from_strangers_end_at_three_times_the_release(world: UpdaterWorld) -> None:
    for number in range(12):
        world.peer(f"8.8.{number}.1", ContentMismatchError("other bytes"))
    run_alone(world.run(200))
    times = [time for time, _ in world.asked]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(pause < 1 for pause in (*pauses[:2], *pauses[3:5]))
    assert pauses[2] >= 30
    assert pauses[5] >= 60


def test_neighbours_with_one_wrong_byte_wear_no_flash_card_out(world: UpdaterWorld) -> None:
    """The attack: a true announcement, a file with one wrong byte, many LAN addresses: 221 transfers in a minute."""
    for number in range(60):
        world.peer(f"192.168.1.{number}", ContentMismatchError("one wrong byte"))
    world.sends_before_errors = True
    run_alone(world.run(3 * 3600))
    assert 15 <= len(world.asked) <= 20
    last = [event for event in world.heard if isinstance(event, FetchFailed)][-1]
    assert (last.wasted_lan, last.wasted) == (len(world.asked) * NEW.file_size, 0)


def test_holders_are_asked_in_turn_by_different_devices(tmp_path: Path) -> None:
    first = set()
    for seed in range(20):
        world = UpdaterWorld(tmp_path)
        world.seed = seed
        for number in range(5):
            world.peer(f"10.0.0.{number}")
        run_alone(world.run(1))
        first.add(world.hosts()[0])
    assert len(first) >= 4


def test_who_delivered_before_and_who_is_near_comes_first(world: UpdaterWorld) -> None:
    for host in ("8.8.8.8", "192.168.1.1", "9.9.9.9"):
        world.peer(host, PeerError("gone"))
    world.budget.succeeded(("9.9.9.9", 1))
    run_alone(world.run(70))
    assert list(dict.fromkeys(world.hosts())) == ["9.9.9.9", "192.168.1.1", "8.8.8.8"]


def test_a_first_fetch_from_a_stranger_waits_and_from_a_neighbour_not(
    world: UpdaterWorld,
) -> None:
    world.peer("8.8.8.8")
    run_alone(world.run(61))
    assert 1 < world.asked[0][0] <= 60
    assert world.staged == [NEW]


def test_addresses_where_nobody_answers_keep_it_from_no_honest_one(world: UpdaterWorld) -> None:
    for number in range(100):
        world.peer(f"10.0.1.{number}", PeerError("nobody there"))
    world.peer("8.8.8.8")
    run_alone(world.run(300))
    assert world.staged == [NEW]


def test_progress_is_said_a_few_times_a_second_at_most_and_at_the_end(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    run_alone(world.run(10))
    progress = [event for event in world.heard if event.name == "fetch.progress"]
    assert [(event.received, event.size) for event in progress] == [(SIZE, SIZE)]  # type: ignore[attr-defined]
