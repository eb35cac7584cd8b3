"""Namespaces: what a target and an owner's key are called on the network.

design.md "Keys, targets, namespaces". Every name that peers or DHT nodes see is derived here, and the few rules in
which namespaces differ are a table here, so that no other module asks which kind it has. Nothing here knows of time
(``slots``) or of the DHT.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

from pypatcher import zbase32
from pypatcher.artifact import PatchInfo
from pypatcher.errors import SettingError
from pypatcher.keys import OwnerKey, encode_key

__all__ = ["OURS", "RUSTPATCHER", "Namespace", "SlotRules", "namespace_hash", "release_hash"]

_TARGET_NAME = re.compile(r"[a-z0-9_]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SlotRules:
    """How a kind of namespace uses its minute slots.

    Attributes:
        kind: the first word of its topics and ALPNs.
        salt_prefix: hashed in front of topic and minute to make the salt.
        full_at: a slot with this many valid records that count is full.
        counts_older: whether records of older releases than the writer's count towards a full slot.
        seq_is_version: whether an item's seq is the version; otherwise it is one above the highest in the slot.
    """

    kind: str
    salt_prefix: bytes
    full_at: int
    counts_older: bool
    seq_is_version: bool


OURS = SlotRules("pypatcher", b"salt", 5, counts_older=False, seq_is_version=True)
RUSTPATCHER = SlotRules("rustpatcher", b"", 100, counts_older=True, seq_is_version=False)


@dataclass(frozen=True, slots=True)
class Namespace:
    """Everything that devices of one target and one owner's key share.

    Made by ``Namespace.ours`` or ``Namespace.rustpatcher``.

    Attributes:
        rules: how its slots are used.
        target_name: the target's name; None in the namespace ``rustpatcher``, which has no targets.
        owner: the public key that its releases are signed with.
    """

    rules: SlotRules
    target_name: str | None
    owner: OwnerKey

    @classmethod
    def ours(cls, target: str, owner: OwnerKey) -> Namespace:
        """The namespace of pypatcher's devices of that target.

        Raises:
            SettingError: the name cannot stand in a topic (a to z, 0 to 9 and _, at most 32).
        """
        if not _TARGET_NAME.fullmatch(target):
            raise SettingError(f"target name {target!r}: use a to z, 0 to 9 and _, at most 32 characters")
        return cls(OURS, target, owner)

    @classmethod
    def rustpatcher(cls, owner: OwnerKey) -> Namespace:
        """The namespace of the Rust program ``rustpatcher`` 0.2."""
        return cls(RUSTPATCHER, None, owner)

    @property
    def name(self) -> str:
        """One word for cache folders and events, such as ``pypatcher-armv7-<z32 key>``."""
        return "-".join(self._parts())

    @property
    def topic(self) -> str:
        """``pypatcher:<target>:<z32 key>`` or ``rustpatcher:<z32 key>``."""
        return ":".join(self._parts())

    @property
    def topic_hash(self) -> bytes:
        """The 32 bytes that slots, records and info-hashes are derived from."""
        return hashlib.sha512(self.topic.encode("ascii")).digest()[:32]

    @property
    def meets(self) -> bool:
        """Whether its nodes knock at each other and meet: not in ``rustpatcher``, whose devices know slots alone."""
        return self.target_name is not None

    @property
    def alpn(self) -> str:
        """The ALPN of the v0 exchange."""
        return "/" + "/".join((*self._parts(), "v0"))

    @property
    def alpn_v1(self) -> str | None:
        """The ALPN of the v1 exchange, which does not show the owner's key; None where there is none (``rustpatcher``).

        The same for the whole fleet, and who has a copy of the program can compute it.
        """
        if not self.meets:
            return None
        return "/pypatcher/1/" + zbase32.encode(hashlib.blake2b(b"alpn", key=self.topic_hash, digest_size=20).digest())

    @property
    def offer_alpn(self) -> str | None:
        """The ALPN under which a holder dials those who want; None where there is none (``rustpatcher``)."""
        return "/" + "/".join((*self._parts(), "offer", "v0")) if self.meets else None

    def _parts(self) -> tuple[str, ...]:
        key = _owner_text(self.owner)
        return (self.rules.kind, key) if self.target_name is None else (self.rules.kind, self.target_name, key)


# A node derives its names at each look, and z-base-32 is most of the work.
_owner_text = lru_cache(maxsize=16)(encode_key)


def namespace_hash(namespace: Namespace) -> bytes:
    """The info-hash, 20 bytes, on which everybody of a namespace meets."""
    return hashlib.sha1(namespace.topic_hash + b"swarm", usedforsecurity=False).digest()


def release_hash(namespace: Namespace, info: PatchInfo) -> bytes:
    """The info-hash, 20 bytes, on which those who have a release meet those who want it."""
    name = b"release" + str(info.version).encode("ascii") + info.hash
    return hashlib.sha1(namespace.topic_hash + name, usedforsecurity=False).digest()
