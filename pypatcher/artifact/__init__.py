"""The signed file: how its region is found, read, checked and written (design.md "The signed file").

Not here: sockets, clocks, and what a device has installed or wants (``install``).
"""

from __future__ import annotations

from pypatcher.artifact.embed import embed_region
from pypatcher.artifact.fit import check_device, check_target, program_target
from pypatcher.artifact.locate import Carrier, locate_region, scan_regions
from pypatcher.artifact.patch import Patch, PatchInfo, make_info
from pypatcher.artifact.region import REGION_SIZE
from pypatcher.artifact.sign import sign_file
from pypatcher.artifact.verify import (
    VerifiedRelease,
    check_intact,
    check_release,
    read_release,
    verify_release,
)

__all__ = [
    "REGION_SIZE",
    "Carrier",
    "Patch",
    "PatchInfo",
    "VerifiedRelease",
    "check_device",
    "check_intact",
    "check_release",
    "check_target",
    "embed_region",
    "locate_region",
    "make_info",
    "program_target",
    "read_release",
    "scan_regions",
    "sign_file",
    "verify_release",
]
