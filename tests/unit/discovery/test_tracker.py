"""Publishing to slots and looking into them, over a DHT in memory: who is heard, what wins, when to keep silent."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.dht import Contact, MutableItem, MutableLookup
from pypatcher.dht.results import StoringNode
from pypatcher.discovery import HeardRecord, Namespace, Record, Slot, Tracker, encode_content, encrypt_record
from pypatcher.discovery.namespace import OURS as OUR_RULES
from pypatcher.discovery.namespace import RUSTPATCHER as RUST_RULES
from pypatcher.discovery.tracker import is_full, next_seq
from pypatcher.errors import PeerError, VersionError
from pypatcher.keys import KeyPair
from pypatcher.mutable_item import MAX_SEQ, mutable_target
from pypatcher.version import Version
from tests.support.discovery import MINUTE, OURS, RUST, MemoryDht, MinuteClock, SilentDht, node, release

HERE: Address = ("192.0.2.7", 6881)
STRANGER = KeyPair.from_seed(b"stranger" * 4)


class ShelfDht:
    """Shows whatever a test puts on a slot's shelf, and keeps what is written."""

    def __init__(self) -> None:
        self.shelves: dict[bytes, list[MutableItem]] = {}
        self.written: list[MutableItem] = []

    def put(self, slot: Slot, value: bytes, seq: int = 0) -> None:
        item = MutableItem.sign(slot.key_pair, slot.salt, seq, value)
        self.shelves.setdefault(item.target, []).append(item)

    def announce(self, slot: Slot, identity: KeyPair, info: PatchInfo, hints: Iterable[Address] = ()) -> None:
        self.put(slot, encrypt_record(slot, Record.make(slot, identity, encode_content(info, hints))))

    async def get_mutable(self, public_key: bytes, salt: bytes) -> MutableLookup:
        target = mutable_target(public_key, salt)
        items = sorted(self.shelves.get(target, []), key=lambda item: -item.seq)
        return MutableLookup(target, tuple(items), (), 0.0)

    async def put_mutable(self, item: MutableItem, at: MutableLookup | None = None) -> int:
        self.written.append(item)
        return 20


class StorerDht:
    """Storing nodes, each of which keeps the first of equal seqs; a lookup shows what each has."""

    def __init__(self, count: int) -> None:
        self.nodes: list[MutableItem | None] = [None] * count
        self.asked = 0

    async def get_mutable(self, public_key: bytes, salt: bytes) -> MutableLookup:
        items = dict.fromkeys(item for item in self.nodes if item is not None)
        nodes = (
            StoringNode(Contact(bytes([number]) * 20, (f"{number + 1}.0.0.1", 1)), b"token", item)
            for number, item in enumerate(self.nodes)
        )
        return MutableLookup(mutable_target(public_key, salt), tuple(items), tuple(nodes), 0.0)

    async def put_mutable(self, item: MutableItem, at: MutableLookup | None = None) -> int:
        assert at is not None
        stored = 0
        for each in at.nodes:
            number, self.asked = each.contact.id[0], self.asked + 1
            kept = self.nodes[number]
            if kept is None or kept.seq < item.seq:
                self.nodes[number] = item
                stored += 1
        return stored


def tracker(dht: object, number: int = 0, namespace: Namespace = OURS, clock: MinuteClock | None = None) -> Tracker:
    return Tracker(dht, namespace, node(number), now=clock or MinuteClock(), rng=random.Random(2))  # type: ignore[arg-type]


@pytest.mark.parametrize("namespace", [OURS, RUST], ids=["ours", "rustpatcher"])
async def test_what_one_node_publishes_another_hears(namespace: Namespace) -> None:
    dht, info = MemoryDht(), release("1.2.3")
    published = await tracker(dht, 1, namespace).publish(info, [HERE])
    assert (published.minute, published.stored, published.full, published.newer) == (MINUTE, 2, False, False)
    heard = HeardRecord(info, node(1).public, (HERE,), MINUTE, speaks_v1=namespace is OURS)
    assert await tracker(dht, 2, namespace).look() == [heard]


