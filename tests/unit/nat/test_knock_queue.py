"""Whom a node knocks at, and when: a fleet harms nobody, and two honest strangers knock in the same seconds."""

from __future__ import annotations

import heapq
import random
from typing import Any

import pytest

from pypatcher.addresses import Address, is_lan
from pypatcher.discovery.sources import AddressLimits
from pypatcher.discovery.sources.lan import NEIGHBOURS
from pypatcher.discovery.sources.slots import RECORDS
from pypatcher.discovery.sources.swarm import EVERYBODY, HOLDERS
from pypatcher.nat.knock_queue import KNOCK_SPACING, KnockQueue

WALL = 1_800_000_000.0


def far(number: int, port: int = 6881) -> Address:
    """A stranger in a /24 of its own."""
    return f"{20 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.9", port


def make(seed: int = 1, own: Address | None = None, crowd: int = 2) -> KnockQueue:
    queue = KnockQueue(random.Random(seed), on_link=is_lan)
    queue.seen_at((own or far(900_000 + seed),), 0.0, WALL)
    queue.crowd(crowd, 0.0, WALL)
    return queue


def knocks(queue: KnockQueue, start: float, end: float) -> list[tuple[float, Address]]:
    """Every knock from ``start`` to ``end``, at nobody who answers."""
    found, now = [], start
    while now < end:
        address = queue.due(now, WALL + now)
        if address is not None:
            found.append((now, address))
        now += max(queue.wait(now), KNOCK_SPACING / 2)
    return found


def meeting(seed: int, crowds: tuple[int, int], late: float, *, sought: bool = False) -> float | None:
    """How long two strangers behind routers, which wait 25 s for answers, take after the later one heard of the other.

    The earlier one may seek the other.
    """
    one, other = make(1, far(2 * seed), crowds[0]), make(2, far(2 * seed + 1), crowds[1])
    one.add([far(2 * seed + 1)], RECORDS, 0.0, WALL)
    if sought:
        one.note_holders(frozenset([far(2 * seed + 1)]), 0.0, WALL)
    other.add([far(2 * seed)], RECORDS, late, WALL + late)
    sides = [[time for time, _ in knocks(one, 0.0, 3600.0)], [time for time, _ in knocks(other, late, 3600.0)]]
    for now in sorted(time for side in sides for time in side):
        if all(any(0 <= now - time < 25 for time in side) for side in sides):
            return now - late
    return None


def most_in_a_minute(times: list[float]) -> int:
    times = sorted(times)
    return max((sum(start <= time < start + 60 for time in times) for start in times), default=0)


@pytest.mark.parametrize("kind", [RECORDS, HOLDERS, EVERYBODY])
@pytest.mark.parametrize("round_", range(5))
def test_20_devices_send_100_forged_addresses_10_packets_a_minute(kind: AddressLimits, round_: int) -> None:
    times: list[float] = []
    for node in range(20):
        queue = make(100 * round_ + node)
        queue.crowd(120, 0.0, WALL)
        queue.add([("93.184.7.7", port) for port in range(1, 101)], kind, 0.0, WALL)
        times += [time for time, _ in knocks(queue, 0.0, 6 * 3600.0)]
    assert most_in_a_minute(times) <= 10
    assert len(times) < 20 * 8


def test_a_small_crowd_told_of_one_forged_address_is_no_weapon() -> None:
    times: list[float] = []
    for node in range(20):
        queue = make(node)
        queue.crowd(21, 0.0, WALL)
        queue.add([("93.184.7.7", 53)], RECORDS, 0.0, WALL)
        times += [time for time, _ in knocks(queue, 0.0, 3600.0)]
    assert most_in_a_minute(times) <= 10


def test_ten_thousand_forged_addresses_cost_few_packets_and_memory() -> None:
    queue = make()
    queue.crowd(10_000, 0.0, WALL)
    for start in range(0, 10_000, 500):
        for source in (HOLDERS, EVERYBODY):
            queue.add([far(number) for number in range(start, start + 500)], source, 0.0, WALL)
    found = knocks(queue, 0.0, 1800.0)
    assert len(queue) <= HOLDERS.room + EVERYBODY.room
    assert most_in_a_minute([time for time, _ in found]) <= HOLDERS.knocks + EVERYBODY.knocks
    assert len(found) < 3 * len({address for _, address in found})


