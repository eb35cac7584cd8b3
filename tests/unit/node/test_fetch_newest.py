"""When ``fetch`` takes what it heard for the newest."""

from __future__ import annotations

import asyncio

from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.census import Census
from pypatcher.node.fetch_newest import follow_word, is_newest
from pypatcher.update.rule import OpenRule
from pypatcher.update.word import NoStore, OwnersWord
from tests.support.manifests import OWNER_KEY, TARGET, release, word

OLD = [
    Candidate(release("1.0.0"), bytes([number]) * 32, (f"198.51.{number}.7", 4433), "a meeting") for number in range(3)
]
"""Those who hold the old release, each in a network of its own."""


def test_the_first_word_is_not_the_last_before_the_pointer_is_read() -> None:
    owners, census = OwnersWord(OWNER_KEY, TARGET, NoStore()), Census(lambda: 0.0)
    rule = OpenRule(owners)
    owners.hear_at_once(word("1.0.0").encode())
    for each in OLD:
        census.add(each)
        assert not is_newest(rule, census)
    owners.hear_at_once(word("2.0.0").encode())
    owners.listened()
    assert is_newest(rule, census)
    assert rule.named == release("2.0.0")


def test_what_is_held_while_it_is_fetched_gives_way_to_stable() -> None:
    async def body() -> None:
        owners, census = OwnersWord(OWNER_KEY, TARGET, NoStore()), Census(lambda: 0.0)
        rule, named = OpenRule(owners), list[PatchInfo | None]()
        following = asyncio.create_task(follow_word(owners, census, lambda: named.append(rule.named)))
        for told in (word("2.0.0"), word("2.0.0", revision=1, hold=1, stable=release("1.0.0").to_postcard())):
            await owners.hear(told.encode())
            await asyncio.sleep(0)
        following.cancel()
        assert named[-2:] == [release("2.0.0"), release("1.0.0")]

    asyncio.run(body())


def test_without_a_word_three_networks_have_to_agree() -> None:
    rule, census = OpenRule(OwnersWord(OWNER_KEY, TARGET, NoStore())), Census(lambda: 0.0)
    agreed = []
    for each in OLD:
        census.add(each)
        agreed.append(is_newest(rule, census))
    assert agreed == [False, False, True]
