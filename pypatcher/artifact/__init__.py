"""What is signed, and how it is found, read, checked, written (design.md "The signed file"). No sockets, no clock."""

from __future__ import annotations

from pypatcher.artifact.embed import embed_region
from pypatcher.artifact.fit import check_device, check_target, program_target
from pypatcher.artifact.hashing import find_markers, hash_file, hash_without_region
from pypatcher.artifact.locate import Carrier, Located, locate_region, scan_regions
from pypatcher.artifact.patch import MAX_FILE_SIZE, Patch, PatchInfo, make_info
from pypatcher.artifact.region import REGION_SIZE, Region, marker
from pypatcher.artifact.sections import Elf, Section, parse_elf
from pypatcher.artifact.sign import sign_file
from pypatcher.artifact.verify import (
    Release,
    VerifiedRelease,
    check_intact,
    check_release,
    read_release,
    verify_release,
)

__all__ = [
    "MAX_FILE_SIZE",
    "REGION_SIZE",
    "Carrier",
    "Elf",
    "Located",
    "Patch",
    "PatchInfo",
    "Region",
    "Release",
    "Section",
    "VerifiedRelease",
    "check_device",
    "check_intact",
    "check_release",
    "check_target",
    "embed_region",
    "find_markers",
    "hash_file",
    "hash_without_region",
    "locate_region",
    "make_info",
    "marker",
    "parse_elf",
    "program_target",
    "read_release",
    "scan_regions",
    "sign_file",
    "verify_release",
]