def test_a_forged_swarm_keeps_no_node_from_one_that_a_record_names() -> None:
    waits = []
    for node in range(8):
        queue = make(node)
        queue.crowd(10_000, 0.0, WALL)
        queue.add([far(number) for number in range(10_000)], HOLDERS, 0.0, WALL)
        queue.add([far(70_000)], RECORDS, 0.0, WALL)
        waits += [time for time, address in knocks(queue, 0.0, 7200.0) if address == far(70_000)][:1]
    # The first of the devices reaches the holder soon, and then holds the release itself.
    assert len(waits) >= 6
    assert min(waits) < 600


def test_a_network_of_24_bits_gets_three_knocks_in_five_minutes() -> None:
    queue = make()
    queue.add([(f"93.184.7.{host}", 6881) for host in range(1, 255)], RECORDS, 0.0, WALL)
    times = [time for time, _ in knocks(queue, 0.0, 3600.0)]
    assert all(later - time > 299 for time, later in zip(times, times[3:], strict=False))


def test_two_strangers_knock_together_whatever_crowd_each_sees() -> None:
    one, other = make(1, far(1)), make(2, far(2))
    one.crowd(2, 0.0, WALL)
    other.crowd(9, 0.0, WALL)
    one.add([far(2)], HOLDERS, 0.0, WALL)
    other.add([far(1)], HOLDERS, 3.0, WALL + 3.0)
    often = {round(WALL + time) for time, _ in knocks(one, 0.0, 4 * 3600.0)}
    seldom = [round(WALL + time) for time, _ in knocks(other, 3.0, 4 * 3600.0)]
    assert often and seldom
    first = make(1, far(1))
    first.add([far(2)], HOLDERS, 0.0, WALL)
    second = make(2, far(2))
    second.add([far(1)], HOLDERS, 0.0, WALL)
    [(at, _), *_], [(there, _), *_] = knocks(first, 0.0, 3600.0), knocks(second, 0.0, 3600.0)
    assert abs(at - there) < 1.0


@pytest.mark.parametrize("late", [0.0, 5.0, 15.0, 30.0])
def test_two_strangers_meet_though_one_heard_of_the_other_earlier(late: float) -> None:
    waits = [meeting(seed, (2, 2), late) for seed in range(100)]
    met = [wait for wait in waits if wait is not None]
    assert len(met) == 100
    assert sum(met) / 100 < 30
    assert max(met) < 150


def test_two_strangers_meet_though_they_see_crowds_of_different_sizes() -> None:
    waits = [meeting(seed, (2, 9), 3.0) for seed in range(40)]
    assert all(wait is not None and wait < 1300 for wait in waits), waits


def test_a_seeker_meets_a_holder_that_hears_of_it_only_minutes_later() -> None:
    waits = [meeting(seed, (2, 2), 300.0, sought=True) for seed in range(100)]
    met = [wait for wait in waits if wait is not None]
    assert len(met) == 100
    assert sum(met) / 100 < 150
    assert max(met) < 650


@pytest.mark.parametrize("round_", range(3))
def test_a_fleet_that_seeks_a_victim_all_day_is_no_weapon_either(round_: int) -> None:
    times: list[float] = []
    for node in range(20):
        queue = make(100 * round_ + node, crowd=20)
        ports = [("93.184.7.7", port) for port in range(1, 101)]
        queue.add(ports, RECORDS, 0.0, WALL)
        queue.note_holders(frozenset(ports), 0.0, WALL)
        times += [time for time, _ in knocks(queue, 0.0, 2400.0)]
    assert most_in_a_minute(times) <= 10


def test_nobody_is_told_apart_by_being_late_for_ever() -> None:
    waits = [meeting(seed, (2, 2), 900.0) for seed in range(40)]
    assert sum(wait is None for wait in waits) < 20, waits


