"""Says when a release that a node offers cannot spread: the fleet has another file of its version, or a newer version.

All of these releases are the owner's. Not here: which release a device takes (``update``).
"""

from __future__ import annotations

from pypatcher.artifact import PatchInfo
from pypatcher.artifact.manifest import Manifest
from pypatcher.discovery.census import Census
from pypatcher.events import Emit, ReleaseConflicts

__all__ = ["Conflicts"]


class Conflicts:
    """Says each conflict once.

    Args:
        newer: whether a newer release is one, too; a device simply takes it.
    """

    def __init__(self, emit: Emit, *, newer: bool) -> None:
        self._emit = emit
        self._newer = newer
        self._said: set[tuple[PatchInfo, str]] = set()
        self._wordless: set[str] = set()
        self._contested: set[PatchInfo] = set()
        self._twice: set[int] = set()

    def look(self, ours: PatchInfo, census: Census) -> None:
        """Compare what is offered here with what others said to have."""
        if any(info != ours for info in census.named(ours.version)):
            self._say(
                ours,
                "the fleet has other bytes under this version, and no device that has them takes these: "
                "release it again under a higher version",
            )
        if self._newer and census.newest_version > ours.version:
            newest = census.newest_version
            self._say(ours, f"the fleet has {newest}, which is newer: no device that has it takes this")

    def look_at_word(self, word: Manifest | None, signed_twice: int = -1) -> None:
        """Say it if the owner signed two releases under the version that his newest word is about, or two words.

        Args:
            signed_twice: the seq under which two words were heard.
        """
        if word is not None and word.seq == signed_twice and signed_twice not in self._twice:
            self._twice.add(signed_twice)
            self._emit(
                ReleaseConflicts(
                    str(word.terms.info.version),
                    f"the owner signed two manifests as revision {word.revision}: devices obey the one that holds "
                    "more. Say again what holds by `pypatcher rollout`",
                )
            )
        if word is not None and word.is_contested and word.terms.info not in self._contested:
            self._contested.add(word.terms.info)
            self._emit(
                ReleaseConflicts(
                    str(word.terms.info.version),
                    "the owner signed two releases under this version, and no device goes on with either: sign another",
                )
            )

    def lacks_word(self, version: str) -> None:
        """The owner signed a release, and said nothing more about it for so long that he may have forgotten it."""
        if version not in self._wordless:
            self._wordless.add(version)
            self._emit(
                ReleaseConflicts(
                    version,
                    "the owner signed it, and no manifest of it is heard: no device that knows one takes it. Publish "
                    "its manifest, or sign a higher version with one",
                )
            )

    def _say(self, ours: PatchInfo, reason: str) -> None:
        if (ours, reason) not in self._said:
            self._said = {known for known in self._said if known[0] == ours} | {(ours, reason)}
            self._emit(ReleaseConflicts(str(ours.version), reason))
