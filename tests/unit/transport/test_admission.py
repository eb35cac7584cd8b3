"""Who may open a connection: RFC 9000 sections 8.1 and 21.6, without a socket."""

from __future__ import annotations

import pytest

from pypatcher.addresses import Address
from pypatcher.transport.admission import Admission, ConnectionPlace, Verdict

FAR = [(f"8.8.4.{number}", 6881) for number in range(1, 200)]


def test_after_a_few_open_handshakes_new_addresses_must_prove_theirs() -> None:
    admission = Admission(half_open=3)
    for address in FAR[:3]:
        assert admission.judge(address, validated=False, now=0.0) is Verdict.ACCEPT
        place, _ = admission.opened(address, True, 0.0)
    assert admission.judge(FAR[3], validated=False, now=0.0) is Verdict.VALIDATE
    assert admission.judge(FAR[3], validated=True, now=0.0) is Verdict.ACCEPT
    admission.finished(place)
    assert admission.judge(FAR[3], validated=False, now=0.0) is Verdict.ACCEPT


def kept(admission: Admission, *sources: Address) -> list[ConnectionPlace]:
    """Places of connections whose peers asked rightly."""
    places = [admission.opened(source, True, 0.0)[0] for source in sources]
    for place in places:
        admission.finished(place)
        place.is_kept = True
    return places


def test_one_address_cannot_take_all_places() -> None:
    admission = Admission(per_address=2)
    kept(admission, FAR[0], FAR[0])
    assert admission.judge(FAR[0], validated=True, now=0.0) is Verdict.REFUSE
    assert admission.judge((FAR[0][0], 9), validated=True, now=0.0) is Verdict.REFUSE
    assert admission.judge(FAR[1], validated=True, now=0.0) is Verdict.ACCEPT


def test_handshakes_in_another_devices_name_do_not_take_its_places() -> None:
    admission, made = Admission(), 0
    for port in range(40000, 40100):
        if admission.judge((FAR[0][0], port), validated=False, now=0.0) is Verdict.ACCEPT:
            admission.opened((FAR[0][0], port), False, 0.0)
            made += 1
    assert made == 1
    assert admission.judge(FAR[0], validated=False, now=0.0) is Verdict.VALIDATE
    assert admission.judge(FAR[0], validated=True, now=0.0) is Verdict.ACCEPT


@pytest.mark.parametrize("host", ["2a01:db9:1:{:x}::1", "8.8.4.{}"])
def test_one_network_cannot_take_all_places(host: str) -> None:
    admission = Admission(per_network=5)
    kept(admission, *((host.format(number), 1) for number in range(5)))
    assert admission.judge((host.format(99), 1), validated=True, now=0.0) is Verdict.REFUSE
    assert admission.judge(("9.9.9.9", 1), validated=True, now=0.0) is Verdict.ACCEPT


def test_a_quarter_of_the_places_is_the_lans_and_one_the_others() -> None:
    admission = Admission(connections=8, half_open=99)
    kept(admission, *((f"20.{number}.0.1", 1) for number in range(6)))
    assert admission.judge(("9.9.9.9", 1), True, 0.0) is Verdict.REFUSE
    kept(admission, ("192.168.1.9", 1), ("192.168.1.9", 2))
    assert admission.judge(("192.168.1.9", 9), True, 0.0) is Verdict.REFUSE
    admission = Admission(connections=8, half_open=99)
    kept(admission, *((f"192.168.1.{number}", 1) for number in range(6)))
    assert admission.judge(("192.168.1.99", 1), True, 0.0) is Verdict.REFUSE
    assert admission.judge(("9.9.9.9", 1), True, 0.0) is Verdict.ACCEPT


@pytest.mark.parametrize("host", ["20.{}.0.1", "192.168.1.{}"])
def test_the_last_places_are_for_networks_that_have_none(host: str) -> None:
    admission = Admission(connections=16, per_network=99, per_lan_host=99, per_address=99)
    kept(admission, *((host.format(number % 3), number) for number in range(9)))
    assert admission.judge((host.format(0), 99), True, 0.0) is Verdict.REFUSE
    assert admission.judge((host.format(77), 1), True, 0.0) is Verdict.ACCEPT


