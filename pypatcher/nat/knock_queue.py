"""Which address gets the next knock, and when: ONE queue for records, swarm and LAN, with every limit on knocks.

Pure: an address goes in, and comes out when it is time for one packet. Not here: sending it (``hole_punching``), and
when two strangers knock (``punch_times``). Anybody can write anybody's address into a record or a swarm, so a fleet
must not become a weapon. The numbers are in design.md, "Opening the way":

- A stranger's host gets one packet at a time, at moments that both sides compute alike: the larger the swarm, the
  rarer, so that a whole fleet together sends an address only a few packets per minute; and half as often after each
  knock without an answer, however many ports of the host are named. A wrong clock costs the common moment alone.
- A host that is said to hold a wanted release stays less rare: it may hear of us only minutes after we heard of it.
- A host that answers as any DHT node does, and is said to hold a wanted release, may be a holder with another program:
  it is dialed from the second knock on, in a large swarm at some of the knocks.
- Knocks are limited per /24 or /48, and per source of addresses, so that no source can starve another. Until the size
  of the swarm is known it counts as large.
- What is on a link of this machine, or was heard by multicast, waits for no moment; but only what was heard has wider
  limits, for anybody can name addresses of a LAN, and nobody in it is dialed before it proved to be a member. Of what
  was heard each host has its turn, since its name can be forged as well. A host that was reached within the last hour
  gets one knock at once, and further ones at moments that ignore the size of the swarm; it has wider limits, too.
- A host that was met and is of no use rests for hours, unless its address is wanted; in a large swarm of such hosts the
  next is tried ever later. A host that was met and was busy is met again soon.

Knocks are spaced, and whoever answers first is dialed first, as connection attempts in RFC 8305.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pypatcher.addresses import Address, family, is_lan, is_loopback, machine_of, subnet_of
from pypatcher.backoff import Backoff
from pypatcher.discovery.sources import AddressLimits
from pypatcher.limits import Limit, WindowLimiter
from pypatcher.nat.peer_history import PeerHistory
from pypatcher.nat.punch_times import LAST_LEVEL, level_of_crowd, next_moment, pair_name

__all__ = ["KNOCK_SPACING", "KnockQueue"]

KNOCK_SPACING = 0.25
"""Seconds between two knocks."""

_UNKNOWN_CROWD = 64
_OPEN = 45.0
"""Seconds for which an address that answered may be dialed."""
_REST, _REST_BUSY, _REST_USELESS = 600.0, 10.0, 6 * 3600.0
"""Seconds without a knock: after an answer; after a meeting that has to be repeated, doubling; after one of no use."""
_HEARD = 45 * 60.0
"""Seconds after which an address that nobody names any more is forgotten."""
_QUIET_CROWD, _QUIET_PAUSES = 16, (15.0, 900.0)
"""In a larger crowd each host of no use lengthens the pause until the next stranger of its kind."""
_HOLDER_LEVEL = 3
"""The level up to which silence makes knocks at a holder rarer."""
_FEW, _TRIED = 4, 0.25
"""In a crowd of so few every holder that answers without the proof is dialed, in a larger one some."""
_GROUP_KNOCKS, _PROVEN_KNOCKS, _MACHINE_KNOCKS = (3, 300.0), (60, 60.0), (4, 60.0)
"""Knocks in so many seconds: at strangers of one subnet; at all who were reached lately; at one machine of the LAN."""
_REPLACED = 32


@dataclass(slots=True)
class _Entry:
    kind: AddressLimits
    heard: float
    next: float
    open_until: float = 0.0
    rest_until: float = 0.0
    busy: int = 0


class KnockQueue:
    """The addresses that one node may knock at.

    Times are monotonic seconds; ``wall`` is unix time, and only says when two strangers knock at once.

    Args:
        on_link: who is near, though nobody heard it by multicast; see ``OnLink``.
    """

    def __init__(self, rng: random.Random, *, on_link: Callable[[Address], bool]) -> None:
        self._rng = rng
        self._on_link = on_link
        self._entries: dict[Address, _Entry] = {}
        self._counts: Counter[AddressLimits] = Counter()
        self._ports: dict[str, list[Address]] = {}
        self._turns: dict[str, Address] = {}
        self._timeline: list[tuple[float, int, Address]] = []
        self._ticket = 0
        self._known = PeerHistory(rng, self._is_near)
        self._holders: frozenset[Address] = frozenset()
        self._own: dict[int, Address] = {}
        # Before it is known where others see us there are no common moments, and no two nodes need have the same.
        self._nowhere = f"nowhere-{rng.getrandbits(64):x}", 0
        self._crowd = _UNKNOWN_CROWD
        self._budget = WindowLimiter()
        self._quiet: dict[AddressLimits, tuple[Backoff, float]] = {}
        self._last_knock = float("-inf")

    def __len__(self) -> int:
        return len(self._entries)

    def seen_at(self, own: Iterable[Address], now: float, wall: float) -> None:
        """Our addresses changed to these: past silence says nothing about who can be reached from here."""
        seen: dict[int, Address] = {}
        for address in own:
            seen.setdefault(family(address), address)
        if seen == self._own:
            return
        known_before, self._own = bool(self._own), seen
        if known_before:
            self._known.forgive()
            for entry in self._entries.values():
                entry.open_until = 0.0
        self.replan(now, wall)

    def crowd(self, size: int, now: float, wall: float) -> None:
        """About so many nodes share what we hear; who cannot be among them, such as our LAN, is counted here.

        Only who answered: a neighbour with forged names must not make knocks at strangers rarer.
        """
        size += sum(entry.kind.adds_to_crowd and entry.rest_until > 0.0 for entry in self._entries.values())
        changed = level_of_crowd(size) != level_of_crowd(self._crowd)
        self._crowd = size
        if changed:
            self.replan(now, wall)

    def replan(self, now: float, wall: float) -> None:
        """The wall clock was set: compute all moments anew."""
        for address, entry in self._entries.items():
            self._plan(address, entry, now, wall)

    def prove(self, addresses: Iterable[Address], now: float) -> None:
        """These were reached in an earlier run."""
        for address in addresses:
            self._known.prove(address, now)

    def add(self, addresses: Iterable[Address], kind: AddressLimits, now: float, wall: float) -> None:
        """Hear of addresses, the most trusted first; those known already keep their place.

        Once a kind has no room left, 32 newcomers of a call replace others of it.
        """
        dropped = 0
        for address in addresses:
            known = self._entries.get(address)
            if known is not None:
                known.heard = now
                continue
            if self._counts[kind] >= kind.room:
                dropped += 1
                if dropped > _REPLACED or not self._make_room(kind, now, wall):
                    return
            entry = self._entries[address] = _Entry(kind, now, now)
            self._counts[kind] += 1
            self._ports.setdefault(machine_of(address), []).append(address)
            self._turns.setdefault(machine_of(address), address)
            self._plan(address, entry, now, wall)

    def note_holders(self, addresses: frozenset[Address], now: float, wall: float) -> None:
        """These hold a release that is wanted here, and no others do: silence makes their knocks little rarer."""
        newly, self._holders = addresses - self._holders, addresses
        for address in newly:
            if (entry := self._entries.get(address)) is not None:
                self._plan(address, entry, now, wall)
        self.end_rest(addresses, now, wall)

    def end_rest(self, addresses: Iterable[Address], now: float, wall: float) -> None:
        """These may have something for us: end their rest."""
        for address in addresses:
            entry = self._entries.get(address)
            if entry is not None and entry.rest_until > now and entry.open_until <= now:
                entry.rest_until = 0.0
                self._turns[machine_of(address)] = address
                self._plan(address, entry, now, wall)

    def knock_anew(self, now: float, wall: float) -> None:
        """Our release changed: knock at everybody again."""
        self._quiet.clear()
        self.end_rest(list(self._entries), now, wall)

    def forget(self, address: Address, now: float, wall: float) -> None:
        """Drop an address that is of no use, such as our own."""
        entry = self._entries.pop(address, None)
        if entry is None:
            return
        self._counts[entry.kind] -= 1
        ports = self._ports[machine_of(address)]
        ports.remove(address)
        if not ports:
            del self._ports[machine_of(address)], self._turns[machine_of(address)]
        elif self._turns[machine_of(address)] == address:
            self._turns[machine_of(address)] = ports[0]
            self._plan(ports[0], self._entries[ports[0]], now, wall)

    def due(self, now: float, wall: float) -> Address | None:
        """The address to knock at now, with one packet, which is counted; None when there is none."""
        if now < self._last_knock + KNOCK_SPACING:
            return None
        while self._timeline and self._timeline[0][0] <= now:
            planned, _, address = heapq.heappop(self._timeline)
            entry = self._entries.get(address)
            if entry is None or entry.next != planned:
                continue
            if now - entry.heard > _HEARD:
                self.forget(address, now, wall)
                continue
            pause = max(entry.open_until, entry.rest_until) - now
            if pause <= 0.0 and not self._may_knock(address, entry.kind, now):
                pause = max(1.0, self._quiet_until(address, entry.kind, now) - now)
            if pause > 0.0:
                self._plan(address, entry, now + pause, wall + pause)
                continue
            self._budget.count(self._limits(address, entry.kind, now), now)
            self._last_knock = now
            self._known.tried(address, now)
            self._plan(address, entry, now, wall)
            self._give_turn(address, now, wall)
            return address
        return None

    def wait(self, now: float) -> float:
        """Seconds until ``due`` may return an address."""
        soonest = self._timeline[0][0] if self._timeline else float("inf")
        return max(0.0, soonest - now, self._last_knock + KNOCK_SPACING - now)

    def answered(self, address: Address, now: float) -> None:
        """It answered a knock: the way to it is open for 45 seconds, and it is not knocked at for 10 minutes."""
        self._known.answered(address, now)
        entry = self._entries.get(address)
        if entry is not None:
            entry.open_until = now + _OPEN
            entry.rest_until = now + _REST

    def reached(self, address: Address, now: float) -> None:
        """It was dialed, or dialed us, and proved to be a node of ours: the way to it is open."""
        self._known.reached(address, now)
        self.answered(address, now)

    def useless(self, address: Address, now: float) -> None:
        """It was met: neither side has anything for the other."""
        entry = self._entries.get(address)
        if entry is not None:
            entry.rest_until, entry.busy = now + _REST_USELESS, 0
            backoff, _ = self._quiet.get(entry.kind) or (Backoff(*_QUIET_PAUSES), 0.0)
            self._quiet[entry.kind] = backoff, now + backoff.fail()

    def busy(self, address: Address, now: float, wall: float) -> None:
        """It was met, but the transfer that was due did not happen: knock soon, then ever later."""
        entry = self._entries.get(address)
        if entry is not None:
            entry.rest_until = now + min(_REST_BUSY * 2 ** min(entry.busy, 16), _REST)
            entry.open_until = 0.0
            entry.busy += 1
            self._plan(address, entry, now, wall)

    def failed(self, address: Address, now: float, wall: float) -> None:
        """It answered a knock but not when it was dialed."""
        self._known.failed(address, now)
        entry = self._entries.get(address)
        if entry is not None:
            entry.open_until = 0.0
            self._plan(address, entry, now, wall)

    def may_try(self, address: Address) -> bool:
        """Whether it is dialed now though it answered as any DHT node does; asked once after each knock.

        Never in a LAN: whoever names addresses of ours would have us dial all devices of a home.
        """
        if is_lan(address) or address not in self._holders or self._known.failures(address) < 2:
            return False
        return self._crowd <= _FEW or self._rng.random() < _TRIED

    def is_open(self, address: Address, now: float) -> bool:
        """Whether it answered within the last 45 seconds."""
        entry = self._entries.get(address)
        return entry is not None and entry.open_until > now

    def is_neighbour(self, address: Address) -> bool:
        """Whether it is on this machine, or was heard by multicast: nobody far away can name such a one."""
        entry = self._entries.get(address)
        return (entry is not None and entry.kind.are_neighbours) or is_loopback(address)

    def _is_near(self, address: Address) -> bool:
        return self.is_neighbour(address) or self._on_link(address)

    def _give_turn(self, address: Address, now: float, wall: float) -> None:
        """Give the host's turn to another of its ports, most often the one that was heard of first."""
        machine = machine_of(address)
        ports = self._ports[machine]
        if len(ports) > 1:
            self._turns[machine] = chosen = ports[0] if self._rng.random() < 0.5 else self._rng.choice(ports)
            self._plan(chosen, self._entries[chosen], now, wall)
            self._plan(address, self._entries[address], now, wall)

    def _plan(self, address: Address, entry: _Entry, now: float, wall: float) -> None:
        at = max(now, self._known.quiet_until(address, now), entry.rest_until)
        if not self._is_near(address):
            level = self._known.failures(address)
            if self._known.is_proven(address, now):
                level -= 1
            elif self._turns[machine_of(address)] != address:
                entry.next = float("inf")
                return
            else:
                crowd = level_of_crowd(self._crowd)
                level = min(crowd + level, max(crowd + 1, _HOLDER_LEVEL) if address in self._holders else LAST_LEVEL)
            if level >= 0:
                pair = pair_name(self._own.get(family(address), self._nowhere), address)
                at = next_moment(pair, min(level, LAST_LEVEL), at + wall - now) - wall + now
        entry.next = at
        self._ticket += 1
        heapq.heappush(self._timeline, (at, self._ticket, address))
        if len(self._timeline) > 4 * len(self._entries) + 64:
            # One of each: who is planned anew for the same moment stands there twice.
            self._timeline = list({item[2]: item for item in self._timeline if self._is_planned(item)}.values())
            heapq.heapify(self._timeline)

    def _is_planned(self, item: tuple[float, int, Address]) -> bool:
        entry = self._entries.get(item[2])
        return entry is not None and entry.next == item[0]

    def _may_knock(self, address: Address, kind: AddressLimits, now: float) -> bool:
        quiet_until = max(self._known.quiet_until(address, now), self._quiet_until(address, kind, now))
        return quiet_until <= now and self._budget.allows(self._limits(address, kind, now), now)

    def _quiet_until(self, address: Address, kind: AddressLimits, now: float) -> float:
        if self._crowd <= _QUIET_CROWD or self._is_near(address) or self._known.is_proven(address, now):
            return now
        return self._quiet[kind][1] if kind in self._quiet else now

    def _limits(self, address: Address, kind: AddressLimits, now: float) -> list[Limit]:
        machine = Limit(machine_of(address), *_MACHINE_KNOCKS)
        if self._known.is_proven(address, now):
            one_of_many = is_lan(address) and not is_loopback(address)
            return [Limit("proven", *_PROVEN_KNOCKS), *([machine] if one_of_many else [])]
        if self.is_neighbour(address):
            return [Limit(kind, kind.knocks, 60.0), machine]
        return [Limit(kind, kind.knocks, 60.0), Limit(subnet_of(address), *_GROUP_KNOCKS)]

    def _make_room(self, kind: AddressLimits, now: float, wall: float) -> bool:
        """Drop one of the kind, any one that is not open: a flood cannot choose who goes.

        Of neighbours one of the machine with the most ports, and none that was reached lately.
        """
        old = [address for address, entry in self._entries.items() if entry.kind is kind and entry.open_until < now]
        if kind.are_neighbours:
            old = [address for address in old if not self._known.is_proven(address, now)]
            machines = Counter(machine_of(address) for address in old)
            most = max(machines.values(), default=0)
            old = [address for address in old if machines[machine_of(address)] == most]
        if not old:
            return False
        self.forget(self._rng.choice(old), now, wall)
        return True