@pytest.mark.parametrize("round_", range(4))
@pytest.mark.parametrize("gap", [0.1, 3.0, 10.0])
def test_a_fleet_that_has_just_been_switched_on_is_no_weapon_either(gap: float, round_: int) -> None:
    rng, times = random.Random(round_), []
    for node in range(20):
        start = node * gap
        queue = KnockQueue(random.Random(100 * round_ + node), on_link=is_lan)
        queue.seen_at((far(900_000 + 100 * round_ + node),), start, WALL + start)
        queue.add([("93.184.7.7", port) for port in range(1, 101)], RECORDS, start, WALL + start)
        now, visit = start, start + 5.0
        while now < 900.0:
            if now >= visit:
                queue.crowd(min(20, int(visit / gap) + 1), now, WALL + now)
                visit += 55 * rng.uniform(0.9, 1.1)
            if queue.due(now, WALL + now) is not None:
                times.append(now)
            now += min(max(queue.wait(now), KNOCK_SPACING / 2), max(visit - now, 0.01))
    assert most_in_a_minute(times) <= 10


def test_a_stranger_waits_until_the_size_of_the_crowd_is_known() -> None:
    waits = []
    for node in range(40):
        queue = KnockQueue(random.Random(node), on_link=is_lan)
        queue.seen_at((far(900_000 + node),), 0.0, WALL)
        queue.add([far(1)], RECORDS, 0.0, WALL)
        waits.append(queue.wait(0.0))
        queue.crowd(2, 0.0, WALL)
        assert queue.wait(0.0) <= 40
    assert sum(waits) / len(waits) > 300


def test_neighbours_count_as_part_of_the_crowd() -> None:
    queue, near = make(crowd=1), [(f"192.168.1.{number}", 6881) for number in range(20)]
    queue.add(near, NEIGHBOURS, 0.0, WALL)
    for address in near:
        queue.answered(address, 0.0)
    queue.crowd(1, 0.0, WALL)
    queue.add([far(1)], RECORDS, 0.0, WALL)
    found = [time for time, address in knocks(queue, 0.0, 600.0) if address == far(1)]
    assert len(found) <= 2


def test_neighbours_that_answer_nothing_make_no_crowd() -> None:
    """The attack: forged announcements in the LAN made knocks at all strangers as rare as in a crowd."""
    queue = make(crowd=1)
    queue.add([(f"192.168.1.{number}", 6881) for number in range(20)], NEIGHBOURS, 0.0, WALL)
    queue.crowd(1, 0.0, WALL)
    queue.add([far(1)], RECORDS, 0.0, WALL)
    assert len([time for time, address in knocks(queue, 0.0, 600.0) if address == far(1)]) > 4


@pytest.mark.parametrize("ports", [1, 60_000])
def test_forged_neighbours_keep_no_true_one_from_its_knock(ports: int) -> None:
    """The attack: all other hosts of the /24 announce, 30 a second together. Before, the true one was never reached."""
    rng, queue, honest = random.Random(1), make(), ("192.168.1.50", 6881)
    forged = [host for host in range(1, 255) if host != 50]
    for tick in range(300 * 30):
        now = tick / 30
        queue.add([(f"192.168.1.{rng.choice(forged)}", 1024 + rng.randrange(ports))], NEIGHBOURS, now, WALL + now)
        if tick == 30 * 60:
            queue.add([honest], NEIGHBOURS, now, WALL + now)
        if queue.due(now, WALL + now) == honest:
            break
    assert 60.0 <= now < 240.0


def test_who_was_met_and_was_busy_is_met_again_soon_then_ever_later() -> None:
    queue = make()
    queue.add([far(1)], RECORDS, 0.0, WALL)
    met, now = [], 0.0
    while now < 3000.0:
        if queue.due(now, WALL + now) is not None:
            met.append(now)
            queue.reached(far(1), now)
            queue.busy(far(1), now, WALL + now)
        queue.add([far(1)], RECORDS, now, WALL + now)
        now += max(min(queue.wait(now), 60.0), 0.2)
    assert met[1] - met[0] < 12
    assert met[2] - met[1] > 18
    assert len(met) < 12


