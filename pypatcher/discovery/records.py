"""Records: what a node writes into a minute slot, and how it is encrypted.

protocol.md "Records"; sans-IO. A record binds a content to a topic, a minute and the node that signed it. What the
content means is ``announcement``'s; whether the OWNER signed that is the tracker's to check. Encryption hides a record
from the DHT nodes that keep it, not from those who know the topic.

    record          = topic_hash 32 || unix_minute u64 LE || node_id 32 || content || signature 64
    EncryptedRecord = u32_le(len(A)) || A || B
                      A = seal(one_time_public, record)   B = seal(slot_encryption_public, one_time_seed), 88 bytes
"""

from __future__ import annotations

from dataclasses import dataclass

from pypatcher.discovery.hpke import SEAL_OVERHEAD, open_seal, seal
from pypatcher.discovery.slots import Slot, pack_minute
from pypatcher.errors import CodecError
from pypatcher.keys import KEY_SIZE, SIGNATURE_SIZE, KeyPair, verify_signature

__all__ = ["VALUE_LIMIT", "Record", "decrypt_record", "encrypt_record"]

VALUE_LIMIT = 996
"""Bytes of an encrypted record: BEP 44 allows 1000 as bencoded, which leaves 996 of payload."""

_HASH_SIZE = 32
_MINUTE_SIZE = 8
_HEADER_SIZE = _HASH_SIZE + _MINUTE_SIZE + KEY_SIZE
_SEALED_SEED_SIZE = KEY_SIZE + SEAL_OVERHEAD
_LENGTH_SIZE = 4


@dataclass(frozen=True, slots=True)
class Record:
    """What one node says, signed, in one slot.

    Attributes:
        topic_hash: 32 bytes.
        minute: the slot's.
        node_id: the ed25519 public key of the node, 32 bytes.
        content: what it says.
        signature: by the node, over everything before it, 64 bytes.
    """

    topic_hash: bytes
    minute: int
    node_id: bytes
    content: bytes
    signature: bytes

    @classmethod
    def make(cls, slot: Slot, identity: KeyPair, content: bytes) -> Record:
        """Sign ``content`` for that slot."""
        body = slot.topic_hash + pack_minute(slot.minute) + identity.public + content
        return cls(slot.topic_hash, slot.minute, identity.public, content, identity.sign(body))

    def pack(self) -> bytes:
        """The record's bytes, 136 more than its content."""
        return self._body() + self.signature

    @classmethod
    def unpack(cls, data: bytes) -> Record:
        """Read a record; ``verify`` says whether to believe it.

        Raises:
            CodecError: too short to be one.
        """
        if len(data) < _HEADER_SIZE + SIGNATURE_SIZE:
            raise CodecError(f"a record has at least {_HEADER_SIZE + SIGNATURE_SIZE} bytes, not {len(data)}")
        return cls(
            topic_hash=data[:_HASH_SIZE],
            minute=int.from_bytes(data[_HASH_SIZE : _HASH_SIZE + _MINUTE_SIZE], "little"),
            node_id=data[_HASH_SIZE + _MINUTE_SIZE : _HEADER_SIZE],
            content=data[_HEADER_SIZE:-SIGNATURE_SIZE],
            signature=data[-SIGNATURE_SIZE:],
        )

    def verify(self, slot: Slot) -> None:
        """Check that the record was made for that slot, by the node that it names.

        Raises:
            CodecError: another topic, another minute, or not signed by its node id.
        """
        if self.topic_hash != slot.topic_hash:
            raise CodecError("the record is for another topic")
        if self.minute != slot.minute:
            raise CodecError(f"the record is for minute {self.minute}, not {slot.minute}")
        if not verify_signature(self.node_id, self._body(), self.signature):
            raise CodecError("the record is not signed by its node id")

    def _body(self) -> bytes:
        return self.topic_hash + pack_minute(self.minute) + self.node_id + self.content


def encrypt_record(slot: Slot, record: Record) -> bytes:
    """The value to store: the record under a fresh one-time key, and that key for everybody who knows the topic.

    Raises:
        CodecError: the result would be larger than a DHT node keeps (996 bytes).
    """
    one_time = KeyPair.generate()
    sealed = seal(one_time.public, record.pack())
    value = len(sealed).to_bytes(_LENGTH_SIZE, "little") + sealed + seal(slot.encryption_key_pair.public, one_time.seed)
    if len(value) > VALUE_LIMIT:
        raise CodecError(f"an encrypted record has at most {VALUE_LIMIT} bytes, not {len(value)}")
    return value


def decrypt_record(slot: Slot, value: bytes) -> Record:
    """Open a value found in that slot and verify the record in it. Lengths are checked before anything is opened.

    Raises:
        CodecError: it is no encrypted record of this slot, or the record does not verify.
    """
    if len(value) > VALUE_LIMIT:
        raise CodecError(f"an encrypted record has at most {VALUE_LIMIT} bytes, not {len(value)}")
    size = int.from_bytes(value[:_LENGTH_SIZE], "little")
    if len(value) != _LENGTH_SIZE + size + _SEALED_SEED_SIZE:
        raise CodecError("not an encrypted record: its lengths contradict each other")
    sealed, sealed_seed = value[_LENGTH_SIZE:-_SEALED_SEED_SIZE], value[-_SEALED_SEED_SIZE:]
    one_time_seed = open_seal(slot.encryption_key_pair.seed, sealed_seed)
    record = Record.unpack(open_seal(one_time_seed, sealed))
    record.verify(slot)
    return record
