"""Namespaces: every name derived from an owner's key and a target, none of which may meet another's."""

from __future__ import annotations

import pytest

from pypatcher.discovery import Namespace
from pypatcher.errors import SettingError
from pypatcher.keys import OwnerKey, encode_key
from tests.support.discovery import OWNER

KEY = OwnerKey(OWNER.public)
TEXT = encode_key(KEY)


def test_ours_names_target_and_key_everywhere() -> None:
    namespace = Namespace.ours("armv7", KEY)
    assert namespace.topic == f"pypatcher:armv7:{TEXT}"
    assert namespace.alpn == f"/pypatcher/armv7/{TEXT}/v0"
    assert namespace.offer_alpn == f"/pypatcher/armv7/{TEXT}/offer/v0"
    assert namespace.name == f"pypatcher-armv7-{TEXT}"


def test_the_rust_programs_namespace_names_the_key_alone() -> None:
    namespace = Namespace.rustpatcher(KEY)
    assert namespace.topic == f"rustpatcher:{TEXT}"
    assert namespace.alpn == f"/rustpatcher/{TEXT}/v0"
    assert namespace.offer_alpn is None
    assert namespace.name == f"rustpatcher-{TEXT}"


def test_targets_and_owners_do_not_meet() -> None:
    other = OwnerKey(bytes(32))
    spaces = [Namespace.ours("armv7", KEY), Namespace.ours("aarch64", KEY), Namespace.ours("armv7", other)]
    spaces.append(Namespace.rustpatcher(KEY))
    assert len({space.topic_hash for space in spaces}) == len({space.name for space in spaces}) == 4


@pytest.mark.parametrize("name", ["", "../x", "a:b", "a/b", "ARMV7", "a" * 33, "armv7\n", "ärm"])
def test_a_target_name_that_would_change_a_topics_meaning_is_refused(name: str) -> None:
    with pytest.raises(SettingError):
        Namespace.ours(name, KEY)
