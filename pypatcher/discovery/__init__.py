"""Who has a release: namespaces, minute slots and their records, sources of addresses, and the census over them.

Finds addresses. Not here: whether anybody answers there (``nat``), and whether a release is wanted (``update``).
"""

from pypatcher.discovery.announcement import HINT_LIMIT, decode_content, encode_content, is_dialable
from pypatcher.discovery.namespace import Namespace, namespace_hash
from pypatcher.discovery.records import Record, decrypt_record, encrypt_record
from pypatcher.discovery.slots import Slot, unix_minute
from pypatcher.discovery.tracker import HeardRecord, Published, Tracker

__all__ = [
    "HINT_LIMIT",
    "HeardRecord",
    "Namespace",
    "Published",
    "Record",
    "Slot",
    "Tracker",
    "decode_content",
    "decrypt_record",
    "encode_content",
    "encrypt_record",
    "is_dialable",
    "namespace_hash",
    "unix_minute",
]