async def test_the_previous_minute_is_heard_and_the_one_before_is_not() -> None:
    dht, clock, info = MemoryDht(), MinuteClock(), release("1.2.3")
    await tracker(dht, 1, clock=clock).publish(info, [])
    clock.minute += 1
    assert [heard.minute for heard in await tracker(dht, 2, clock=clock).look()] == [MINUTE]
    clock.minute += 1
    assert await tracker(dht, 2, clock=clock).look() == []


async def test_a_clock_at_1970_is_no_reason_to_fail() -> None:
    dht, clock = MemoryDht(), MinuteClock(0)
    assert (await tracker(dht, 1, clock=clock).publish(release("1.2.3"), [])).stored == 2
    assert len(await tracker(dht, 2, clock=clock).look()) == 1


async def test_every_distinct_value_in_a_slot_is_heard() -> None:
    dht = MemoryDht()
    for number in range(1, 6):
        await tracker(dht, number).publish(release("1.2.3"), [])
    heard = await tracker(dht, 9).look()
    assert {each.node_id for each in heard} == {node(number).public for number in range(1, 6)}


async def test_own_records_are_dropped() -> None:
    dht = MemoryDht()
    own = tracker(dht, 1)
    await own.publish(release("1.2.3"), [])
    assert await own.look() == []


async def test_a_node_is_heard_once_with_its_newest_word() -> None:
    dht, slot, before = ShelfDht(), Slot(OURS, MINUTE), Slot(OURS, MINUTE - 1)
    for info in (release("1.0.0"), release("1.2.0"), release("1.1.0")):
        dht.announce(slot, node(1), info)
        dht.announce(before, node(1), info, [HERE])
    dht.announce(before, node(2), release("1.10.0"))
    heard = await tracker(dht).look()
    assert [(str(each.info.version), each.node_id, each.minute) for each in heard] == [
        ("1.10.0", node(2).public, MINUTE - 1),
        ("1.2.0", node(1).public, MINUTE),
    ]


async def test_a_forged_record_with_version_999_moves_nobody() -> None:
    dht, slot = ShelfDht(), Slot(OURS, MINUTE)
    dht.announce(slot, STRANGER, release("999.0.0", key=STRANGER))
    genuine = release("1.2.3")
    forged = PatchInfo(Version(999, 0, 0), genuine.size, genuine.hash, genuine.signature)
    dht.announce(slot, STRANGER, forged)
    dht.announce(slot, node(1), genuine)
    device = tracker(dht)
    assert [str(heard.info.version) for heard in await device.look()] == ["1.2.3"]
    assert (await device.publish(release("1.0.0"), [])).newer
    holder = tracker(dht, 2)
    published = await holder.publish(genuine, [])
    assert (published.stored, published.newer) == (20, False)


async def test_bad_values_beside_a_good_one_cost_nothing() -> None:
    dht, slot, info = ShelfDht(), Slot(OURS, MINUTE), release("1.2.3")
    elsewhere = Slot(Namespace.ours("armv7", OURS.owner), MINUTE)
    earlier = Slot(OURS, MINUTE - 1)
    for replayed in (elsewhere, earlier):
        record = Record.make(replayed, STRANGER, encode_content(info, []))
        dht.put(slot, encrypt_record(slot, record), seq=MAX_SEQ)
    mine = Record.make(slot, node(1), encode_content(info, [HERE]))
    stolen = Record(mine.topic_hash, mine.minute, STRANGER.public, mine.content, mine.signature)
    dht.put(slot, encrypt_record(slot, stolen))
    dht.put(slot, encrypt_record(slot, Record.make(slot, STRANGER, b"")))
    dht.put(slot, encrypt_record(slot, Record.make(slot, STRANGER, b"\x01" + info.to_postcard())))
    dht.put(slot, b"")
    dht.put(slot, bytes(996), seq=-5)
    dht.put(slot, encrypt_record(slot, mine))
    assert await tracker(dht).look() == [HeardRecord(info, node(1).public, (HERE,), MINUTE)]


