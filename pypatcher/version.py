"""The version of an application: three numbers, their text, and the integer that DHT nodes compare.

design.md "The signed file" (text of at most 16 bytes, NUL-padded) and "Discovery" (seq). A device compares versions;
nothing else about a release orders it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Self

from pypatcher.errors import VersionError

__all__ = ["REVISION_LIMIT", "TEXT_SIZE", "Version"]

TEXT_SIZE = 16
"""Bytes of the version field in a region."""

_COMPONENT_LIMIT = 1 << 31
_MAJOR_BITS, _MINOR_BITS, _PATCH_BITS, _REVISION_BITS = 13, 14, 14, 12
REVISION_LIMIT = 1 << _REVISION_BITS
"""Revisions of one version's manifest: the low bits of its seq count them."""
_CANONICAL = re.compile(r"(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,9})", re.ASCII)


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """``major.minor.patch``, each from 0 to 2**31 - 1, at most 16 characters together; compares with subclasses too.

    Raises:
        VersionError: a component is negative or too large, or the text does not fit its 16 bytes.
    """

    major: int
    minor: int
    patch: int

    def __post_init__(self) -> None:
        if not all(0 <= number < _COMPONENT_LIMIT for number in (self.major, self.minor, self.patch)):
            raise VersionError(f"version numbers go from 0 to {_COMPONENT_LIMIT - 1}: {self}")
        if len(str(self)) > TEXT_SIZE:
            raise VersionError(f"version {self} is longer than {TEXT_SIZE} characters")

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def __eq__(self, other: object) -> bool:
        return self._numbers() == other._numbers() if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._numbers() < other._numbers() if isinstance(other, Version) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._numbers())

    def _numbers(self) -> tuple[int, int, int]:
        return self.major, self.minor, self.patch

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read canonical decimal text: ``1.2.3``, no sign, no leading zero, no suffix.

        Raises:
            VersionError: the text is anything else.
        """
        match = _CANONICAL.fullmatch(text)
        if match is None:
            raise VersionError(f"{text!r} is not a version: write MAJOR.MINOR.PATCH, such as 1.4.0")
        return cls(*map(int, match.groups()))

    def to_field(self) -> bytes:
        """The 16 bytes of a region's version field."""
        return str(self).encode("ascii").ljust(TEXT_SIZE, b"\0")

    @classmethod
    def from_field(cls, field: bytes) -> Self:
        """Read a region's version field: canonical text, then NUL bytes only.

        Raises:
            VersionError: the field is not 16 bytes, or not of that form.
        """
        if len(field) != TEXT_SIZE:
            raise VersionError(f"a version field has {TEXT_SIZE} bytes, not {len(field)}")
        try:
            text = field.rstrip(b"\0").decode("ascii")
        except UnicodeDecodeError:
            raise VersionError(f"version field {field!r} is not ASCII") from None
        return cls.parse(text)

    def seq(self, revision: int = 0) -> int:
        """The version as a BEP 44 sequence number of at most 53 bits (design.md "Discovery").

        Raises:
            VersionError: major is above 8191, minor or patch above 16383, or revision above 4095.
        """
        fields = (
            ("major", self.major, _MAJOR_BITS),
            ("minor", self.minor, _MINOR_BITS),
            ("patch", self.patch, _PATCH_BITS),
            ("revision", revision, _REVISION_BITS),
        )
        number = 0
        for name, value, bits in fields:
            if not 0 <= value < 1 << bits:
                raise VersionError(f"version {self}: {name} must be at most {(1 << bits) - 1} to be announced")
            number = number << bits | value
        return number
