"""On which info-hashes a node announces, and how often."""

from __future__ import annotations

import hashlib
import itertools
import random

from pypatcher.artifact import PatchInfo, make_info
from pypatcher.discovery import Namespace
from pypatcher.discovery.namespace import namespace_hash, release_hash
from pypatcher.discovery.sources.swarm import SwarmSchedule, Visit
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.version import Version

KEY = KeyPair.from_seed(bytes(range(32)))
NAMESPACE = Namespace.ours("aarch64", OwnerKey(KEY.public))


def release(version: str) -> PatchInfo:
    return make_info(Version.parse(version), bytes(32), 1000, KEY)


def visits(schedule: SwarmSchedule, start: float, end: float, reached: int = 20) -> list[tuple[float, bytes]]:
    """Every visit from ``start`` to ``end``, each over at once."""
    found, now = [], start
    while now < end:
        for visit in schedule.due(now):
            found.append((now, visit.info_hash))
            schedule.visited(visit, reached, now)
        now += max(schedule.wait(now), 0.1)
    return found


def test_the_info_hashes_are_those_of_the_design() -> None:
    topic, info = NAMESPACE.topic_hash, release("2.0.0")
    assert namespace_hash(NAMESPACE) == hashlib.sha1(topic + b"swarm").digest()
    assert release_hash(NAMESPACE, info) == hashlib.sha1(topic + b"release" + b"2.0.0" + info.hash).digest()


def test_a_holder_announces_at_once_then_ever_rarer_with_jitter() -> None:
    schedule = SwarmSchedule(NAMESPACE, random.Random(1))
    schedule.announce(release("1.0.0"), 0.0)
    found = visits(schedule, 0.0, 36_000.0)
    for info_hash in (namespace_hash(NAMESPACE), release_hash(NAMESPACE, release("1.0.0"))):
        times = [time for time, visited in found if visited == info_hash]
        assert times[0] == 0.0
        pauses = [later - time for time, later in itertools.pairwise(times)]
        if info_hash == namespace_hash(NAMESPACE):
            assert 4 <= pauses.pop(0) <= 6  # whoever started together with us is there now
        assert all(270 <= pause <= 331 for pause in pauses[:2])
        assert all(1500 <= pause <= 1850 for pause in pauses[3:])
        assert len(set(pauses)) == len(pauses)


def test_a_seed_never_rests() -> None:
    schedule = SwarmSchedule(NAMESPACE, random.Random(1), may_rest=False)
    schedule.announce(release("1.0.0"), 0.0)
    times = [time for time, visited in visits(schedule, 0.0, 36_000.0) if visited == namespace_hash(NAMESPACE)]
    assert all(later - time <= 331 for time, later in itertools.pairwise(times))


def test_at_rest_a_holder_glances_at_the_namespace_every_5_minutes() -> None:
    schedule = SwarmSchedule(NAMESPACE, random.Random(1))
    schedule.announce(release("1.0.0"), 0.0)
    now, glances = 0.0, []
    while now < 36_000.0:
        for visit in schedule.due(now):
            schedule.visited(visit, 20, now)
        if schedule.takes_glance(now):
            glances.append(now)
        now += max(schedule.wait(now), 0.1)
    assert 80 <= len(glances) <= 110
    assert all(270 <= later - time <= 662 for time, later in itertools.pairwise(glances))


def test_the_swarm_of_a_release_held_long_is_visited_briefly() -> None:
    schedule, held, wanted = SwarmSchedule(NAMESPACE, random.Random(1)), release("1.0.0"), release("2.0.0")
    schedule.announce(held, 0.0)
    mine, others = Visit(release_hash(NAMESPACE, held), held), Visit(release_hash(NAMESPACE, wanted), wanted)
    assert not schedule.is_at_rest(mine, 599.0)
    assert schedule.is_at_rest(mine, 600.0)
    assert not schedule.is_at_rest(schedule.everybody, 600.0)
    schedule.want([wanted], 0.0)
    assert not schedule.is_at_rest(others, 9000.0)


def test_a_metered_device_visits_swarms_only_while_it_wants_something() -> None:
    schedule, wanted = SwarmSchedule(NAMESPACE, random.Random(1), is_metered=True), release("2.0.0")
    schedule.announce(release("1.0.0"), 0.0)
    assert visits(schedule, 0.0, 86_400.0) == []
    assert schedule.wait(86_400.0) > 1000
    schedule.want([wanted], 86_400.0)
    found = visits(schedule, 86_400.0, 172_800.0)
    assert {visited for _, visited in found} == {namespace_hash(NAMESPACE), release_hash(NAMESPACE, wanted)}
    assert found[0][0] == 86_400.0
    assert 40 <= len(found) <= 90
    schedule.want([], 172_800.0)
    assert visits(schedule, 172_800.0, 200_000.0) == []


def test_who_begins_to_want_a_release_joins_its_swarm_at_once() -> None:
    schedule = SwarmSchedule(NAMESPACE, random.Random(1))
    schedule.announce(release("1.0.0"), 0.0)
    visits(schedule, 0.0, 100.0)
    schedule.want([release("2.0.0")], 100.0)
    found = visits(schedule, 100.0, 500.0)
    wanted = [time for time, visited in found if visited == release_hash(NAMESPACE, release("2.0.0"))]
    assert wanted[0] == 100.0
    assert 6 <= len(wanted) <= 9
    assert next(time for time, visited in found if visited == namespace_hash(NAMESPACE)) < 165


def test_wanting_in_vain_becomes_rare_and_having_ends_it() -> None:
    schedule = SwarmSchedule(NAMESPACE, random.Random(1))
    schedule.want([release("2.0.0")], 0.0)
    assert len(visits(schedule, 3600.0, 7200.0)) < 30
    schedule.announce(release("2.0.0"), 7200.0)
    assert len({visited for _, visited in visits(schedule, 7200.0, 7300.0)}) <= 2


def test_a_visit_that_reached_nobody_is_repeated_ever_later() -> None:
    schedule = SwarmSchedule(NAMESPACE, random.Random(1))
    times = [time for time, _ in visits(schedule, 0.0, 1200.0, reached=0)]
    assert times[1] < 3
    assert len(times) < 15


def test_a_changed_address_is_announced_at_once() -> None:
    schedule = SwarmSchedule(NAMESPACE, random.Random(1))
    schedule.announce(release("1.0.0"), 0.0)
    visits(schedule, 0.0, 10.0)
    assert schedule.due(20.0) == []
    schedule.restart(20.0)
    assert len(schedule.due(20.0)) == 2


def test_a_flood_of_releases_makes_no_flood_of_announcements() -> None:
    schedule = SwarmSchedule(NAMESPACE, random.Random(1))
    schedule.want([release(f"2.0.{number}") for number in range(500)], 0.0)
    assert len(schedule.due(0.0)) <= 5