async def test_a_negative_version_is_no_release() -> None:
    dht, slot, info = ShelfDht(), Slot(OURS, MINUTE), release("0.0.0")
    negative = b"\x01" + info.to_postcard()[1:]
    dht.put(slot, encrypt_record(slot, Record.make(slot, node(1), negative)))
    assert await tracker(dht).look() == []


async def test_a_look_opens_a_bounded_share_and_junk_does_not_come_first() -> None:
    dht, slot, info = ShelfDht(), Slot(OURS, MINUTE), release("1.2.3")
    for number in range(600):
        dht.put(slot, b"junk %d" % number, seq=MAX_SEQ)
    for number in range(1, 301):
        dht.announce(slot, node(number), info)
    heard = await tracker(dht).look()
    assert 20 < len(heard) <= 128


@pytest.mark.parametrize("error", [PeerError("nobody"), OSError("no route"), TimeoutError()], ids=repr)
async def test_a_dht_that_fails_ends_nothing(error: Exception) -> None:
    device = tracker(SilentDht(error))
    assert await device.look() == []
    published = await device.publish(release("1.2.3"), [HERE])
    assert (published.stored, published.full, published.newer) == (0, False, False)


async def test_a_write_that_fails_ends_nothing() -> None:
    class ReadOnlyDht(ShelfDht):
        async def put_mutable(self, item: MutableItem, at: MutableLookup | None = None) -> int:
            raise PeerError("no room")

    assert (await tracker(ReadOnlyDht()).publish(release("1.2.3"), [])).stored == 0


async def test_one_slot_that_fails_does_not_hide_the_other() -> None:
    class HalfDht(ShelfDht):
        async def get_mutable(self, public_key: bytes, salt: bytes) -> MutableLookup:
            if public_key == Slot(OURS, MINUTE).key_pair.public:
                raise PeerError("nobody")
            return await super().get_mutable(public_key, salt)

    dht = HalfDht()
    dht.announce(Slot(OURS, MINUTE - 1), node(1), release("1.2.3"))
    assert len(await tracker(dht).look()) == 1