def test_two_who_met_before_knock_at_once_then_in_the_same_seconds() -> None:
    sides = []
    for own, other, start in ((far(1), far(2), 0.0), (far(2), far(1), 47.0)):
        queue = make(3, own, crowd=40)
        queue.prove([other], start)
        queue.add([other], RECORDS, start, WALL + start)
        sides.append([time for time, _ in knocks(queue, start, 300.0)])
    assert (sides[0][0], sides[1][0]) == (0.0, 47.0)
    assert any(abs(one - two) < 1 for one in sides[0] for two in sides[1] if two < 47 + 90)


def test_a_clock_that_is_set_moves_the_moments() -> None:
    queue = make(own=far(2))
    queue.add([far(1)], RECORDS, 0.0, WALL)
    other = make(own=far(1))
    other.add([far(2)], RECORDS, 0.0, WALL + 777_777.0)
    queue.replan(0.0, WALL + 777_777.0)
    assert queue.wait(0.0) == pytest.approx(other.wait(0.0))


def test_who_is_near_is_knocked_at_in_a_moment_and_again_ever_later() -> None:
    queue = make()
    queue.add([("192.168.1.7", 6881)], RECORDS, 0.0, WALL)
    times = [time for time, _ in knocks(queue, 0.0, 3600.0)]
    assert times[0] == 0.0
    assert len(times) < 20


def test_who_was_reached_before_waits_for_no_window() -> None:
    queue = make()
    queue.prove([far(1)], 0.0)
    queue.add([far(1)], RECORDS, 0.0, WALL)
    assert queue.due(0.0, WALL) == far(1)


def test_whoever_answers_is_open_for_a_while_and_then_rests() -> None:
    queue = make()
    queue.add([far(1)], RECORDS, 0.0, WALL)
    [(at, _), *_] = knocks(queue, 0.0, 600.0)[:1]
    queue.reached(far(1), at)
    assert queue.is_open(far(1), at + 44)
    assert not queue.is_open(far(1), at + 46)
    queue.useless(far(1), at)
    assert knocks(queue, at, at + 600) == []
    queue.end_rest([far(1)], at + 600, WALL)
    assert queue.due(at + 600, WALL) == far(1)


def test_a_host_that_answers_knocks_but_no_dial_is_left_ever_longer() -> None:
    queue = make()
    queue.add([far(1)], RECORDS, 0.0, WALL)
    dials, now = [], 0.0
    while now < 24 * 3600.0:
        if queue.due(now, WALL + now) is not None:
            dials.append(now)
            queue.answered(far(1), now)
            queue.failed(far(1), now + 5, WALL + now + 5)
            queue.add([far(1)], RECORDS, now, WALL + now)
        queue.add([far(1)], RECORDS, now, WALL + now)
        now += max(queue.wait(now), 1.0) if queue.wait(now) < 600 else 600.0
    assert 3 < len(dials) < 25


def test_in_a_large_useless_crowd_the_next_is_tried_ever_later() -> None:
    queue = make()
    queue.crowd(64, 0.0, WALL)
    queue.add([far(number) for number in range(200)], EVERYBODY, 0.0, WALL)
    met, now = [], 0.0
    while now < 6 * 3600.0:
        address = queue.due(now, WALL + now)
        if address is not None:
            met.append(now)
            queue.reached(address, now)
            queue.useless(address, now)
        queue.add([far(number) for number in range(200)], EVERYBODY, now, WALL + now)
        now += max(min(queue.wait(now), 60.0), 0.2)
    assert len(met) < 40
    queue.knock_anew(now, WALL + now)
    again = 0
    for _ in range(400):
        now += 0.3
        again += queue.due(now, WALL + now) is not None
    assert again > 2


