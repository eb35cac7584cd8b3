"""Who is there is counted once, whoever says so: addresses, what nodes have, and who proved to be of the fleet."""

from __future__ import annotations

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.census import Census
from pypatcher.discovery.sources import AddressLimits, Found
from tests.support.discovery import node, release

KIND = AddressLimits("a test", room=8, knocks=1)
US: Address = ("203.0.113.1", 6881)
OLD, NEW, NEWER = release("1.0.0"), release("2.0.0"), release("3.0.0")


def make() -> Census:
    return Census(lambda: 0.0)


def said(number: int, info: PatchInfo, port: int = 1) -> Candidate:
    return Candidate(info, node(number).public, (f"198.51.100.{number}", port), "a test")


def test_an_address_that_is_worth_no_packet_is_not_counted() -> None:
    census = make()
    there, ours = ("198.51.100.7", 1), ("127.0.0.1", 1)
    left = census.hear(Found(KIND, [there, ours, US], [said(1, NEW), Candidate(NEW, b"", US, "a test")]), [US])
    assert list(left.addresses) == list(census.heard) == [there, ("198.51.100.1", 1)]
    assert left.candidates == census.releases()[NEW] == [said(1, NEW)]


def test_who_turned_out_to_be_us_is_not_counted_again_until_we_move() -> None:
    census, found = make(), Found(KIND, [("198.51.100.7", 1)])
    census.hear(found, [US])
    census.is_us(("198.51.100.7", 1))
    census.hear(found, [US])
    assert not census.heard
    census.hear(found, [("203.0.113.2", 6881)])
    assert census.heard


def test_what_turned_out_to_be_us_is_bounded() -> None:
    census = make()
    for number in range(5000):
        census.is_us((f"198.51.{number >> 8}.{number & 255}", 1))
    assert len(census._ourselves) == 4096


def test_a_nodes_word_is_the_newest_version_that_it_named() -> None:
    census = make()
    for word in (said(1, NEW), said(1, OLD), said(2, OLD), said(2, NEW, port=2), said(3, OLD)):
        census.hear(Found(KIND, candidates=[word]), [US])
    assert (census.voices, str(census.newest_version)) == (3, "2.0.0")
    assert census.named(NEW.version) == {NEW: 2}
    assert census.named(OLD.version) == {OLD: 1}


def test_a_crowd_of_voices_does_not_drown_a_newer_one() -> None:
    census = make()
    crowd = [Candidate(NEW, number.to_bytes(32, "big"), ("198.51.100.1", 1), "a test") for number in range(5000)]
    census.hear(Found(KIND, candidates=crowd), [US])
    assert census.voices == 4096
    census.add(said(1, NEWER))
    assert census.newest == said(1, NEWER)


def test_news_are_told_of_a_change_and_of_a_look_in_vain() -> None:
    census = make()
    told = census.news.next
    census.hear(Found(KIND), [US])
    assert not told.is_set()
    census.hear(Found(KIND, is_look=True), [US])
    assert told.is_set()
    assert (census.looks, census.found_by_look) == (1, 0)
    census.hear(Found(KIND, [("198.51.100.8", 1)], is_answer=True), [US])
    assert (census.looks, census.answers) == (1, 1)
    for tell in (lambda: census.hear(Found(KIND, [("198.51.100.7", 1)]), [US]), lambda: census.add(said(1, NEW))):
        told = census.news.next
        tell()
        assert told.is_set()


def test_only_who_was_met_counts_and_one_for_each_network() -> None:
    census = Census(lambda: 5.0)
    old, new = OLD, NEW
    forged = [Candidate(old, bytes([number]) * 32, ("203.0.113.7", 4000 + number), "a test") for number in range(6)]
    census.hear(Found(KIND, candidates=forged), ())
    assert (census.voices, census.met(old.version).total(), census.last_met) == (6, 0, None)
    for number in range(6):
        census.meet(("203.0.113.7", 4000 + number), [old])
        census.meet((f"203.0.113.{number}", 4000), [old])
    assert (census.met(old.version).total(), census.last_met) == (1, 5.0)
    for number in range(3):
        census.meet((f"198.51.{number}.7", 4000), [new, old])
    assert census.met(new.version)[new] == 3
    census.meet(("198.51.0.8", 4000), [old])
    assert (census.met(new.version).total(), census.met(old.version).total()) == (2, 2)


def test_who_answers_from_many_addresses_makes_nobody_else_forgotten() -> None:
    """The attack: dial us from as many ports, or /64s, as are remembered: those who gave the word were not asked."""
    census = make()
    honest = [(f"198.51.{number}.7", 6881) for number in range(30)]
    for address in honest:
        census.prove(address)
    for number in range(5000):
        census.prove(("203.0.113.9", 1024 + number))
        census.prove((f"2001:db8:0:{number:x}::1", 6881))
    assert len(census.proven) == 4096
    assert set(honest) <= set(census.proven)
    census.prove(honest[0])
    assert list(census.proven)[-1] == honest[0]


def test_who_names_many_addresses_crowds_out_no_holder() -> None:
    """The attack: the true newest release under 600 node ids, at made-up addresses, or at one host's ports."""
    census = make()
    honest = [Candidate(NEW, node(number).public, (f"198.51.{number}.7", 1), "a test") for number in range(5)]
    for each in honest:
        census.prove(each.address)
    census.hear(Found(KIND, candidates=honest), [US])
    for number in range(600):
        made_up = (f"20.{number & 127}.{number >> 7}.1", 1)
        census.hear(Found(KIND, candidates=[Candidate(NEW, bytes([1]) * 32, made_up, "a test")]), [US])
    assert set(honest) <= set(census.releases()[NEW])
    for number in range(600):
        census.prove(("203.0.113.9", 1000 + number))
        census.add(Candidate(NEW, bytes([2]) * 32, ("203.0.113.9", 1000 + number), "a test"))
    assert set(honest) <= set(census.releases()[NEW])
    assert len(census.releases()[NEW]) == 512