class TestFullSlots:
    async def test_five_others_with_our_version_are_enough(self) -> None:
        dht, slot, info = ShelfDht(), Slot(OURS, MINUTE), release("1.2.3")
        for number in range(1, 5):
            dht.announce(slot, node(number), info)
        dht.announce(slot, node(0), info)
        assert (await tracker(dht).publish(info, [])).stored == 20
        dht.announce(slot, node(5), info)
        published = await tracker(dht).publish(info, [])
        assert (published.stored, published.full, published.newer) == (0, True, False)
        assert len(dht.written) == 1

    async def test_five_throw_away_ids_never_silence_a_holder_for_good(self) -> None:
        dht, slot, info = ShelfDht(), Slot(OURS, MINUTE), release("1.2.3")
        for number in range(1, 6):
            dht.announce(slot, node(number), info)
        holder = tracker(dht)
        published = [await holder.publish(info, [HERE]) for _ in range(40)]
        assert 4 <= len(dht.written) <= 20
        assert all(each.full for each in published)

    async def test_one_node_that_says_it_five_times_counts_once(self) -> None:
        dht, slot, info = ShelfDht(), Slot(OURS, MINUTE), release("1.2.3")
        for _ in range(5):
            dht.announce(slot, node(1), info)
        assert not (await tracker(dht).publish(info, [])).full

    async def test_old_devices_do_not_silence_the_holder_of_the_new_release(self) -> None:
        dht, slot = ShelfDht(), Slot(OURS, MINUTE)
        for number in range(1, 51):
            dht.announce(slot, node(number), release("1.2.3"))
        published = await tracker(dht).publish(release("1.2.4"), [])
        assert (published.stored, published.full) == (20, False)

    async def test_one_other_record_on_most_of_the_nodes_makes_a_slot_full(self) -> None:
        dht, info = StorerDht(20), release("1.2.3")
        first, second = tracker(dht, 1), tracker(dht, 2)
        assert (await first.publish(info, [HERE])).stored == 20
        published = [await second.publish(info, [HERE]) for _ in range(20)]
        assert all(each.full and each.stored == 0 for each in published)
        assert dht.asked == 20  # nobody was sent what it would refuse

    async def test_a_few_nodes_of_anothers_make_no_slot_full(self) -> None:
        dht, info = StorerDht(20), release("1.2.3")
        await tracker(dht, 1).publish(info, [HERE])
        dht.nodes[:6] = [None] * 6
        published = await tracker(dht, 2).publish(info, [HERE])
        assert (published.stored, published.full, dht.asked) == (6, False, 26)

    async def test_junk_on_all_nodes_silences_nobody(self) -> None:
        dht, slot = StorerDht(20), Slot(OURS, MINUTE)
        dht.nodes[:] = [MutableItem.sign(slot.key_pair, slot.salt, MAX_SEQ, b"junk")] * 20
        published = await tracker(dht, 2).publish(release("1.2.3"), [HERE])
        assert (published.stored, published.full, published.newer, dht.asked) == (0, False, False, 0)

    async def test_a_newer_release_takes_the_nodes_of_an_older_one(self) -> None:
        dht = StorerDht(20)
        await tracker(dht, 1).publish(release("1.2.3"), [HERE])
        assert (await tracker(dht, 2).publish(release("1.2.4"), [HERE])).stored == 20

    async def test_our_own_record_of_this_minute_still_counts(self) -> None:
        dht = StorerDht(20)
        holder = tracker(dht, 1)
        await holder.publish(release("1.2.3"), [HERE])
        published = await holder.publish(release("1.2.3"), [HERE])
        assert (published.stored, published.full, dht.asked) == (20, False, 20)

    async def test_in_rustpatcher_every_record_finds_its_place(self) -> None:
        dht, info = StorerDht(20), release("1.2.3")
        for number in (1, 2, 3):
            published = await tracker(dht, number, namespace=RUST).publish(info, [HERE])
            assert (published.stored, published.full) == (20, False)

    async def test_in_rustpatcher_a_hundred_of_any_version_are_enough(self) -> None:
        dht, slot = ShelfDht(), Slot(RUST, MINUTE)
        for number in range(1, 100):
            dht.announce(slot, node(number), release("1.2.3"))
        assert (await tracker(dht, namespace=RUST).publish(release("1.2.4"), [])).stored == 20
        dht.announce(slot, node(100), release("1.0.0"))
        assert (await tracker(dht, namespace=RUST).publish(release("1.2.4"), [])).full

    def test_who_says_better_counts_too(self) -> None:
        there = [HeardRecord(release("2.0.0"), bytes(32), (), MINUTE)] * 5
        assert is_full(OUR_RULES, Version(1, 0, 0), there)
        assert not is_full(OUR_RULES, Version(2, 0, 1), there)
        assert is_full(RUST_RULES, Version(2, 0, 1), there * 20)


class TestNewerReleases:
    async def test_seeing_one_while_publishing_keeps_us_silent(self) -> None:
        dht = ShelfDht()
        dht.announce(Slot(OURS, MINUTE), node(1), release("1.3.0"))
        published = await tracker(dht).publish(release("1.2.3"), [])
        assert (published.stored, published.newer) == (0, True)
        assert dht.written == []

    async def test_seeing_one_while_looking_keeps_us_silent_until_we_have_it(self) -> None:
        dht, clock = MemoryDht(), MinuteClock()
        device = tracker(dht, 2, clock=clock)
        await tracker(dht, 1, clock=clock).publish(release("1.3.0"), [])
        await device.look()
        clock.minute += 50
        lookups = dht.lookups
        assert (await device.publish(release("1.2.3"), [])).newer
        assert dht.lookups == lookups
        assert (await device.publish(release("1.3.0"), [])).stored == 2

    async def test_an_older_one_does_not(self) -> None:
        dht = ShelfDht()
        dht.announce(Slot(OURS, MINUTE), node(1), release("1.2.2"))
        assert (await tracker(dht).publish(release("1.2.3"), [])).stored == 20


