"""Under which addresses a node says that it can be reached, and which of another's hints are worth a packet."""

from __future__ import annotations

from pypatcher.discovery import HINT_LIMIT
from pypatcher.nat.address_hints import own_addresses, ports_everywhere

SEEN = ("203.0.113.9", 40000)


def test_what_others_see_comes_first_then_our_own_sockets() -> None:
    assert own_addresses([("192.168.1.5", 4000)], [SEEN]) == (SEEN, ("192.168.1.5", 4000))


def test_a_socket_bound_to_every_address_never_says_so() -> None:
    found = own_addresses([("0.0.0.0", 4000), ("::", 4000)], [])
    assert all(host not in ("0.0.0.0", "::") for host, _ in found)
    assert all(port == 4000 for _, port in found)


def test_there_are_eight_at_most_and_none_twice() -> None:
    seen = [SEEN, *((f"203.0.113.{number}", 1) for number in range(20)), SEEN]
    found = own_addresses([("192.168.1.5", 4000)], seen)
    assert len(found) == len(set(found)) == HINT_LIMIT
    assert found[0] == SEEN


def test_a_socket_on_loopback_has_no_port_for_others() -> None:
    assert ports_everywhere([("0.0.0.0", 6881), ("::1", 6881)]) == {4: 6881}
    assert ports_everywhere([("127.0.0.1", 1), ("::", 2)]) == {6: 2}
