"""Which entry of a full table goes first, held against the rule as it is said: searched for, with nothing kept."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pypatcher.addresses import Address, machine_of, network_of, provider_of
from pypatcher.crowds import Crowds

_HOSTS = [f"{provider}.{network}.0.{host}" for provider in (20, 30) for network in (1, 2) for host in (1, 2, 3)]
_V6 = [f"2a01:{provider}:{network}::{host}" for provider in (1, 2) for network in (1, 2) for host in (1, 2)]
_SOURCES = st.sampled_from([*_HOSTS, *_V6]).map(lambda host: (host, 6881))
_STEPS = st.lists(st.one_of(_SOURCES, st.none()), max_size=120)


def _largest(sources: dict[int, Address]) -> list[set[int]]:
    """Every entry that the rule allows, where several crowds are equally large."""
    allowed = [set(sources)]
    for part in (provider_of, network_of, machine_of):
        split = []
        for keys in allowed:
            sizes = Counter(part(sources[key]) for key in keys)
            most = [name for name, size in sizes.items() if size == max(sizes.values())]
            split += [{key for key in keys if part(sources[key]) == name} for name in most]
        allowed = split
    return allowed


@settings(deadline=None, max_examples=200)
@given(_STEPS)
def test_the_oldest_of_the_largest_crowd_goes_first(steps: list[Address | None]) -> None:
    crowds, sources = Crowds[int](), dict[int, Address]()
    for key, source in enumerate(steps):
        if source is not None:
            crowds.add(key, source)
            sources[key] = source
        elif sources:
            gone = next(iter(sources))
            crowds.remove(gone, sources.pop(gone))
        if sources:
            assert crowds.first_to_go() in {min(keys) for keys in _largest(sources)}
    while sources:
        gone = crowds.first_to_go()
        assert gone in {min(keys) for keys in _largest(sources)}
        crowds.remove(gone, sources.pop(gone))
