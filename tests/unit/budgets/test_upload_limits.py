"""Upload limits of design.md "Transport and transfer", on a clock of the test's own."""

from __future__ import annotations

import pytest

from pypatcher.budgets import UploadLimiter
from pypatcher.budgets.upload import Upload
from tests.support.transport import ManualClock

MIB = 1 << 20
FAR = [(f"8.8.4.{number}", 6881) for number in range(1, 40)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


def test_four_uploads_leave_no_place_until_one_ends(clock: ManualClock) -> None:
    limiter = UploadLimiter(clock=clock)
    uploads = [limiter.admit(address, MIB) for address in FAR[:4]]
    assert None not in uploads
    assert limiter.admit(FAR[4], MIB) is None
    first = uploads[0]
    assert first is not None
    first.end()
    first.end()
    assert limiter.admit(FAR[4], MIB) is not None
    assert limiter.admit(FAR[5], MIB) is None


def test_a_day_has_no_more_bytes_than_it_was_told(clock: ManualClock) -> None:
    limiter = UploadLimiter(day=10 * MIB, uploads=40, clock=clock)
    given = 0
    for provider in range(20, 60):
        if (upload := limiter.admit((f"{provider}.8.4.1", 1), 3 * MIB)) is not None:
            upload.spend(3 * MIB)
            upload.end()
            given += 3 * MIB
    assert given == 9 * MIB
    assert limiter.admit(("192.168.0.1", 1), 3 * MIB) is not None
    clock.now += 25 * 3600
    assert limiter.admit(FAR[0], 3 * MIB) is not None
    assert limiter.admit(FAR[9], 11 * MIB) is None


def test_who_drips_keeps_nobody_from_what_is_left_of_a_day(clock: ManualClock) -> None:
    """The attack: one upload at 1000 bytes a second had the whole of a small day promised to it, for hours."""
    limiter, dropped = UploadLimiter(day=5 * MIB, clock=clock), []
    dripping = limiter.admit(("20.1.0.1", 1), 3 * MIB, lambda: dropped.append("slow"))
    assert dripping is not None
    for _ in range(60):
        clock.now += 1.0
        dripping.spend(1000)
    fast = limiter.admit(("30.1.0.1", 1), 3 * MIB, lambda: dropped.append("fast"))
    assert fast is not None
    assert dropped == ["slow"]
    for _ in range(32):
        clock.now += 1.0
        fast.spend(1 << 16)
    assert limiter.admit(("40.1.0.1", 1), 3 * MIB) is None
    assert dropped == ["slow"]


def test_a_slow_taker_keeps_its_place_only_until_somebody_wants_it(clock: ManualClock) -> None:
    limiter, dropped = UploadLimiter(clock=clock), []
    takers = [limiter.admit(address, 8 * MIB, lambda who=address: dropped.append(who)) for address in FAR[:4]]  # type: ignore[misc]
    for _ in range(120):
        clock.now += 1.0
        for rate, upload in zip((2000, 1000, 40_000, 50_000), takers, strict=True):
            assert upload is not None
            upload.spend(rate)
        assert len(dropped) == 0
    assert limiter.admit(FAR[4], 8 * MIB) is not None
    assert dropped == [FAR[1]]
    assert limiter.admit(FAR[5], 8 * MIB) is not None
    assert dropped == [FAR[1], FAR[0]]
    assert limiter.admit(FAR[6], 8 * MIB) is None


def test_who_takes_turns_gives_way_and_goes_on_with_its_request(clock: ManualClock) -> None:
    limiter, over = UploadLimiter(clock=clock), []
    takers = [
        limiter.admit(address, 8 * MIB, lambda who=address: over.append(who), takes_turns=lambda: True)  # type: ignore[misc]
        for address in FAR[:4]
    ]
    for _ in range(3):
        for upload in takers:
            assert upload is not None
            upload.spend(100_000)
        clock.now += 1.0
    assert limiter.admit(FAR[4], 8 * MIB) is None
    clock.now += 1.0
    for number in range(4, 8):
        assert limiter.admit(FAR[number], 8 * MIB) is not None
    assert over == FAR[:4], "the longest first"
    assert not any(upload.is_slow for upload in takers if upload is not None)
    assert limiter.admit(FAR[8], 8 * MIB, is_brief=True) is None, "twice as many as there are places are all"
    assert takers[0] is not None
    takers[0].end()
    assert limiter.admit(FAR[8], 8 * MIB, is_brief=True) is not None
    assert limiter.admit(FAR[9], 8 * MIB) is None, "those who take no turns have their places"


def test_on_a_slow_line_who_has_had_its_turn_goes_on(clock: ManualClock) -> None:
    """What little it took by then is our own doing."""
    limiter = UploadLimiter(2000, clock=clock, daily_factor=1000)
    takers = [limiter.admit(address, MIB, takes_turns=lambda: True) for address in FAR[:4]]
    due = dict.fromkeys((upload for upload in takers if upload is not None), clock.now)
    while clock.now < 1005.0:
        upload = min(due, key=lambda upload: due[upload])
        clock.now = max(clock.now, due[upload])
        due[upload] += upload.spend(upload.piece)
    clock.now = 1005.0
    assert limiter.admit(FAR[4], MIB) is not None
    assert len(limiter._finishing) == 1


def test_who_drips_after_its_turn_keeps_nobody_from_his(clock: ManualClock) -> None:
    """The attack: take fast for a turn, with answers open, and drip for hours: nobody else gave way any more."""
    limiter, over = UploadLimiter(clock=clock), []

    def take(numbers: range) -> list[Upload]:
        takers = [
            limiter.admit(FAR[each], 8 * MIB, lambda who=each: over.append(who), takes_turns=lambda: True)  # type: ignore[misc]
            for each in numbers
        ]
        uploads = [upload for upload in takers if upload is not None]
        assert len(uploads) == 4
        for _ in range(4):
            for upload in uploads:
                upload.spend(100_000)
            clock.now += 1.0
        return uploads

    dripping = take(range(4))
    steady = take(range(4, 8))
    assert over == [0, 1, 2, 3]
    assert limiter.admit(FAR[8], 8 * MIB) is None, "four go on with what they were asked"
    for _ in range(60):
        clock.now += 1.0
        for upload in dripping:
            upload.spend(1000)
        for upload in steady:
            upload.spend(100_000)
    assert limiter.admit(FAR[8], 8 * MIB) is not None
    assert over == [0, 1, 2, 3, 0, 4]


def test_who_goes_on_after_its_turn_takes_no_more_than_the_day_has(clock: ManualClock) -> None:
    """The attack: one after another gives way, and takes what it asked for: 4 files of a day of 2."""
    limiter, uploads, given = UploadLimiter(day=10 * MIB, clock=clock), list[Upload](), 0
    for second in range(40):
        if not second % 4 and (upload := limiter.admit((f"{20 + second}.1.0.1", 1), 5 * MIB, takes_turns=lambda: True)):
            uploads.append(upload)
        for upload in uploads:
            upload.spend(40_000)
            given += 40_000
        clock.now += 1.0
    for upload in uploads:
        given += upload.left
        upload.spend(upload.left)
    assert len(uploads) > 1
    assert given <= 10 * MIB


def test_new_networks_pass_nobody_who_takes_what_it_asks_for(clock: ManualClock) -> None:
    """Else ever new networks that take nothing had the place of every device whose provider had taken something."""
    limiter = UploadLimiter(clock=clock)
    before = limiter.admit(("20.1.0.1", 1), MIB)
    assert before is not None
    before.spend(MIB)
    before.end()
    takers = [limiter.admit((host, 1), MIB) for host in ("20.1.0.2", "21.1.0.1", "22.1.0.1", "23.1.0.1")]
    for upload in takers:
        assert upload is not None
        upload.spend(16384)
    assert limiter.admit(("40.1.0.1", 1), MIB) is None
    for upload in takers:
        assert upload is not None
        upload.end()
    takers = [limiter.admit((f"{number}.1.0.1", 1), MIB) for number in range(20, 24)]
    assert None not in takers
    assert limiter.admit(("40.1.0.1", 1), MIB) is not None, "they did so before"


def test_one_address_is_told_one_tree_at_once_without_a_place(clock: ManualClock) -> None:
    limiter = UploadLimiter(clock=clock)
    assert limiter.admit(FAR[0], MIB, is_brief=True) is not None
    assert limiter.admit(FAR[0], MIB, is_brief=True) is None
    assert limiter.admit(FAR[1], MIB, is_brief=True) is not None


def test_who_takes_much_at_first_and_then_nothing_is_slow(clock: ManualClock) -> None:
    limiter, dropped = UploadLimiter(clock=clock, uploads=1), []
    upload = limiter.admit(FAR[0], 8 * MIB, lambda: dropped.append(0))
    assert upload is not None
    upload.spend(4 * MIB)
    clock.now += 4
    assert limiter.admit(FAR[1], 8 * MIB) is None
    upload.spend(1)
    clock.now += 300
    upload.spend(1)
    clock.now += 31
    assert limiter.admit(FAR[1], 8 * MIB) is not None
    assert dropped == [0]


def test_whom_we_hold_back_ourselves_is_not_slow(clock: ManualClock) -> None:
    limiter = UploadLimiter(1000, clock=clock, daily_factor=1000)
    takers = [limiter.admit(address, MIB) for address in FAR[:4]]
    due = dict.fromkeys((upload for upload in takers if upload is not None), clock.now)
    while clock.now < 1300:
        upload = min(due, key=lambda upload: due[upload])
        clock.now = due[upload]
        due[upload] += upload.spend(upload.piece)
    assert limiter.admit(FAR[4], MIB) is None


def test_one_address_gets_one_upload_whatever_its_port_or_its_64(clock: ManualClock) -> None:
    limiter = UploadLimiter(clock=clock)
    assert limiter.admit(("8.8.4.1", 1), MIB) is not None
    assert limiter.admit(("8.8.4.1", 2), MIB) is None
    assert limiter.admit(("2a01:db9::1", 1), MIB) is not None
    assert limiter.admit(("2a01:db9::2", 1), MIB) is None
    assert limiter.admit(("2a01:db9:0:1::2", 1), MIB) is not None


def test_a_taker_that_comes_again_ends_its_upload_that_takes_nothing(clock: ManualClock) -> None:
    limiter, dropped = UploadLimiter(clock=clock), []
    upload = limiter.admit(FAR[0], MIB, lambda: dropped.append(0))
    assert upload is not None
    for _ in range(5):
        clock.now += 5
        upload.spend(1000)
    assert limiter.admit(FAR[0], MIB) is None
    clock.now += 11
    assert limiter.admit(FAR[0], MIB) is not None
    assert dropped == [0]


def test_the_lan_is_limited_in_nothing_but_places(clock: ManualClock) -> None:
    limiter = UploadLimiter(clock=clock, lan_uploads=6)
    uploads = [limiter.admit(("127.0.0.1", 4000), MIB) for _ in range(6)]
    assert None not in uploads
    assert limiter.admit(("192.168.1.9", 4000), MIB) is None
    assert limiter.admit(FAR[0], MIB) is not None
    assert all(upload is not None and upload.spend(1 << 40) == 0 for upload in uploads)


def test_all_uploads_together_keep_the_rate(clock: ManualClock) -> None:
    limiter = UploadLimiter(MIB, clock=clock, daily_factor=1000)
    uploads = [limiter.admit(address, MIB) for address in FAR[:4]]
    started, sent = clock.now, 0
    while sent < 20 * MIB:
        for upload in uploads:
            assert upload is not None
            clock.now += upload.spend(upload.piece)
            sent += upload.piece
    assert sent / (clock.now - started) == pytest.approx(MIB, rel=0.03)


def test_a_pause_saves_up_no_more_than_a_moment(clock: ManualClock) -> None:
    limiter = UploadLimiter(MIB, clock=clock, daily_factor=1000)
    upload = limiter.admit(FAR[0], MIB)
    assert upload is not None
    upload.spend(MIB)
    clock.now += 3600
    assert upload.spend(MIB) == 0
    assert upload.spend(1) > 0.7


def take(limiter: UploadLimiter, clock: ManualClock, address: tuple[str, int], size: int = MIB) -> bool:
    """Whether that address may have a whole upload now; it takes it."""
    upload = limiter.admit(address, size)
    if upload is None:
        return False
    clock.now += 60 + upload.spend(size)
    upload.end()
    return True


def test_a_day_has_twenty_times_the_file(clock: ManualClock) -> None:
    limiter = UploadLimiter(clock=clock)
    assert all(take(limiter, clock, (f"20.{number}.0.1", 1)) for number in range(20))
    assert not take(limiter, clock, FAR[0])
    assert take(limiter, clock, ("10.0.0.1", 1))
    clock.now += 86400
    assert take(limiter, clock, FAR[0])


@pytest.mark.parametrize("host", ["2a01:db9:1:{:x}::1", "8.8.4.{}"])
def test_one_network_gets_half_of_the_day(clock: ManualClock, host: str) -> None:
    limiter = UploadLimiter(clock=clock)
    assert sum(take(limiter, clock, (host.format(number), 1)) for number in range(1, 40)) == 10
    assert take(limiter, clock, ("9.9.9.9", 1))


@pytest.mark.parametrize("host", ["2a01:db9:{:x}::1", "8.8.{}.1"])
def test_one_provider_gets_three_fifths_of_the_day(clock: ManualClock, host: str) -> None:
    limiter = UploadLimiter(clock=clock)
    assert sum(take(limiter, clock, (host.format(number), 1)) for number in range(1, 40)) == 12
    assert sum(take(limiter, clock, (f"9.{number}.9.9", 1)) for number in range(9)) == 8


def test_what_never_left_does_not_count(clock: ManualClock) -> None:
    limiter = UploadLimiter(clock=clock)
    for number in range(100):
        upload = limiter.admit((f"20.{number % 7}.0.1", 1), MIB)
        assert upload is not None
        clock.now += 10 + upload.spend(MIB // 2)
        upload.settle(0)
        upload.end()
    clock.now += 86_000
    assert sum(take(limiter, clock, (f"30.{number}.0.1", 1)) for number in range(30)) == 20


def test_what_left_counts(clock: ManualClock) -> None:
    limiter = UploadLimiter(clock=clock)
    for number in range(40):
        upload = limiter.admit((f"20.{number % 7}.0.1", 1), MIB)
        assert upload is not None
        clock.now += 10 + upload.spend(MIB // 2)
        upload.settle(MIB // 4)
        upload.settle(MIB // 4)
        upload.end()
    assert sum(take(limiter, clock, (f"30.{number}.0.1", 1)) for number in range(30)) == 10


def test_uploads_of_one_network_begun_together_keep_within_its_half(clock: ManualClock) -> None:
    limiter = UploadLimiter(clock=clock)
    assert sum(take(limiter, clock, (f"8.8.4.{number}", 1)) for number in range(8)) == 8
    together = [limiter.admit((f"8.8.4.{number}", 1), MIB) for number in range(20, 24)]
    assert [upload is not None for upload in together] == [True, True, False, False]


def test_the_last_quarter_of_a_day_is_for_networks_that_took_nothing(clock: ManualClock) -> None:
    limiter = UploadLimiter(clock=clock)
    assert sum(take(limiter, clock, (f"20.{number % 3}.0.{number}", 1)) for number in range(60)) == 15
    assert [take(limiter, clock, FAR[0]) for _ in range(2)] == [True, False]
    assert sum(take(limiter, clock, (f"30.{number}.0.1", 1)) for number in range(9)) == 4


def test_promises_to_slow_takers_keep_no_newcomer_from_its_copy(clock: ManualClock) -> None:
    limiter = UploadLimiter(clock=clock)
    assert sum(take(limiter, clock, (f"20.{number % 3}.0.{number}", 1)) for number in range(60)) == 15
    assert all(take(limiter, clock, (f"30.{number}.0.1", 1)) for number in range(2))
    for number in range(3):
        assert limiter.admit((f"40.{number}.0.1", 1), MIB) is not None
    assert limiter.admit(FAR[0], MIB) is not None


def test_one_address_gets_a_quarter_of_the_day(clock: ManualClock) -> None:
    limiter = UploadLimiter(clock=clock)
    for _ in range(5):
        upload = limiter.admit(FAR[0], MIB)
        assert upload is not None
        clock.now += 60 + upload.spend(MIB)
        upload.end()
    assert limiter.admit(FAR[0], MIB) is None
    assert limiter.admit(FAR[1], MIB) is not None


def test_a_rate_of_zero_serves_nobody(clock: ManualClock) -> None:
    limiter = UploadLimiter(0, clock=clock)
    assert limiter.admit(FAR[0], 1) is None
    assert limiter.admit(("127.0.0.1", 1), 1) is None


def test_a_slow_rate_makes_small_pieces(clock: ManualClock) -> None:
    upload = UploadLimiter(10_000, clock=clock).admit(FAR[0], MIB)
    assert upload is not None
    assert upload.piece == 2500


def test_who_asks_for_nothing_keeps_nobody_out(clock: ManualClock) -> None:
    """Devices that fetch the same from each other stay connected, and often have nothing to ask."""
    limiter, lost = UploadLimiter(uploads=1, clock=clock), []
    first = limiter.admit(FAR[0], MIB, lambda: lost.append("first"))
    assert first is not None
    for _ in range(5):
        first.spend(1 << 16)
        clock.now += 0.5
    first.rest(rests=True)
    assert limiter.admit(FAR[1], MIB) is None
    clock.now += 0.6
    assert limiter.admit(FAR[1], MIB) is not None
    assert lost == ["first"]


def test_a_rest_is_no_slowness(clock: ManualClock) -> None:
    limiter, lost = UploadLimiter(uploads=1, clock=clock), []
    taker = limiter.admit(FAR[0], MIB, lambda: lost.append("taker"))
    assert taker is not None
    taker.spend(1000)
    taker.rest(rests=True)
    clock.now += 60.0
    taker.rest(rests=False)
    assert limiter.admit(FAR[1], MIB) is None
    clock.now += 2.0
    assert limiter.admit(FAR[1], MIB) is not None, "it goes on and takes nothing"
    assert lost == ["taker"]


def test_of_one_address_the_next_device_has_its_turn_while_one_rests(clock: ManualClock) -> None:
    """A LAN behind one router: each brings other parts in."""
    limiter = UploadLimiter(clock=clock)
    taker = limiter.admit(FAR[0], MIB)
    assert taker is not None
    assert limiter.admit((FAR[0][0], 7000), MIB) is None
    taker.rest(rests=True)
    clock.now += 0.6
    assert limiter.admit((FAR[0][0], 7000), MIB) is not None
