"""Two established connections on a virtual network: whatever it does to packets, what was written is what is read."""

from __future__ import annotations

import pytest

from pypatcher.established.flow import FlowLimits
from pypatcher.established.state import StreamReset
from tests.support.virtual_path import AES, CHACHA, CLIENT, WIDE, Link


def noise(link: Link, size: int) -> bytes:
    return link.random.randbytes(size)


@pytest.mark.parametrize("suite", [AES, CHACHA])
@pytest.mark.parametrize(
    ("loss", "twice", "jitter"),
    [(0.0, 0.0, 0.0), (0.02, 0.0, 0.0), (0.2, 0.1, 0.02), (0.0, 0.0, 0.05), (0.0, 0.5, 0.0)],
)
def test_what_was_written_is_read_whatever_the_network_does(
    suite: int, loss: float, twice: float, jitter: float
) -> None:
    for seed in range(3):
        link = Link(seed=seed, loss=loss, twice=twice, jitter=jitter, suite=suite)
        body = noise(link, 300_000)
        stream = link.client.open(False)
        link.client.write(stream, body, True)
        link.run(until=lambda link=link, stream=stream: link.got(link.server, stream).ended)
        link.server.write(stream, body[::-1], True)
        link.run(until=lambda link=link, stream=stream: link.got(link.client, stream).ended)
        assert bytes(link.got(link.server, stream).data) == body
        assert bytes(link.got(link.client, stream).data) == body[::-1]
        link.run(2.0)
        assert link.confirmed
        assert not link.client.state.flow.streams
        assert not link.server.state.flow.streams


def test_keys_change_under_loss_and_no_number_is_used_twice() -> None:
    """The link fails when a packet number comes twice under one key."""
    link = Link(seed=5, loss=0.05, jitter=0.01)
    body = noise(link, 2_000_000)
    stream = link.client.open(False)
    link.client.write(stream, body, True)
    phases = set()
    changed = 0

    def over() -> bool:
        nonlocal changed
        if len(link.got(link.server, stream).data) > (changed + 1) * 200_000:
            side = (link.client, link.server)[changed % 2]
            changed += side.update_keys()
        phases.add((link.client.state.sealer.phase, link.server.state.sealer.phase))
        return link.got(link.server, stream).ended

    link.run(until=over)
    assert bytes(link.got(link.server, stream).data) == body
    assert changed >= 4
    assert {(0, 0), (1, 1)} <= phases
    assert link.client.closing is link.server.closing is None


def test_keys_change_by_themselves_long_before_they_must() -> None:
    link = Link(rate=500_000)
    stream = link.client.open(False)
    link.client.write(stream, bytes(1_000_000), True)
    keys = set()

    def over() -> bool:
        sealer = link.client.state.sealer
        keys.add(sealer._key.secret)
        if sealer.sealed > 100:
            sealer.sealed = 1 << 22  # of 2^23
        return link.got(link.server, stream).ended

    link.run(until=over)
    assert len(keys) >= 3


def test_a_bottleneck_is_filled_and_its_queue_is_not_flooded() -> None:
    """100 Mbit/s, 50 ms there and back, a queue of 50 ms."""
    link = Link(delay=0.025, rate=12.5e6, limits=WIDE)
    stream = link.client.open(False)
    link.client.write(stream, bytes(25_000_000), True)
    link.run(1.0)
    began, before = link.now, len(link.got(link.server, stream).data)
    link.run(1.0)
    assert (len(link.got(link.server, stream).data) - before) / (link.now - began) >= 0.9 * 12.5e6
    assert link.sent_bytes[link.client] < 1.15 * len(link.got(link.server, stream).data)


def test_more_than_may_be_on_its_way_waits_and_ends_nothing() -> None:
    """Three streams over a way of half a second, each a megabyte ahead and more: once that ended the connection."""
    limits = FlowLimits(1 << 26, 1 << 24, 1 << 24, 1 << 24, 4, 4)
    link = Link(delay=0.5, limits=limits, largest=1200)
    streams = [link.client.open(False) for _ in range(3)]
    for stream in streams:
        link.client.write(stream, bytes(2_000_000), True)
    link.run(until=lambda: all(link.got(link.server, stream).ended for stream in streams))


def test_two_percent_loss_leaves_a_rate() -> None:
    link = Link(delay=0.025, loss=0.02, seed=2, limits=WIDE)
    stream = link.client.open(False)
    size, began = 4_000_000, link.now
    link.client.write(stream, bytes(size), True)
    link.run(until=lambda: link.got(link.server, stream).ended)
    assert size / (link.now - began) > 200_000


def test_a_path_that_carries_less_from_now_on_goes_on() -> None:
    link = Link()
    stream = link.client.open(False)
    link.client.write(stream, bytes(3_000_000), True)
    link.run(until=lambda: len(link.got(link.server, stream).data) > 1_000_000)
    assert link.client.datagram_size == 1452
    link.mtu = 1300
    link.run(until=lambda: link.got(link.server, stream).ended)
    assert 1200 <= link.client.datagram_size <= 1300


def test_a_client_at_another_address_goes_on_and_proves_it() -> None:
    link = Link(seed=1, loss=0.01)
    stream = link.client.open(False)
    link.client.write(stream, b"a question", False)
    link.run(until=lambda: bool(link.got(link.server, stream).data))
    link.server.write(stream, bytes(2_000_000), True)
    link.run(until=lambda: len(link.got(link.client, stream).data) > 500_000)
    before, link.client_address = link.server.proved_address, ("198.51.100.77", 9)
    link.client.ping()
    link.run(until=lambda: link.got(link.client, stream).ended)
    assert link.server.proved_address == link.client_address != before


