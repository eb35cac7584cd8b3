"""A device in a few facts: its disk, the process that runs, and what a bystander remembers; and what may happen to it.

A `DeviceState` is what ``install_explore`` visits and counts; ``install_device`` has its events, ``install_invariants``
what must be true of it at every moment. The functions here read what is on its disk, and remember it: exploring asks
the same thing very often.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import NamedTuple

from pypatcher.artifact import VerifiedRelease
from pypatcher.install.decide import Limits
from pypatcher.install.trial import TrialState, decode_state
from tests.support.simdisk import Image
from tests.support.text_programs import program, release_of

__all__ = [
    "STATE_FILE",
    "Counts",
    "DeviceState",
    "InvariantError",
    "Scenario",
    "count",
    "release",
    "state_on",
    "unused_boot",
    "unused_pid",
]

STATE_FILE = "trial.json"

Counts = tuple[tuple[bytes, int], ...]


class InvariantError(AssertionError):
    """An invariant of install.md does not hold."""


class DeviceState(NamedTuple):
    """A device.

    Attributes:
        disk: what is on it.
        running: pid and content of the program that runs, if one does.
        launcher: who launched it.
        boot: the kernel's boot id.
        second: whether a second process of the program runs.
        by_hand: whether a person put the content at P there, or changed J, since a start last finished.
        torn_by_hand: whether that was done in place and not synced.
        failures, cuts: per content: ends of it that nobody asked for, and power cuts under it.
        refused: hashes that a finished transaction refused.
        let_in: per content: how often it got another trial.
    """

    disk: Image
    running: tuple[int, bytes] | None = None
    launcher: str = ""
    boot: str = "b0"
    second: bool = False
    by_hand: bool = True
    torn_by_hand: bool = False
    failures: Counts = ()
    cuts: Counts = ()
    refused: frozenset[bytes] = frozenset()
    let_in: Counts = ()

    @property
    def program(self) -> bytes:
        """What is at P."""
        return self.disk.content("P") or b""


@dataclass(frozen=True)
class Scenario:
    """What may happen.

    Attributes:
        programs: every program in the world; the first is installed.
        crashing: those that always end by themselves.
        disowned: those of them that trust another key than signed them.
        releases: what peers offer, in order.
        launchers: who starts the program; in fair weather the first of them does.
        hands: what a person may put at P, by mv.
        race: the person does it between any two operations of a start.
        scp: the person does it in place as well, also just after a start's **Begin**, and copies J back.
        words: what the owner says, in order; the device may hear any of them while its program runs.
        time: it passes, so that a release that failed its trial may get another.
        parts: a release comes in parts, from several peers, and its tree lies behind it meanwhile.
        full: the disk is full from any operation of a transaction on that needs room, until that transaction ends.
    """

    programs: tuple[bytes, ...]
    crashing: frozenset[bytes]
    releases: tuple[bytes, ...]
    disowned: frozenset[bytes] = frozenset()
    launchers: tuple[str, ...] = ("run",)
    hands: tuple[bytes, ...] = ()
    words: tuple[bytes, ...] = ()
    scp: bool = False
    race: bool = False
    damage: bool = False
    rollback: bool = False
    second: bool = False
    parts: bool = False
    full: bool = False
    time: bool = False
    cuts: bool = True
    links: bool = True
    limits: Limits = field(default_factory=lambda: Limits(failed=2, reboots=2, again=(1,)))
    without_sync: str | None = None

    def without(self, fsync: str) -> Scenario:
        """The same with one fsync of the code under test taken away; see `Exploration.syncs`."""
        return replace(self, without_sync=fsync)

    @staticmethod
    def of(crashing: str = "", releases: str = "2", disowned: str = "", **settings: object) -> Scenario:
        """Programs by the major number of their version: ``Scenario.of(crashing="2", releases="23")``."""
        known = {number: program(f"{number}.0.0") for number in "1239"}
        return Scenario(
            programs=tuple(known.values()),
            crashing=frozenset(known[number] for number in crashing),
            releases=tuple(known[number] for number in releases),
            disowned=frozenset(known[number] for number in disowned),
            **settings,  # type: ignore[arg-type]
        )


@cache
def release(data: bytes) -> VerifiedRelease:
    """What the bytes are as a release."""
    return release_of(data)


@lru_cache(maxsize=1 << 16)
def _state(data: bytes) -> TrialState | None:
    return decode_state(data)


def state_on(image: Image) -> TrialState | None:
    """J."""
    data = image.content(STATE_FILE)
    return None if data is None else _state(data)


@lru_cache(maxsize=1 << 12)
def count(counts: Counts, content: bytes, limit: int) -> Counts:
    """One more, no further than ``limit``."""
    known = dict(counts)
    known[content] = min(known.get(content, 0) + 1, limit)
    return tuple(sorted(known.items()))


@lru_cache(maxsize=1 << 16)
def unused_boot(image: Image, current: str) -> str:
    """The first boot id that is neither current nor mentioned on the disk."""
    for number in range(9):
        name = f"b{number}"
        if name != current and not any(f'"{name}"'.encode() in visible for visible, _ in image.inodes):
            return name
    raise AssertionError("too many boots on the disk")


@lru_cache(maxsize=1 << 16)
def unused_pid(image: Image) -> int:
    """The first pid that is not mentioned on the disk, nor the next one."""
    for pid in range(1, 20, 2):
        if not any(
            f'"pid": {known},'.encode() in content
            for both in image.inodes
            for content in both
            for known in (pid, pid + 1)
        ):
            return pid
    raise AssertionError("too many pids on the disk")
