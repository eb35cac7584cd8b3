"""Who may open a connection: RFC 9000 sections 8.1 and 21.6, without a socket."""

from __future__ import annotations

import pytest

from pypatcher.transport.admission import Admission, Verdict

FAR = [(f"8.8.4.{number}", 6881) for number in range(1, 200)]


def test_after_a_few_open_handshakes_new_addresses_must_prove_theirs() -> None:
    admission = Admission(half_open=3)
    for address in FAR[:3]:
        assert admission.judge(address, validated=False) is Verdict.ACCEPT
        admission.opened(address)
    assert admission.judge(FAR[3], validated=False) is Verdict.VALIDATE
    assert admission.judge(FAR[3], validated=True) is Verdict.ACCEPT
    admission.finished(FAR[0])
    assert admission.judge(FAR[3], validated=False) is Verdict.ACCEPT


def test_one_address_cannot_take_all_places() -> None:
    admission = Admission(per_address=2)
    for _ in range(2):
        admission.opened(FAR[0])
    assert admission.judge(FAR[0], validated=True) is Verdict.REFUSE
    assert admission.judge((FAR[0][0], 9), validated=True) is Verdict.REFUSE
    assert admission.judge(FAR[1], validated=True) is Verdict.ACCEPT


def test_handshakes_in_another_devices_name_do_not_take_its_places() -> None:
    admission, made = Admission(), 0
    for port in range(40000, 40100):
        if admission.judge((FAR[0][0], port), validated=False) is Verdict.ACCEPT:
            admission.opened((FAR[0][0], port))
            made += 1
    assert made == 1
    assert admission.judge(FAR[0], validated=False) is Verdict.VALIDATE
    assert admission.judge(FAR[0], validated=True) is Verdict.ACCEPT


@pytest.mark.parametrize("host", ["2a01:db9:1:{:x}::1", "8.8.4.{}"])
def test_one_network_cannot_take_all_places(host: str) -> None:
    admission = Admission(per_network=5)
    for number in range(5):
        admission.opened((host.format(number), 1))
    assert admission.judge((host.format(99), 1), validated=True) is Verdict.REFUSE
    assert admission.judge(("9.9.9.9", 1), validated=True) is Verdict.ACCEPT


def test_a_quarter_of_the_places_is_the_lans() -> None:
    admission = Admission(connections=8, half_open=99)
    for number in range(6):
        admission.opened((f"20.{number}.0.1", 1))
    assert admission.judge(("9.9.9.9", 1), validated=True) is Verdict.REFUSE
    for port in range(2):
        assert admission.judge(("192.168.1.9", port), validated=False) is Verdict.ACCEPT
        admission.opened(("192.168.1.9", port))
    assert admission.judge(("192.168.1.9", 9), validated=False) is Verdict.REFUSE


def test_lan_neighbours_that_share_an_address_are_told_apart_by_port() -> None:
    admission = Admission(per_address=1)
    admission.opened(("127.0.0.1", 1))
    assert admission.judge(("127.0.0.1", 1), validated=True) is Verdict.REFUSE
    assert admission.judge(("127.0.0.1", 2), validated=True) is Verdict.ACCEPT


def test_one_host_of_the_lan_cannot_take_all_places_either() -> None:
    admission = Admission(per_lan_host=3)
    for port in range(3):
        admission.opened(("192.168.1.5", port))
    assert admission.judge(("192.168.1.5", 99), validated=True) is Verdict.REFUSE
    assert admission.judge(("192.168.1.6", 99), validated=True) is Verdict.ACCEPT
    for port in range(3):
        admission.ended(("192.168.1.5", port), was_finished=False)
    assert admission == Admission(per_lan_host=3)


def test_places_come_back_and_nothing_is_kept_of_those_who_left() -> None:
    admission = Admission(connections=2, half_open=2)
    for address in FAR[:2]:
        admission.opened(address)
    assert admission.judge(FAR[2], validated=True) is Verdict.REFUSE
    admission.finished(FAR[0])
    admission.ended(FAR[0], was_finished=True)
    admission.ended(FAR[1], was_finished=False)
    assert admission.judge(FAR[2], validated=False) is Verdict.ACCEPT
    assert admission == Admission(connections=2, half_open=2)


def test_asking_leaves_no_trace() -> None:
    admission = Admission()
    for address in FAR:
        admission.judge(address, validated=False)
    assert admission == Admission()