def test_a_packet_that_was_overtaken_changes_no_name() -> None:
    """A client that changed its address calls the server by another id; its packets before that may come behind."""
    link = Link()
    link.run(1.0)
    link.client.ping()
    (late, _), *_ = link.client.send(link.now)
    assert link.client.state.their_ids.change()
    link.client.state.their_ids.to_retire.clear()  # said later: what was named before still arrives
    link.client.ping()
    (newest, _), *_ = link.client.send(link.now)
    for packet in (newest, late):
        link.server.receive([(packet, CLIENT)], link.now)
    assert link.server.state.host_id == newest[1:9] != late[1:9]
    assert link.server.state.their_ids.current.number == 1


def test_silence_ends_it_and_a_close_is_told() -> None:
    link = Link()
    link.run(2.0)
    link.loss = 1.0
    link.run(60.0)
    for side in (link.client, link.server):
        assert side.closing is not None
        assert side.closing.reason == "Idle timeout"
        assert side.timer() is None
    link = Link()
    link.client.close(3, True, "busy", link.now)
    link.run(5.0)
    assert link.server.closing is not None
    assert (link.server.closing.code, link.server.closing.by_application, link.server.closing.reason) == (
        3,
        True,
        "busy",
    )
    assert link.client.timer() is link.server.timer() is None


def test_a_reader_that_stops_holds_no_more_than_its_window() -> None:
    link = Link()
    link.read = False
    stream = link.client.open(False)
    link.client.write(stream, bytes(1_000_000), True)
    link.run(5.0)
    assert len(link.got(link.server, stream).data) == 1 << 18
    assert link.client.unsent(stream) == 1_000_000 - (1 << 18)
    link.server.stop(stream, 9)
    link.server.reset(stream, 9)
    link.run(5.0)
    assert not link.client.state.flow.streams
    assert not link.server.state.flow.streams


def test_nothing_is_said_of_a_stream_before_it_is_allowed() -> None:
    """A fifth stream: its window and its end wait until the peer allows it, which else ends the connection."""
    link = Link()
    link.run(1.0)
    streams = [link.client.open(False) for _ in range(5)]
    for stream in streams[:4]:
        link.client.write(stream, b"question", True)
    link.client.grant(streams[4], 1 << 20)
    link.run(1.0)
    link.client.reset(streams[4], 3)
    link.client.stop(streams[4], 3)
    link.run(1.0)
    assert link.server.closing is None
    for stream in streams[:4]:
        link.server.write(stream, b"answer", True)
    link.run(1.0)
    assert link.server.closing is None
    assert StreamReset(streams[4], 3) in link.events[link.server]


def test_no_timer_is_due_for_ever_on_a_path_without_proof() -> None:
    link = Link()
    link.mtu = 1300
    link.run(5.0)
    server = link.server
    again = server.state.size.timer
    assert again is not None
    active = server.state.paths.active
    active.proved, active.received, active.deadline = False, 10_000, again + 60.0
    server.state.idle_at = again + 30.0
    server.on_timer(again + 1.0)
    server.send(again + 1.0)
    due = server.timer()
    assert due is not None
    assert due > again + 1.0


def test_who_opened_all_its_streams_hears_of_those_that_ended_before() -> None:
    """Two of four end while others are left to open; then the others are opened, and stay."""
    link = Link()
    link.run(1.0)
    for _ in range(2):
        stream = link.client.open(False)
        link.client.write(stream, b"question", True)
        link.run(0.5)
        link.server.write(stream, b"answer", True)
        link.run(0.5)
    streams = [link.client.open(False) for _ in range(4)]
    for stream in streams:
        link.client.write(stream, b"question", True)
    link.run(1.0)
    assert all(link.got(link.server, stream).ended for stream in streams)


def test_answers_to_challenges_stay_within_what_may_go_there() -> None:
    link = Link()
    link.run(1.0)
    active = link.server.state.paths.active
    for number in range(32):
        active.was_asked(number.to_bytes(8, "big"))
    active.proved, active.received, active.sent = False, 40, 0
    assert 0 < sum(len(data) for data, _ in link.server.send(link.now)) <= 3 * 40


def test_an_answer_to_a_challenge_that_is_lost_is_asked_for_again() -> None:
    """The challenge itself arrived and was acknowledged; who moved waits for data, and sends nothing by itself."""
    link = Link(limits=WIDE)
    link.run(1.0)
    stream = link.server.open(True)
    link.server.write(stream, noise(link, 1 << 20), True)
    link.run(0.02)
    link.client_address = ("198.51.100.1", 4999)
    link.mtu = 1199  # the answer fills 1200 bytes, and what asks for it does not
    link.client.ping()
    link.run(0.2)
    assert link.server.state.paths.active.address == link.client_address
    assert link.server.proved_address != link.client_address
    link.mtu = 65535
    link.run(0.5)
    assert link.server.proved_address == link.client_address
    link.run(until=lambda: link.got(link.client, stream).ended)


def test_who_comes_back_behind_another_port_is_heard_at_once() -> None:
    """The window is full of what the old port lost, and the probe timeout has doubled for seconds."""
    link = Link(rate=1e6, limits=WIDE)
    link.run(1.0)
    stream = link.server.open(True)
    link.server.write(stream, noise(link, 1 << 20), True)
    link.run(0.3)
    link.mtu = 0
    link.run(4.0)
    link.mtu, link.client_address = 65535, ("198.51.100.1", 4999)
    link.client.ping()
    link.run(0.1)
    assert link.server.proved_address == link.client_address
