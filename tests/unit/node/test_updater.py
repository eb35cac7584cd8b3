"""The updater goes from peer to peer and release to release; nothing ends it, and nothing is asked for in vain."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo
from pypatcher.errors import (
    CannotReplaceError,
    ContentMismatchError,
    PeerBusyError,
    PeerError,
    RefusedReleaseError,
    StateError,
    WrongTargetError,
)
from pypatcher.install.layout import Layout
from pypatcher.node.budget import FetchBudget
from pypatcher.node.candidates import Candidate, Candidates
from pypatcher.node.settings import Settings
from pypatcher.node.updater import Known, Updater, Ways
from tests.support.discovery import node, release
from tests.support.node_fakes import FakeInstallation, Heard, run_alone

NEW, NEWER = release("2.0.0"), release("3.0.0")
SIZE = NEW.file_size


class World:
    """An updater, peers that answer as told, and what became of it all."""

    def __init__(self, folder: Path) -> None:
        self.installation = FakeInstallation(Layout(folder / "app"))
        self.heard = Heard()
        self.known_files: dict[str, str] = {}
        self.unfit: dict[str, str] = {}
        self.peers: dict[str, Exception | None] = {}
        self.releases: dict[str, PatchInfo] = {}
        self.asked: list[tuple[float, str]] = []
        self.looks: list[float] = []
        self.staged: list[PatchInfo] = []
        self.budget = FetchBudget()
        self.look_errors = 0
        self.sends = SIZE
        self.sends_before_errors = False
        self.takes = 0.01
        self.rates: dict[str, float] = {}
        self.ways: Ways | None = None
        self.seed = 1
        self.moves_while_asked = False

    def peer(self, host: str, answer: Exception | None = None, info: PatchInfo = NEW) -> None:
        """A peer that gives its release, or raises."""
        self.peers[host] = answer
        self.releases[host] = info

    async def run(
        self,
        seconds: float,
        settings: Settings | None = None,
        beside: Callable[[Updater], Coroutine[None, None, None]] | None = None,
    ) -> World:
        """Run the updater for some virtual seconds, and ``beside`` next to it."""
        clock = asyncio.get_running_loop().time
        candidates = Candidates()

        async def look() -> None:
            self.looks.append(clock())
            candidates.add(
                [Candidate(info, node(1).public, (host, 1), "a test") for host, info in self.releases.items()], clock()
            )

        async def fetch(
            candidate: Candidate, write: Callable[[bytes], None], progress: Callable[[int], None]
        ) -> PatchInfo:
            host = candidate.address[0]
            self.asked.append((clock(), host))
            await asyncio.sleep(self.takes)
            if (rate := self.rates.get(host)) is not None:
                for second in range(int(SIZE / rate)):
                    await asyncio.sleep(1.0)
                    progress(int(second * rate))
            error = self.peers[host]
            if self.moves_while_asked:
                updater.moved()
            if isinstance(error, PeerError) and not self.sends_before_errors:
                raise error
            write(bytes(self.sends))
            progress(self.sends)
            if error is not None:
                raise error
            return candidate.info

        async def on_staged(info: PatchInfo) -> None:
            self.staged.append(info)

        updater = Updater(
            look=look,
            fetch=fetch,
            installation=self.installation,  # type: ignore[arg-type]
            known=Known(self.known_files, self.unfit),
            candidates=candidates,
            budget=self.budget,
            settings=settings or Settings(),
            emit=self.heard,
            on_staged=on_staged,
            clock=clock,
            rng=random.Random(self.seed),
            ways=self.ways,
        )
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                if beside is not None:
                    tasks.create_task(beside(updater))
                await updater.run()
        assert self.installation.partials == 0
        return self

    def hosts(self) -> list[str]:
        return [host for _, host in self.asked]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_looks_at_once_then_every_55_seconds_and_rarely_after_ten_minutes(world: World) -> None:
    run_alone(world.run(7200))
    early = [time for time in world.looks if time <= 660]
    late = [time for time in world.looks if time > 1000]
    assert world.looks[0] == 0
    assert 11 <= len(early) <= 14
    assert all(265 <= b - a <= 335 for a, b in itertools.pairwise(late))


def test_the_interval_can_be_set(world: World) -> None:
    run_alone(world.run(100, Settings(look_interval=2.0)))
    assert 45 <= len(world.looks) <= 56


def test_a_release_is_found_fetched_and_staged_once(world: World) -> None:
    world.peer("10.0.0.1")
    world.peer("10.0.0.2")
    run_alone(world.run(3600))
    assert world.staged == world.installation.staged == [NEW]
    assert len(world.asked) == 1
    assert world.heard.names() == ["release.found", "fetch.started", "fetch.progress", "release.staged"]


def test_the_newest_release_is_wanted_first_and_the_older_one_not_any_more(world: World) -> None:
    world.peer("10.0.0.1", info=NEW)
    world.peer("10.0.0.2", info=NEWER)
    run_alone(world.run(3600))
    assert world.staged == [NEWER]


def test_an_older_release_is_better_than_none(world: World) -> None:
    world.peer("10.0.0.1", info=NEW)
    world.peer("10.0.0.2", PeerError("gone"), info=NEWER)
    run_alone(world.run(20))
    assert world.staged == [NEW]


class OpenFor(Ways):
    """The way to one host is open from 15 s to 60 s, the ways to all others always."""

    def __init__(self, host: str) -> None:
        self._host = host

    def seek(self, addresses: object) -> None:
        pass

    def is_open(self, address: tuple[str, int]) -> bool:
        return address[0] != self._host or 15.0 <= asyncio.get_running_loop().time() <= 60.0


def test_a_way_that_opens_while_made_up_addresses_are_dialed_in_vain_is_used_before_it_shuts(world: World) -> None:
    for number in range(200):
        world.peer(f"192.168.7.{number}", PeerError("silent"))
    world.peer("8.8.8.8")
    world.takes = 10.0
    world.ways = OpenFor("8.8.8.8")
    run_alone(world.run(600))
    assert world.staged == [NEW]
    assert next(time for time, host in world.asked if host == "8.8.8.8") <= 25


def test_who_is_busy_in_the_middle_of_a_transfer_pays_for_what_it_sent(world: World) -> None:
    world.peer("10.0.0.1", PeerBusyError("busy"))
    world.sends_before_errors = True
    run_alone(world.run(600, Settings(look_interval=5.0)))
    assert len(world.asked) <= 5


@pytest.mark.parametrize("moving", [True, False])
def test_a_transfer_that_breaks_because_we_moved_is_nobodys_fault(world: World, moving: bool) -> None:
    world.peer("10.0.0.1", PeerError("the connection failed"))
    world.sends_before_errors = True
    world.takes = 5.0
    world.moves_while_asked = moving
    run_alone(world.run(60))
    assert len(world.asked) >= 10 if moving else len(world.asked) <= 2


@pytest.mark.parametrize("error", [PeerError("gone"), PeerBusyError("busy"), ContentMismatchError("other bytes")])
def test_one_peers_failure_leads_to_the_next_peer_at_once(world: World, error: Exception) -> None:
    world.peer("10.0.0.2")
    world.peer("10.0.0.1", error)
    world.budget.succeeded(("10.0.0.1", 1))
    run_alone(world.run(1))
    assert world.hosts() == ["10.0.0.1", "10.0.0.2"]
    assert world.staged == [NEW]
    failed = next(event for event in world.heard if event.name == "fetch.failed")
    assert str(error) in str(failed)
    assert "10.0.0.1:1" in str(failed)


def test_a_peer_that_sends_rubbish_is_asked_ever_more_rarely(world: World) -> None:
    world.peer("10.0.0.1", ContentMismatchError("other bytes"))
    run_alone(world.run(24 * 3600))
    assert len(world.asked) < 16
    assert world.staged == []


def test_a_peer_that_does_not_answer_is_asked_ever_more_rarely(world: World) -> None:
    world.peer("10.0.0.1", PeerError("nobody there"))
    run_alone(world.run(24 * 3600))
    assert len(world.asked) < 40


def test_a_busy_peer_is_no_bad_peer(world: World) -> None:
    world.peer("10.0.0.1", PeerBusyError("busy"))
    run_alone(world.run(600))
    assert len(world.asked) >= 18
    assert world.budget.wait(NEW.hash.hex(), ("10.0.0.1", 1), 600.0) <= 30


def test_failed_bytes_from_strangers_end_at_three_times_the_release(world: World) -> None:
    for number in range(12):
        world.peer(f"8.8.{number}.1", ContentMismatchError("other bytes"))
    run_alone(world.run(200))
    times = [time for time, _ in world.asked]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(pause < 1 for pause in (*pauses[:2], *pauses[3:5]))
    assert pauses[2] >= 30
    assert pauses[5] >= 60


def test_holders_are_asked_in_turn_by_different_devices(tmp_path: Path) -> None:
    first = set()
    for seed in range(20):
        world = World(tmp_path)
        world.seed = seed
        for number in range(5):
            world.peer(f"10.0.0.{number}")
        run_alone(world.run(1))
        first.add(world.hosts()[0])
    assert len(first) >= 4


def test_who_delivered_before_and_who_is_near_comes_first(world: World) -> None:
    for host in ("8.8.8.8", "192.168.1.1", "9.9.9.9"):
        world.peer(host, PeerError("gone"))
    world.budget.succeeded(("9.9.9.9", 1))
    run_alone(world.run(70))
    assert list(dict.fromkeys(world.hosts())) == ["9.9.9.9", "192.168.1.1", "8.8.8.8"]


def test_the_first_fetch_from_a_stranger_waits_up_to_a_minute_and_from_a_neighbour_does_not(world: World) -> None:
    world.peer("8.8.8.8")
    run_alone(world.run(61))
    assert 1 < world.asked[0][0] <= 60
    assert world.staged == [NEW]


def test_addresses_where_nobody_answers_never_keep_it_from_the_honest_one(world: World) -> None:
    for number in range(100):
        world.peer(f"10.0.1.{number}", PeerError("nobody there"))
    world.peer("8.8.8.8")
    run_alone(world.run(300))
    assert world.staged == [NEW]


def test_a_release_that_was_refused_here_is_not_fetched_again(world: World) -> None:
    world.peer("10.0.0.1")
    world.known_files[NEW.signature.hex()] = "ab" * 64
    world.installation.refused_files.add(b"\xab" * 64)
    run_alone(world.run(3600))
    assert world.asked == []
    assert world.heard.names() == ["release.refused"]


def test_the_same_build_signed_as_a_higher_version_is_welcome_where_it_failed_before(world: World) -> None:
    world.known_files[NEW.signature.hex()] = "ab" * 64
    world.installation.refused_files.add(b"\xab" * 64)
    assert NEWER.hash == NEW.hash
    world.peer("10.0.0.1", info=NEWER)
    run_alone(world.run(60))
    assert world.staged == [NEWER]


def test_a_refusal_that_only_the_download_shows_costs_one_download(world: World) -> None:
    for number in range(5):
        world.peer(f"10.0.0.{number}")
    world.installation.stage_error = RefusedReleaseError("it failed here before")
    run_alone(world.run(24 * 3600))
    assert len(world.asked) == 1
    assert world.heard.names().count("release.refused") == 1


def test_what_one_download_showed_to_be_unfit_is_not_downloaded_again_after_a_restart(world: World) -> None:
    world.peer("10.0.0.1")
    world.installation.stage_error = WrongTargetError("it is for another machine")
    run_alone(world.run(60))
    world.installation.stage_error = None
    world.heard.clear()
    run_alone(world.run(600))
    assert len(world.asked) == 1
    assert world.staged == []
    assert [event.reason for event in world.heard] == ["it is for another machine"]  # type: ignore[attr-defined]


def test_a_refused_release_does_not_keep_it_from_its_successor(world: World) -> None:
    world.peer("10.0.0.1")
    world.installation.stage_error = RefusedReleaseError("it failed here before")

    async def body() -> None:
        running = asyncio.create_task(world.run(3600))
        await asyncio.sleep(600)
        world.installation.stage_error = None
        world.peer("10.0.0.2", info=NEWER)
        await running

    run_alone(body())
    assert world.staged == [NEWER]


def test_preflight_is_said_once_fetches_nothing_and_is_tried_again_with_growing_pauses(world: World) -> None:
    world.peer("10.0.0.1")
    world.installation.preflight_error = CannotReplaceError("the folder cannot be written")

    async def body() -> None:
        running = asyncio.create_task(world.run(3600))
        await asyncio.sleep(1000)
        assert world.asked == []
        assert world.heard.names() == ["release.found", "preflight.failed"]
        world.installation.preflight_error = None
        await running

    run_alone(body())
    assert world.staged == [NEW]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), CannotReplaceError("no"), StateError("no")])
@pytest.mark.parametrize("where", ["partial_error", "stage_error"])
def test_a_device_that_cannot_keep_it_asks_no_other_peer_and_ever_more_rarely(
    world: World, where: str, error: Exception
) -> None:
    for number in range(5):
        world.peer(f"10.0.0.{number}")
    setattr(world.installation, where, error)
    run_alone(world.run(24 * 3600))
    assert len(world.asked) <= 12
    assert world.heard.names().count("preflight.failed") == 1
    setattr(world.installation, where, None)


def staged_at(world: World) -> float:
    """When the first release was staged."""
    return next(
        time for time, event in zip(world.heard.times, world.heard, strict=True) if event.name == "release.staged"
    )


def test_a_peer_that_drips_its_bytes_is_overtaken_by_another_holder(world: World) -> None:
    world.peer("10.0.0.1")
    world.peer("10.0.0.2")
    world.rates["10.0.0.1"] = 0.2
    world.budget.succeeded(("10.0.0.1", 1))
    run_alone(world.run(7200))
    assert world.hosts() == ["10.0.0.1", "10.0.0.2"]
    assert world.staged == [NEW]
    assert staged_at(world) < 60
    assert "faster" in str(next(event for event in world.heard if event.name == "fetch.failed"))


def test_a_hundred_peers_that_drip_hold_up_the_update_for_an_hour_or_two_and_no_longer(world: World) -> None:
    for number in range(100):
        world.peer(f"8.{number}.8.8", ContentMismatchError("other bytes"))
        world.rates[f"8.{number}.8.8"] = SIZE / 10_000
    world.peer("9.9.9.9")
    run_alone(world.run(2 * 3600))
    assert world.staged == [NEW]


def test_a_fetch_that_goes_on_well_has_no_rival(world: World) -> None:
    for number in range(5):
        world.peer(f"10.0.0.{number}")
        world.rates[f"10.0.0.{number}"] = SIZE / 250
    run_alone(world.run(3600))
    assert len(world.asked) == 1
    assert world.staged == [NEW]


def test_where_the_devices_own_line_is_slow_rivals_take_little_of_it(world: World) -> None:
    for number in range(50):
        world.peer(f"10.0.0.{number}")
        world.rates[f"10.0.0.{number}"] = SIZE / 3000
    run_alone(world.run(3100))
    assert world.staged == [NEW]
    assert len(world.asked) < 60


def test_looking_goes_on_during_a_fetch_and_a_newer_release_is_fetched_beside_it(world: World) -> None:
    world.peer("10.0.0.1")
    world.rates["10.0.0.1"] = SIZE / 290

    async def later(_updater: Updater) -> None:
        await asyncio.sleep(100)
        world.peer("10.0.0.2", info=NEWER)

    run_alone(world.run(3600, beside=later))
    assert world.staged == [NEWER]
    assert staged_at(world) < 200


def test_a_newer_release_that_nobody_gives_does_not_keep_it_from_the_one_under_way(world: World) -> None:
    world.peer("10.0.0.1")
    world.rates["10.0.0.1"] = SIZE / 290

    async def later(_updater: Updater) -> None:
        await asyncio.sleep(100)
        for number in range(20):
            world.peer(f"10.0.1.{number}", PeerError("gone"), info=NEWER)

    run_alone(world.run(3600, beside=later))
    assert world.staged == [NEW]
    assert staged_at(world) < 300


def test_without_room_for_a_rival_the_slow_fetch_goes_on_alone(world: World) -> None:
    world.peer("10.0.0.1")
    world.peer("10.0.0.2")
    world.rates["10.0.0.1"] = world.rates["10.0.0.2"] = SIZE / 3000
    world.installation.room = SIZE + 10
    run_alone(world.run(7200))
    assert world.staged == [NEW]
    assert len(world.asked) == 1
    assert "preflight.failed" not in world.heard.names()


def test_an_offer_is_taken_beside_a_slow_fetch_and_not_beside_a_good_one(world: World) -> None:
    world.peer("10.0.0.1")
    world.rates["10.0.0.1"] = 0.2
    offer = Candidate(NEW, node(2).public, ("10.0.0.3", 1), "an offer")

    async def fetch(
        _candidate: Candidate, write: Callable[[bytes], None], progress: Callable[[int], None]
    ) -> PatchInfo:
        write(bytes(SIZE))
        progress(SIZE)
        return NEW

    async def offers(updater: Updater) -> None:
        await asyncio.sleep(10)
        with pytest.raises(PeerBusyError):
            await updater.would_take(NEW, offer.address)
        await asyncio.sleep(30)
        assert await updater.would_take(NEW, offer.address)
        await updater.take(offer, fetch)
        assert world.staged == [NEW]
        assert not await updater.would_take(NEW, offer.address)

    run_alone(world.run(100, beside=offers))
    assert world.staged == [NEW]


def test_progress_is_said_a_few_times_a_second_at_most_and_at_the_end(world: World) -> None:
    world.peer("10.0.0.1")
    run_alone(world.run(10))
    progress = [event for event in world.heard if event.name == "fetch.progress"]
    assert [(event.received, event.size) for event in progress] == [(SIZE, SIZE)]  # type: ignore[attr-defined]
