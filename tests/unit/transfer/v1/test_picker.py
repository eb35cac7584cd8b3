"""Which ranges are asked of whom: rare ones first, everything once, the last ones twice, and one copy into a LAN."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path

import pytest

from pypatcher.transfer.v1.messages import NO_PARTS, PARTS, Flags, RangesRequest
from pypatcher.transfer.v1.picker import NEAR_PATIENCE, Asked, Picker
from pypatcher.transfer.v1.plan import Plan
from tests.unit.transfer.v1.test_plan import OLD, plan_for

SIZE = 2_000_000
US = bytes(32)


class Download:
    """A plan, a picker, and what came."""

    def __init__(self, folder: Path, size: int = SIZE, new: bytes | None = None) -> None:
        data = random.Random(9).randbytes(size) if new is None else new
        self.plan: Plan = plan_for(data, folder)
        self.picker = Picker(self.plan, US, random.Random(1), 0.0)

    def hear(self, peer: str, *parts: int, whole: bool = False, near: bool = False) -> None:
        told = None if whole else bitmap(*parts)
        self.picker.hear(node(peer), 0.0, is_near=near, parts=told, is_fetching=not whole)

    def gives(self, asked: Asked, now: float) -> None:
        """All that was asked comes."""
        for run in asked.runs:
            self.picker.came(asked, run, now)
        self.picker.end(asked, now, is_whole=True)

    def take_all(self, peer: str, now: float) -> list[Asked]:
        """Everything that this peer is asked for, one request after the other."""
        found = []
        while (asked := self.picker.next(node(peer), now)) is not None:
            found.append(asked)
            self.gives(asked, now)
        return found

    def touched(self, asked: Asked) -> set[int]:
        return {part for number in asked.chunks() for part in self.plan.parts(number)}


def node(name: str) -> bytes:
    """Its id."""
    return hashlib.sha256(name.encode()).digest()


def bitmap(*parts: int) -> bytes:
    told = bytearray(NO_PARTS)
    for part in parts:
        told[part // 8] |= 0x80 >> part % 8
    return bytes(told)


@pytest.fixture
def download(tmp_path: Path) -> Download:
    return Download(tmp_path)


def test_all_of_it_is_asked_for_once_of_several(download: Download) -> None:
    for peer in "abc":
        download.hear(peer, whole=True)
    under_way: list[Asked] = []
    asked: Counter[int] = Counter()
    while download.plan.missing:
        for peer in "abc":
            if (one := download.picker.next(node(peer), 0.0)) is not None:
                under_way.append(one)
                asked.update(one.chunks())
        download.gives(under_way.pop(0), 0.0)
    assert set(asked.values()) == {1}
    assert len(asked) == len(download.plan)


def test_the_parts_that_few_have_come_first(download: Download) -> None:
    download.hear("seed", whole=True)
    for peer in "abc":
        download.hear(peer, *range(3, PARTS))
    asked = download.picker.next(node("seed"), 0.0)
    assert asked is not None
    assert {0, 1, 2} <= download.touched(asked)


def test_of_a_seed_what_others_took_comes_last(tmp_path: Path) -> None:
    """Whoever they are: most of those who take from one seed are not connected with each other."""
    download = Download(tmp_path, 12_000_000)
    given = bitmap(*range(200))
    download.picker.hear(node("seed"), 0.0, is_near=False, parts=None, is_fetching=False, given=given)
    download.hear("another")
    first: set[int] = set()
    for _ in range(20):
        asked = download.picker.next(node("seed"), 0.0)
        assert asked is not None
        first |= download.touched(asked)
    assert min(first) >= 198
    download.take_all("seed", 0.0)
    under_way = sum(asked.size for asked in download.picker._under_way)
    assert download.plan.missing == under_way, "it is asked for all the same, if nobody else has it"


def test_no_part_is_cut_for_its_last_bytes(tmp_path: Path) -> None:
    """What is not whole can be told to nobody."""
    for seed in range(8):
        download = Download(tmp_path, 12_000_000)
        download.picker = Picker(download.plan, US, random.Random(seed), 0.0)
        download.hear("seed", whole=True)
        download.hear("another")
        asked = download.picker.next(node("seed"), 0.0)
        assert asked is not None
        download.gives(asked, 0.0)
        assert sum(map(download.plan.has_part, download.touched(asked))) >= 2


def test_what_half_is_here_of_comes_first(tmp_path: Path) -> None:
    download = Download(tmp_path, 12_000_000)
    download.hear("seed", whole=True)
    download.hear("another")
    chunks = [number for number, _, _ in download.plan.chunks_in(77)]
    for number in chunks[:-2]:
        download.picker.is_here(number)
    asked = download.picker.next(node("seed"), 0.0)
    assert asked is not None
    assert set(chunks[-2:]) <= set(asked.chunks())


def test_equals_are_taken_by_chance(tmp_path: Path) -> None:
    firsts = set()
    for seed in range(8):
        download = Download(tmp_path)
        download.picker = Picker(download.plan, US, random.Random(seed), 0.0)
        download.hear("seed", whole=True)
        asked = download.picker.next(node("seed"), 0.0)
        assert asked is not None
        firsts.add(asked.runs[0].offset)
    assert len(firsts) > 4


def test_nobody_is_asked_for_what_it_does_not_have(download: Download) -> None:
    download.hear("partial", 5, 6, 200)
    asked = download.take_all("partial", 0.0)
    touched = set().union(*map(download.touched, asked))
    assert {5, 6, 200} <= touched <= {4, 5, 6, 7, 199, 200, 201}
    assert download.picker.next(node("a stranger"), 0.0) is None
    download.hear("partial", 5, 6, 200, 77)
    assert {77} <= set().union(*map(download.touched, download.take_all("partial", 0.0)))


def test_what_was_asked_of_who_left_is_asked_of_others(download: Download) -> None:
    for peer in "ab":
        download.hear(peer, whole=True)
    lost = download.picker.next(node("a"), 0.0)
    assert lost is not None
    download.picker.came(lost, lost.runs[0], 0.0)
    download.picker.leave(node("a"))
    download.take_all("b", 0.0)
    assert download.plan.missing == 0
    download.picker.end(lost, 1.0, is_whole=False)
    assert download.picker.next(node("b"), 1.0) is None


def test_the_last_ranges_are_asked_twice_and_seldom_more(download: Download) -> None:
    for peer in ("slow", "quick", "other"):
        download.hear(peer, whole=True)
    slow = download.picker.next(node("slow"), 0.0)
    assert slow is not None
    download.take_all("quick", 0.5)
    assert download.plan.missing == slow.size
    assert download.picker.next(node("quick"), 1.0) is None, "it may be on its way"
    again = download.picker.next(node("quick"), 3.0)
    assert again is not None
    assert list(again.chunks()) == list(slow.chunks())
    assert download.picker.next(node("other"), 7.0) is None
    assert download.picker.next(node("quick"), 99.0) is None, "it was asked"
    for run in again.runs:
        download.picker.came(again, run, 4.0)
    assert download.picker.needless() == [slow, again]
    assert download.plan.missing == 0


def test_two_that_drip_keep_the_last_ranges_from_nobody(download: Download) -> None:
    for peer in ("one", "another", "honest"):
        download.hear(peer, whole=True)
    held = download.picker.next(node("one"), 0.0)
    assert held is not None
    download.take_all("honest", 0.5)
    again = download.picker.next(node("another"), 2.0)
    assert again is not None
    assert again.size == held.size
    download.take_all("honest", 8.0)
    assert download.plan.missing == 0


def test_while_there_is_anything_else_nothing_is_asked_twice(download: Download) -> None:
    download.hear("slow", whole=True)
    download.hear("partial", 3)
    slow = download.picker.next(node("slow"), 0.0)
    assert slow is not None
    download.take_all("partial", 50.0)
    assert download.picker.next(node("partial"), 100.0) is None


def test_requests_grow_with_the_peer_and_shrink_again(tmp_path: Path) -> None:
    download = Download(tmp_path, 12_000_000)
    download.hear("a", whole=True)
    sizes = []
    for seconds in (0.1, 0.1, 0.1, 9.0, 9.0):
        asked = download.picker.next(node("a"), 0.0)
        assert asked is not None
        sizes.append(round(asked.size * 128 / 12_000_000))
        for run in asked.runs:
            download.picker.came(asked, run, 0.0)
        download.picker.end(asked, seconds, is_whole=True)
    assert sizes == [1, 2, 4, 8, 4]


def test_requests_are_such_as_peers_answer(tmp_path: Path) -> None:
    rng = random.Random(3)
    pieces = [OLD[at : at + 20_000] + rng.randbytes(20_000) for at in range(0, 480_000, 20_000)]
    for new in (b"".join(pieces * 20), rng.randbytes(9_000_000)):
        download = Download(tmp_path, new=new)
        download.hear("a", whole=True)
        for each in download.take_all("a", 0.0):
            asked = RangesRequest(bytes(32), Flags.ZLIB, tuple((run.offset, run.size) for run in each.runs))
            assert RangesRequest.decode(asked.encode()) == asked
            assert each.size <= (4 << 20) + 16384
            assert all(run.size <= 1 << 18 for run in each.runs)
        assert download.plan.missing == 0


def test_what_turns_out_to_be_missing_is_asked_for(tmp_path: Path) -> None:
    download = Download(tmp_path, new=OLD)
    download.hear("a", whole=True)
    assert download.picker.next(node("a"), 0.0) is None
    download.picker.lacks(0, 9)
    (asked,) = download.take_all("a", 0.0)
    assert list(asked.chunks()) == list(range(9))


def test_in_a_lan_each_part_comes_in_once(tmp_path: Path) -> None:
    """All devices with the same peers agree on who brings what in, without a word."""
    names = [f"device {number}" for number in range(5)]
    brought: Counter[int] = Counter()
    for name in names:
        plan = plan_for(random.Random(9).randbytes(12_000_000), tmp_path)
        picker = Picker(plan, node(name), random.Random(1), 0.0)
        picker.hear(node("seed"), 0.0, is_near=False, parts=None, is_fetching=False)
        for other in names:
            if other != name:
                picker.hear(node(other), 0.0, is_near=True, parts=NO_PARTS, is_fetching=True)
        chunks: set[int] = set()
        while (asked := picker.next(node("seed"), 1.0)) is not None:
            chunks.update(asked.chunks())
        brought.update(chunks)
    assert len(brought) == len(plan)
    # What lies in two parts may come twice.
    assert brought.total() < len(plan) * 1.2
    assert max(brought.values()) <= 3


def test_what_a_neighbour_has_is_not_brought_in(download: Download) -> None:
    download.hear("seed", whole=True)
    download.hear("near", *range(PARTS // 2), near=True)
    outside = set().union(*map(download.touched, download.take_all("seed", 0.0)))
    assert min(outside) >= PARTS // 2 - 1
    download.hear("holder", whole=True, near=True)
    assert download.picker.next(node("seed"), 0.0) is None
    download.take_all("holder", 0.0)
    assert download.plan.missing == 0


@pytest.mark.parametrize("says", ["it has everything", "it fetches the same"])
def test_a_neighbour_that_gives_nothing_delays_by_half_a_minute(download: Download, says: str) -> None:
    download.hear("seed", whole=True)
    download.hear("near", whole=says == "it has everything", near=True)
    download.take_all("seed", 1.0)
    left = download.plan.missing
    assert left
    assert download.picker.next(node("seed"), NEAR_PATIENCE - 1) is None
    download.take_all("seed", NEAR_PATIENCE + 2)
    assert download.plan.missing == 0


def test_a_neighbour_that_drips_is_no_progress(tmp_path: Path) -> None:
    download = Download(tmp_path, 9_000_000)
    download.hear("seed", whole=True)
    download.hear("near", whole=True, near=True)
    now = 0.0
    while now < NEAR_PATIENCE:
        asked = download.picker.next(node("near"), now)
        assert asked is not None
        download.picker.came(asked, asked.runs[0]._replace(last=asked.runs[0].first + 1), now)
        download.picker.end(asked, now, is_whole=False)
        now += 2.0
    assert download.picker.next(node("seed"), now) is not None


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("name", ["its own", "ever new ones"])
def test_neighbours_that_come_and_go_delay_by_two_minutes(download: Download, count: int, name: str) -> None:
    """Who says that he fetches the same gives nothing, and comes back before his half minute is over."""
    download.hear("seed", whole=True)
    near: list[bytes] = []
    for now in range(121):
        if now % 25 == 0:
            for each in near:
                download.picker.leave(each)
            near = [node(f"{number} {now * (name == 'ever new ones')}") for number in range(count)]
            for each in near:
                download.picker.hear(each, now, is_near=True, parts=NO_PARTS, is_fetching=True)
        download.take_all("seed", now)
    assert download.plan.missing == 0


def test_a_slow_lan_is_waited_for_a_bounded_time(download: Download) -> None:
    """It gives just enough to count, for as long as it likes."""
    download.hear("seed", whole=True)
    download.hear("near", whole=True, near=True)
    download.picker.next(node("near"), 0.0)
    for now in range(0, 301, 20):
        assert (download.picker.next(node("seed"), now) is None) is (now < 300)
        download.picker._progress.note(SIZE, SIZE, now)
