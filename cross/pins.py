"""Pinned packages: name, version, hashes of their files, from ``requirements/*.txt``, which ``make pins`` writes.

A mirror or an index can then give nothing but what was there when the pins were made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from cross.workshop import REPOSITORY, StepFailedError

__all__ = ["HASHED", "PINS", "Pin", "read_pins"]

PINS = REPOSITORY / "requirements"
HASHED = ("--require-hashes", "--no-deps", "--only-binary=:all:")
"""pip's arguments: what is listed, with these hashes, and nothing else; no package's own code runs."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One package; ``text`` is its line for pip, hashes included."""

    name: str
    version: str
    text: str


def read_pins(file: Path) -> list[Pin]:
    """The packages of a file that this Python needs, which is that of the devices.

    Raises:
        StepFailedError: one has no version or no hash, or a line is something else.
    """
    pins = []
    for text in file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        line, _, hashes = text.partition("--hash=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            requirement = Requirement(line.strip())
        except InvalidRequirement as error:
            raise StepFailedError(f"{file}: {line.strip()!r} is no package: {str(error).splitlines()[0]}") from None
        versions = [specifier.version for specifier in requirement.specifier if specifier.operator == "=="]
        if len(versions) != 1 or not hashes:
            raise StepFailedError(
                f"{file}: {requirement.name} needs a version and hashes, `name==version --hash=sha256:...`, as `uv pip "
                "compile --generate-hashes` writes them (here `make pins`)"
            )
        if requirement.marker is None or requirement.marker.evaluate():
            pins.append(Pin(canonicalize_name(requirement.name), versions[0], f"{text}\n"))
    return pins