def test_who_has_not_asked_rightly_makes_room_the_oldest_first() -> None:
    admission = Admission(connections=4, half_open=99)
    places = [admission.opened((f"20.{number}.0.1", 1), True, 0.0)[0] for number in range(3)]
    places[0].is_kept = True
    for number, oldest in enumerate(places[1:]):
        assert admission.judge((f"30.{number}.0.1", 1), True, 1.0) is Verdict.ACCEPT
        assert admission.opened((f"30.{number}.0.1", 1), True, 1.0)[1] is oldest


def test_an_address_that_is_not_proved_pushes_nobody_out() -> None:
    admission = Admission(connections=4, half_open=99)
    for number in range(3):
        admission.opened((f"20.{number}.0.1", 1), True, 0.0)
    assert admission.judge(("9.9.9.9", 1), False, 0.0) is Verdict.VALIDATE
    assert admission.judge(("9.9.9.9", 1), True, 0.0) is Verdict.ACCEPT


@pytest.mark.parametrize(("host", "most"), [("8.8.4.{}", 20), ("2a01:db9:1:{:x}::1", 20), ("192.168.1.5", 150)])
def test_a_network_begins_so_many_handshakes_in_ten_seconds(host: str, most: int) -> None:
    admission, made = Admission(), 0
    for number in range(400):
        source = host.format(number % 250), number
        if admission.judge(source, True, 0.0) is Verdict.ACCEPT:
            admission.ended(admission.opened(source, True, 0.0)[0])
            made += 1
    assert made == most
    assert admission.judge((host.format(1), 1), True, 0.0) is Verdict.IGNORE
    assert admission.judge((host.format(1), 1), False, 0.0) is Verdict.VALIDATE
    assert admission.judge(("9.9.9.9", 1), True, 0.0) is Verdict.ACCEPT
    assert admission.judge((host.format(1), 1), True, 10.0) is Verdict.ACCEPT


@pytest.mark.parametrize("host", ["8.8.4.{}", "2a01:db9:1:{:x}::1", "192.168.1.{}"])
def test_forged_handshakes_that_fail_at_once_shut_no_network_out(host: str) -> None:
    admission, made = Admission(), 0
    for number in range(400):
        source = host.format(number % 250), number
        if admission.judge(source, False, 0.0) is Verdict.ACCEPT:
            admission.ended(admission.opened(source, False, 0.0)[0])
            made += 1
    assert made == 20
    for other in (host.format(1), "9.9.9.9", "192.168.7.7"):
        assert admission.judge((other, 1), False, 0.0) is Verdict.VALIDATE
        assert admission.judge((other, 1), True, 0.0) is Verdict.ACCEPT
    assert admission.judge(("9.9.9.9", 1), False, 10.0) is Verdict.ACCEPT


def test_lan_neighbours_that_share_an_address_are_told_apart_by_port() -> None:
    admission = Admission(per_address=1)
    kept(admission, ("127.0.0.1", 1))
    assert admission.judge(("127.0.0.1", 1), True, 0.0) is Verdict.REFUSE
    assert admission.judge(("127.0.0.1", 2), True, 0.0) is Verdict.ACCEPT


def test_one_host_of_the_lan_cannot_take_all_places_either() -> None:
    admission = Admission(per_lan_host=3)
    places = kept(admission, *(("192.168.1.5", port) for port in range(3)))
    assert admission.judge(("192.168.1.5", 99), True, 0.0) is Verdict.REFUSE
    assert admission.judge(("192.168.1.6", 99), True, 0.0) is Verdict.ACCEPT
    for place in places:
        admission.ended(place)
        admission.ended(place)
    assert admission == Admission(per_lan_host=3)


def test_places_come_back_and_nothing_is_kept_of_those_who_left() -> None:
    admission = Admission(connections=2, half_open=2)
    (place,) = kept(admission, FAR[0])
    other, _ = admission.opened(("192.168.1.5", 1), True, 0.0)
    other.is_kept = True
    assert admission.judge(("9.9.9.9", 1), True, 0.0) is Verdict.REFUSE
    admission.ended(place)
    admission.ended(other)
    assert admission.judge(FAR[2], False, 0.0) is Verdict.ACCEPT
    assert admission == Admission(connections=2, half_open=2)


def test_asking_leaves_no_trace() -> None:
    admission = Admission()
    for address in FAR:
        admission.judge(address, validated=False, now=0.0)
    assert admission == Admission()
