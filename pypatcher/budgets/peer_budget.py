"""How much failure a release and an address may cost: bytes, pauses, and whom to ask first.

design.md "Transport and transfer": budgets belong to the release and to the address, not to the node id, which costs
nothing. Pure; the clock is passed in (monotonic seconds). Tables are bounded; what was used least recently goes first.
Not here: what counts as a failure (the updater).
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from pypatcher.addresses import Address, format_address, is_lan, is_loopback, network_of
from pypatcher.backoff import Backoff
from pypatcher.bounded import bound, note
from pypatcher.budgets.intake import Intake
from pypatcher.limits import DaySums

__all__ = ["FetchBudget", "Turns", "rank_addresses"]

Key = TypeVar("Key")

_FAILED_BYTES_FACTOR, _FAILED_BYTES_FACTOR_LAN, _FAILED_BYTES_FACTOR_DAY = 3, 6, 15
_FIRST_PAUSE = 30.0
_LONGEST_PAUSE = 6 * 3600.0
_UNREACHABLE_PAUSES = (10.0, 3600.0)
_BUSY_PAUSE = 30.0


@dataclass(slots=True)
class _Account:
    backoff: Backoff
    failed_bytes: int = 0
    until: float = 0.0

    def pause(self, now: float) -> None:
        self.until = now + self.backoff.fail()


class FetchBudget:
    """Failed bytes per release, and growing pauses per group of addresses.

    A group (a /24 or /48; on the LAN one host; on loopback one port) pauses after each fetch that failed through
    its fault, twice as long as the last time, up to 6 hours. When a release has cost 3 times its size in failed
    bytes of strangers, strangers pause for it in the same way; the LAN when it has cost 6 times its size there; and
    either side for 6 hours when that side has cost 15 times its size in a day: neither can shut out the other. Who
    delivered before may still be asked: so a flash card is written to a bounded number of times, however many
    addresses an attacker has. Nobody outside the LAN is asked once the day's bytes are used up.

    Args:
        intake: our own limits of what is taken.
    """

    def __init__(self, intake: Intake | None = None) -> None:
        self._intake = intake or Intake()
        self._groups: OrderedDict[str, _Account] = OrderedDict()
        self._releases: OrderedDict[tuple[str, bool], _Account] = OrderedDict()
        self._failed_today: OrderedDict[tuple[str, bool], DaySums] = OrderedDict()
        self._wasted = DaySums()
        self._silent: OrderedDict[Address, _Account] = OrderedDict()
        self._good: OrderedDict[Address, None] = OrderedDict()
        self._strangers_asked: OrderedDict[str, None] = OrderedDict()

    def failed(self, release: str, size: int, address: Address, received: int, now: float) -> None:
        """Count a failed fetch of ``received`` bytes; ``release`` names it, ``size`` is its size in bytes."""
        _account(self._groups, _group(address), _FIRST_PAUSE, _LONGEST_PAUSE).pause(now)
        self._good.pop(address, None)
        self._count(release, size, is_lan(address), received, now)

    def waste(self, address: Address, received: int, now: float) -> tuple[int, int]:
        """Note what was written in vain, whosever fault; the bytes of 24 hours, from the LAN and from elsewhere."""
        self._wasted.add(("LAN" if is_lan(address) else "elsewhere",), received, now)
        sums = self._wasted.total(("LAN", "elsewhere"), now)
        return sums["LAN"], sums["elsewhere"]

    def unreachable(self, address: Address, now: float) -> None:
        """Count an attempt that cost no more than a few packets: that address alone pauses, up to an hour."""
        _account(self._silent, address, *_UNREACHABLE_PAUSES).pause(now)

    def busy(self, address: Address, now: float) -> None:
        """It has no place for us just now: that address alone pauses, never for longer than 30 s."""
        account = _account(self._silent, address, *_UNREACHABLE_PAUSES)
        account.until = max(account.until, now + _BUSY_PAUSE)

    def slow(self, release: str, size: int, address: Address, received: int, now: float) -> None:
        """Count a fetch that was given up for another one: no fault, but its group pauses and its bytes count."""
        _account(self._groups, _group(address), _FIRST_PAUSE, _LONGEST_PAUSE).pause(now)
        self._count(release, size, is_lan(address), received, now)

    def delay_strangers(self, release: str, seconds: float, now: float) -> None:
        """Strangers are not asked for this release for some seconds."""
        account = _account(self._releases, (release, False), _FIRST_PAUSE, _LONGEST_PAUSE)
        account.until = max(account.until, now + seconds)

    def first_stranger(self, release: str) -> bool:
        """Whether nobody outside the LAN was asked for this release yet; says so once."""
        if release in self._strangers_asked:
            return False
        note(self._strangers_asked, release, None)
        return True

    def succeeded(self, address: Address) -> None:
        """Remember that this address delivered, and forget what its group did before."""
        self._groups.pop(_group(address), None)
        self._silent.pop(address, None)
        note(self._good, address, None)

    def wait(self, release: str, address: Address, now: float) -> float:
        """Seconds until this address may be asked for this release; 0 is at once."""
        accounts = [self._groups.get(_group(address)), self._silent.get(address)]
        if address not in self._good:
            accounts.append(self._releases.get((release, is_lan(address))))
        pauses = [account.until - now for account in accounts if account and account.until > now]
        return max(self._intake.wait(address), *pauses, 0.0)

    def _count(self, release: str, size: int, in_lan: bool, received: int, now: float) -> None:
        account = _account(self._releases, (release, in_lan), _FIRST_PAUSE, _LONGEST_PAUSE)
        account.failed_bytes += received
        if account.failed_bytes >= (_FAILED_BYTES_FACTOR_LAN if in_lan else _FAILED_BYTES_FACTOR) * size:
            account.failed_bytes = 0
            account.pause(now)
        today = self._failed_today.setdefault((release, in_lan), DaySums())
        bound(self._failed_today)
        today.add((release,), received, now)
        if today.total((release,), now)[release] >= _FAILED_BYTES_FACTOR_DAY * size:
            account.until = max(account.until, now + _LONGEST_PAUSE)

    @property
    def good(self) -> Collection[Address]:
        """Addresses that delivered, oldest first."""
        return self._good.keys()


def rank_addresses(addresses: Iterable[Address], good: Collection[Address]) -> list[Address]:
    """Whom to ask first: who delivered before, then the LAN and the rest by turns, each in the order given.

    By turns: anybody anywhere can write addresses of our LAN into a record, and each costs the time of a dial in vain.
    """
    known = list(dict.fromkeys(addresses))
    others = [address for address in known if address not in good]
    near = [address for address in others if is_lan(address)]
    far = [address for address in others if not is_lan(address)]
    return [*(address for address in known if address in good), *_by_turns(near, far)]


class Turns:
    """In what order the holders of one release are asked: each once a round, whoever is new by turns with the rest."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._pending: list[Address] = []
        self._seen: set[Address] = set()

    def order(self, addresses: Collection[Address], good: Collection[Address]) -> list[Address]:
        """Those of ``addresses`` whose turn is still to come in this round.

        By chance but for `rank_addresses`: uploads spread over the holders, and nobody can talk himself to the front.
        """
        there = set(addresses)
        fresh = sorted(there - self._seen)
        self._seen = there
        pending = [address for address in self._pending if address in there]
        self._pending = _by_turns(rank_addresses(self._rng.sample(fresh, len(fresh)), good), pending)
        return self._pending

    def asked(self, address: Address) -> None:
        """Its turn was now."""
        self._pending.remove(address)

    def restart(self) -> None:
        """A new round begins."""
        self._pending, self._seen = [], set()


def _by_turns(ones: Iterable[Address], others: Iterable[Address]) -> list[Address]:
    return [address for pair in zip_longest(ones, others) for address in pair if address is not None]


def _group(address: Address) -> str:
    if is_loopback(address):
        return format_address(address)
    return network_of(address)


def _account(table: OrderedDict[Key, _Account], key: Key, first_pause: float, longest_pause: float) -> _Account:
    account = table.get(key)
    if account is None:
        account = table[key] = _Account(Backoff(first_pause, longest_pause))
        bound(table)
    table.move_to_end(key)
    return account