def test_a_silent_victim_is_remembered_though_named_again() -> None:
    queue = make()
    times = []
    now = 0.0
    while now < 1500.0:
        queue.add([("93.184.7.7", 1000 + int(now))], HOLDERS, now, WALL + now)
        queue.add([far(int(now) * 7 + each) for each in range(7)], HOLDERS, now, WALL + now)
        address = queue.due(now, WALL + now)
        if address is not None and address[0] == "93.184.7.7":
            times.append(now)
        now += 1.0
    assert len(times) <= 3


def test_a_holder_that_answers_as_a_dht_node_is_tried_at_knock_two() -> None:
    queue, holder = make(), far(1)
    queue.add([holder], RECORDS, 0.0, WALL)
    queue.note_holders(frozenset([holder]), 0.0, WALL)
    first = knocks(queue, 0.0, 60.0)[:1]
    assert first
    tried = []
    for _ in range(3):
        tried.append(queue.may_try(holder))
        knocks(queue, 60.0, 600.0)
    assert tried[-1]


@pytest.mark.parametrize("crowd", [20, 64])
def test_a_fleet_tries_a_victim_that_answers_less_than_once_a_minute(crowd: int) -> None:
    victim, tries = far(7), []
    for seed in range(crowd):
        queue = make(seed, far(1000 + seed), crowd)
        queue.add([victim], RECORDS, 0.0, WALL)
        queue.note_holders(frozenset([victim]), 0.0, WALL)
        now = 0.0
        while now < 1800.0:
            if queue.due(now, WALL + now) and queue.may_try(victim):
                tries.append(now)
                queue.answered(victim, now)
                queue.failed(victim, now + 10.0, WALL + now + 10.0)
            now += max(queue.wait(now), KNOCK_SPACING / 2)
    assert 3 <= len(tries) <= 30


def test_who_holds_nothing_that_is_wanted_is_never_tried() -> None:
    queue = make()
    queue.add([far(1)], RECORDS, 0.0, WALL)
    knocks(queue, 0.0, 3600.0)
    assert not queue.may_try(far(1))


@pytest.mark.parametrize("named", ["2a01:db9:1:2::{:x}", "2a01:db9:1:{:x}::1"], ids=["one /64", "one /48"])
def test_many_addresses_of_an_ipv6_network_are_knocked_at_like_few(named: str) -> None:
    queue = make()
    queue.add([(named.format(number), 6881) for number in range(1, 200)], RECORDS, 0.0, WALL)
    times = [time for time, _ in knocks(queue, 0.0, 3000.0)]
    assert max(sum(start <= time < start + 300 for time in times) for start in times) <= 3


def test_private_addresses_that_are_on_no_link_wait_as_strangers_do() -> None:
    queue = KnockQueue(random.Random(1), on_link=lambda _: False)
    queue.seen_at((far(900_001),), 0.0, WALL)
    queue.crowd(64, 0.0, WALL)
    queue.add([(f"10.1.{number}.1", 6881) for number in range(40)], RECORDS, 0.0, WALL)
    assert len(knocks(queue, 0.0, 600.0)) < 25


def test_planning_all_anew_for_the_same_moments_sorts_them_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    sort = heapq.heapify

    def noted(heap: list[Any]) -> None:
        sizes.append(len(heap))
        sort(heap)

    monkeypatch.setattr(heapq, "heapify", noted)
    queue = make(crowd=500)
    queue.add([far(number) for number in range(EVERYBODY.room)], EVERYBODY, 0.0, WALL)
    for _ in range(20):
        queue.replan(0.0, WALL)
    assert 0 < len(sizes) <= 20


def test_who_dials_from_many_ports_makes_no_other_one_a_stranger() -> None:
    """The attack: 5000 ports of one host within an hour, each of which proves to be there."""
    queue = make()
    others = [far(number) for number in range(30)]
    queue.add(others, EVERYBODY, 0.0, WALL)
    for number, address in enumerate(others):
        queue.reached(address, float(number))
    for port in range(5000):
        queue.reached(far(7000, 1024 + port), 100.0)
    assert all(queue._known.is_proven(address, 200.0) for address in others)
