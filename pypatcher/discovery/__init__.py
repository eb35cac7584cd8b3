"""Who has a release: namespaces, minute slots in the DHT, the records in them, swarms, and neighbours on the LAN.

Finds addresses. Not here: whether anybody answers there (``nat``), and whether a release is wanted (``update``).
"""

from pypatcher.discovery.announcement import HINT_LIMIT, decode_content, encode_content, is_dialable
from pypatcher.discovery.lan import Lan
from pypatcher.discovery.namespace import Namespace
from pypatcher.discovery.records import Record, decrypt_record, encrypt_record
from pypatcher.discovery.slots import Slot, unix_minute
from pypatcher.discovery.swarm import Swarm, SwarmSchedule, Visit, namespace_hash
from pypatcher.discovery.tracker import Heard, Published, Tracker

__all__ = [
    "HINT_LIMIT",
    "Heard",
    "Lan",
    "Namespace",
    "Published",
    "Record",
    "Slot",
    "Swarm",
    "SwarmSchedule",
    "Tracker",
    "Visit",
    "decode_content",
    "decrypt_record",
    "encode_content",
    "encrypt_record",
    "is_dialable",
    "namespace_hash",
    "unix_minute",
]
