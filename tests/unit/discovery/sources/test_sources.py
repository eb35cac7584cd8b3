"""What all sources of addresses have in common: budgets of their own, and what a namespace uses."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

from pypatcher.discovery import Namespace
from pypatcher.discovery.sources import AddressSource, Surroundings, open_sources
from pypatcher.settings import Settings
from tests.support.discovery import OURS, RUST, node


def sources(namespace: Namespace) -> list[AddressSource]:
    place = SimpleNamespace(
        namespace=namespace, identity=node(1), dht=None, ports={}, joined=None, mapped_port=lambda: None
    )
    return open_sources(
        Surroundings(cast("Any", place), Settings(), lambda _: None, random.Random(1), clock=lambda: 0.0)
    )


def test_no_two_sources_share_a_name_or_a_budget() -> None:
    found = sources(OURS)
    kinds = [kind for source in found for kind in source.limits]
    assert len({source.name for source in found}) == len(found)
    assert len({kind.name for kind in kinds}) == len(kinds)


def test_all_sources_together_have_less_than_a_knock_a_second() -> None:
    kinds = [kind for source in sources(OURS) for kind in source.limits]
    assert sum(kind.knocks for kind in kinds if not kind.are_neighbours) < 60
    assert sum(kind.knocks for kind in kinds if kind.are_neighbours) <= 300  # which stay in the LAN


def test_where_nodes_do_not_meet_slots_are_the_only_source() -> None:
    assert [source.name for source in sources(RUST)] == ["slots"]
