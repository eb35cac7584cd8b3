"""Pure functions of the product that a simulated fleet calls millions of times with the same arguments: remembered.

A device computes each for itself; one process that plays 10,000 of them need not verify a signature 10,000 times. Only
functions whose result follows from their arguments alone, and that cannot be changed by who gets it.
"""

from __future__ import annotations

import functools
import ipaddress
import sys
from collections.abc import Callable
from typing import Any

from pypatcher import addresses
from pypatcher.artifact.patch import PatchInfo
from pypatcher.dht import krpc, nodeid
from pypatcher.mutable_item import MutableItem

__all__ = ["remember"]

_FUNCTIONS: list[Callable[..., Any]] = [
    addresses.host_of,
    addresses.is_lan,
    addresses.network_of,
    addresses.pack_compact,
    addresses.provider_of,
    addresses.unpack_compact,
    addresses._place,
    krpc.is_usable,
    krpc._is_host,
    nodeid._prefix,
]
_METHODS = [(MutableItem, "verify"), (PatchInfo, "is_signed_by")]
_MOST = 1 << 20


def remember() -> None:
    """From now on, wherever they are imported."""
    for function in _FUNCTIONS:
        plain = getattr(function, "__wrapped__", function)
        kept = functools.lru_cache(_MOST)(plain)
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == "pypatcher":
                for own, value in list(vars(module).items()):
                    if value is function:
                        setattr(module, own, kept)
    for owner, name in [*_METHODS, (ipaddress, "ip_address")]:
        setattr(owner, name, functools.lru_cache(_MOST)(getattr(owner, name)))