class TestSeq:
    async def test_ours_is_the_version_so_that_a_newer_release_wins_the_slot(self) -> None:
        dht = MemoryDht(reach=10)
        await tracker(dht, 1).publish(release("1.2.3"), [])
        await tracker(dht, 2).publish(release("1.2.4"), [])
        heard = await tracker(dht, 3).look()
        assert [str(each.info.version) for each in heard] == ["1.2.4"]

    async def test_an_older_release_does_not_win_it_back(self) -> None:
        dht = MemoryDht(reach=10)
        await tracker(dht, 1).publish(release("1.2.4"), [])
        await tracker(dht, 2).publish(release("1.2.3"), [])
        assert [str(each.info.version) for each in await tracker(dht, 3).look()] == ["1.2.4"]

    async def test_in_rustpatcher_it_is_one_above_the_highest_in_the_slot(self) -> None:
        dht, slot = ShelfDht(), Slot(RUST, MINUTE)
        device = tracker(dht, namespace=RUST)
        await device.publish(release("1.2.3"), [])
        dht.put(slot, b"junk", seq=41)
        dht.put(slot, b"other", seq=7)
        await device.publish(release("1.2.3"), [])
        assert [item.seq for item in dht.written] == [0, 42]

    def test_the_highest_seq_of_all_has_no_successor(self) -> None:
        slot = Slot(RUST, MINUTE)
        top = MutableItem.sign(slot.key_pair, slot.salt, MAX_SEQ, b"")
        assert next_seq(RUST_RULES, Version(1, 0, 0), [top]) == MAX_SEQ
        assert next_seq(OUR_RULES, Version(1, 0, 0), [top]) == 1 << 40

    async def test_a_version_beyond_53_bits_cannot_be_announced(self) -> None:
        with pytest.raises(VersionError):
            await tracker(ShelfDht()).publish(release("8192.0.0"), [])


async def test_an_item_is_signed_by_the_slot_and_fits_what_nodes_keep() -> None:
    dht, slot = ShelfDht(), Slot(OURS, MINUTE)
    hints = [(f"2001:db8::{number}", 6881) for number in range(1, 20)]
    await tracker(dht).publish(release("8191.16383.16383"), hints)
    (item,) = dht.written
    assert item.verify()
    assert (item.public_key, item.salt, item.seq) == (slot.key_pair.public, slot.salt, (1 << 53) - (1 << 12))
    assert len(item.value) <= 996


class TestSilenceForANewerRelease:
    """A true release of another target under a shared key must not silence holders, and none does so for good."""

    async def heard(self, clock: MinuteClock) -> tuple[Tracker, MemoryDht, PatchInfo]:
        dht, newer = MemoryDht(), release("2.0.0")
        await tracker(dht, 1, clock=clock).publish(newer, [])
        device = tracker(dht, 2, clock=clock)
        await device.look()
        return device, dht, newer

    async def test_what_this_node_does_not_take_counts_for_nothing(self) -> None:
        device, _, newer = await self.heard(MinuteClock())
        device.heed([newer])
        assert (await device.publish(release("1.0.0"), [])).newer
        device.heed([])  # its download, or a look at it, showed that it does not fit
        published = await device.publish(release("1.0.0"), [])
        assert (published.newer, published.stored) == (False, 2)

    async def test_one_that_nobody_names_any_more_lapses_after_an_hour(self) -> None:
        clock = MinuteClock()
        device, _, newer = await self.heard(clock)
        device.heed([newer])
        clock.minute += 59
        assert (await device.publish(release("1.0.0"), [])).newer
        clock.minute += 1
        assert (await device.publish(release("1.0.0"), [])).stored == 2

    async def test_many_releases_are_not_remembered(self) -> None:
        device, dht, _ = await self.heard(MinuteClock())
        for number in range(20):
            await tracker(dht, 10 + number).publish(release(f"3.0.{number}"), [])
        await device.look()
        assert (await device.publish(release("1.0.0"), [])).newer
        assert len(device._newer) <= 8
