"""A device in a few facts, everything that can happen to it, and what must be true at every moment.

The world is one disk, the process that runs, and what a bystander remembers. Each event runs the real code of
``install/`` on a `SimDisk`; every operation before which it could be killed or lose power gives further worlds.
`explore` visits them all. `check_recovery` follows fair weather from a world to its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from pypatcher.errors import PatcherError
from pypatcher.install.decide import Limits
from pypatcher.install.folder import Installation
from pypatcher.install.settling import Settled
from pypatcher.install.starts import Caller, Launcher
from pypatcher.install.trial import ProgramId, TrialState, decode_state, encode_state
from pypatcher.keys import OwnerKey
from tests.support.simdisk import TORN, Image, SimDisk, cut_images
from tests.support.text_programs import Released, program, release_of

__all__ = ["Exploration", "InvariantError", "Scenario", "World", "explore"]

_PROGRAM = Path("/d/P")
_J = "trial.json"


class InvariantError(AssertionError):
    """An invariant of INSTALL.md does not hold."""


class World(NamedTuple):
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
    """

    disk: Image
    running: tuple[int, bytes] | None = None
    launcher: str = ""
    boot: str = "b0"
    second: bool = False
    by_hand: bool = True
    torn_by_hand: bool = False
    failures: tuple[tuple[bytes, int], ...] = ()
    cuts: tuple[tuple[bytes, int], ...] = ()
    refused: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class Scenario:
    """What may happen.

    Attributes:
        programs: every program in the world; the first is installed.
        crashing: those that always end by themselves.
        releases: what peers offer, in order.
        hands: what a person may put at P, by mv.
        race: the person does it between any two operations of a start.
        scp: the person does it in place as well, also just after a start's **Begin**, and copies J back.
    """

    programs: tuple[bytes, ...]
    crashing: frozenset[bytes]
    releases: tuple[bytes, ...]
    launchers: tuple[str, ...] = ("run",)
    hands: tuple[bytes, ...] = ()
    scp: bool = False
    race: bool = False
    damage: bool = False
    rollback: bool = False
    second: bool = False
    full: bool = False
    cuts: bool = True
    links: bool = True
    limits: Limits = field(default_factory=lambda: Limits(failed=2, reboots=2))
    without_sync: str | None = None

    def without(self, fsync: str) -> Scenario:
        """The same with one fsync of the code under test taken away; see `Exploration.syncs`."""
        return replace(self, without_sync=fsync)

    @staticmethod
    def of(crashing: str = "", releases: str = "2", **settings: object) -> Scenario:
        """Programs by the major number of their version: ``Scenario.of(crashing="2", releases="23")``."""
        known = {number: program(f"{number}.0.0") for number in "1239"}
        return Scenario(
            programs=tuple(known.values()),
            crashing=frozenset(known[number] for number in crashing),
            releases=tuple(known[number] for number in releases),
            **settings,  # type: ignore[arg-type]
        )


@dataclass
class Exploration:
    """What was found on the way."""

    worlds: int = 0
    points: int = 0
    images: int = 0
    syncs: set[str] = field(default_factory=set)
    complete: bool = True


class _Run(NamedTuple):
    """A piece of code that ran on a world's disk: where it could be interrupted, and the disk at its end."""

    disk: SimDisk
    points: list[Image]
    end: Image
    result: object


_releases: dict[bytes, Released] = {}
_states: dict[bytes, TrialState | None] = {}


def _release(data: bytes) -> Released:
    if data not in _releases:
        _releases[data] = release_of(data)
    return _releases[data]


def _state(image: Image) -> TrialState | None:
    data = image.content(_J)
    if data is None:
        return None
    if data not in _states:
        if len(_states) > 100_000:
            _states.clear()
        _states[data] = decode_state(data)
    return _states[data]


def _count(counts: tuple[tuple[bytes, int], ...], content: bytes, limit: int) -> tuple[tuple[bytes, int], ...]:
    known = dict(counts)
    known[content] = min(known.get(content, 0) + 1, limit)
    return tuple(sorted(known.items()))


class _Device:
    """The events of one scenario."""

    def __init__(self, scenario: Scenario, found: Exploration, *, fair: bool = False) -> None:
        self.scenario = scenario
        self.found = found
        self.fair = fair
        self._by_hash = {_release(data).sha512: data for data in scenario.programs}

    # What can happen next, as (what, worlds). The first is what fair weather does.

    def events(self, world: World) -> Iterator[tuple[str, World]]:
        """Every world that can come next."""
        if world.running is None:
            for launcher in self.scenario.launchers:
                yield from self._starts(world, launcher)
        else:
            yield from self._ends(world, world.running)
            yield from self._stages(world, world.running)
            if world.running[1] not in self.scenario.crashing:
                yield from self._confirms(world, world.running)
        if not self.fair:
            yield from self._people(world)
            if self.scenario.cuts:
                yield from self._cut("cut", world, world.disk)

    def first(self) -> World:
        """The first program, just copied to its place."""
        disk = SimDisk()
        disk.put("P", self.scenario.programs[0])
        return World(next(image for image in cut_images(disk.image()) if image.content("P") is not None))

    # Running the code under test

    def _on_disk(
        self,
        world: World,
        code: Callable[[SimDisk], object],
        full_from: int | None = None,
        hand: tuple[str, bytes, int] | None = None,
    ) -> _Run:
        disk = SimDisk(world.disk)
        if hand is not None:
            how, data, operation = hand
            disk.hand = hand
            if operation:
                disk.before_operation = lambda number: disk.put("P", data) if number == operation else None
            else:
                disk.after_begin = lambda: getattr(disk, how)("P", data)
        disk.without_sync = self.scenario.without_sync
        disk.others_run = world.second
        disk.links = self.scenario.links
        disk.full_from = full_from
        result = code(disk)
        self.found.syncs |= disk.syncs
        self.found.points += len(disk.images)
        return _Run(disk, disk.images, disk.image(), result)

    def _installation(self, disk: SimDisk, world: World) -> Installation:
        def verify(fd: int, expect: object = None, /) -> Released:
            return _release(disk.content(fd))

        alive = set() if world.running is None else {world.running[0]}
        return Installation(
            _PROGRAM,
            OwnerKey(bytes(32)),
            None,
            folders=disk.folders,
            verify=verify,
            lives=lambda pid, _: pid in alive,
            limits=self.scenario.limits,
        )

    def _caller(self, launcher: Launcher, world: World, pid: int, start_id: str, *, main: bool = False) -> Caller:
        return Caller(launcher, world.boot, start_id, pid, 1, main)

    def _interrupted(self, what: str, world: World, run: _Run) -> Iterator[tuple[str, World]]:
        """The process that ran the code is killed, or the power goes, before each of its operations."""
        if self.fair:
            return
        self._check_steps(what, world, run)
        for number, image in enumerate(run.points):
            self._check_disk(f"{what}, killed before operation {number}", world, image)
            yield f"{what}, killed before operation {number}", self._died(world, image, self._at(world, image))
            if self.scenario.cuts:
                yield from self._cut(f"{what}, cut before operation {number}", world, image)

    def _died(self, world: World, image: Image, content: bytes) -> World:
        limit = self.scenario.limits.failed
        return world._replace(disk=image, running=None, failures=_count(world.failures, content, limit))

    def _at(self, world: World, image: Image) -> bytes:
        return image.content("P") or b""

    def _cut(self, what: str, world: World, image: Image) -> Iterator[tuple[str, World]]:
        content = self._at(world, image)
        for outcome in cut_images(image):
            self.found.images += 1
            after = world._replace(
                disk=outcome,
                running=None,
                second=False,
                boot=_unused("b", outcome, world.boot),
                cuts=_count(world.cuts, content, self.scenario.limits.reboots),
            )
            if outcome.content("P") != content:
                after = after._replace(cuts=_count(after.cuts, self._at(world, outcome), self.scenario.limits.reboots))
            self._check_disk(what, after, outcome)
            yield what, after

    # Events

    def _starts(self, world: World, launcher: str) -> Iterator[tuple[str, World]]:
        yield from self._start(world, launcher)
        if self.scenario.full and not self.fair:
            for operation in range(1, 8):
                yield from self._start(world, launcher, full_from=operation)
        if self.scenario.scp and launcher != "spawn" and not self.fair:
            touched = world._replace(by_hand=True, torn_by_hand=True, refused=frozenset())
            for data in self.scenario.programs:
                for how in ("put", "overwrite"):
                    yield from self._start(touched, launcher, hand=(how, data, 0))
        if self.scenario.race and launcher != "spawn" and not self.fair:
            touched = world._replace(by_hand=True, refused=frozenset())
            for operation in range(1, 20):
                yield from self._start(touched, launcher, hand=("put", self.scenario.programs[-1], operation))

    def _start(
        self, world: World, launcher: str, full_from: int | None = None, hand: tuple[str, bytes, int] | None = None
    ) -> Iterator[tuple[str, World]]:
        pid = _unused_pid(world.disk)
        what = f"start by {launcher}" + ("" if full_from is None else f", disk full from operation {full_from}")
        what += "" if hand is None else f", a person's {hand[0]} of {hand[1]!r} at {hand[2] or 'its decision'}"
        if launcher == "spawn":
            yield from self._spawn(what, world, pid, full_from)
            return
        run = self._on_disk(
            world,
            lambda disk: self._installation(disk, world).settle(
                launcher,  # type: ignore[arg-type]
                caller=self._caller(launcher, world, pid, f"s{pid}"),  # type: ignore[arg-type]
            ),
            full_from,
            hand,
        )
        yield from self._interrupted(what, world, run)
        self._check_settled(what, world, run)
        after = self._settled(what, world, run)
        if after.disk.content("P") not in self.scenario.programs:
            yield what, after
            return
        if launcher == "guard":
            yield from self._guarded(what, after, pid)
            return
        started = after._replace(running=(pid, self._at(after, after.disk)), launcher=launcher)
        if full_from is None and (hand is None or not hand[2]):
            self._check_idempotent(what, started)
        yield what, started

    def _guarded(self, what: str, world: World, guard: int) -> Iterator[tuple[str, World]]:
        """The guard counted the start; the program claims it, or dies before it can."""
        pid = guard + 1
        content = self._at(world, world.disk)
        if not self.fair:
            yield f"{what}, program dead before spawn", self._died(world, world.disk, content)
        alive = world._replace(running=(pid, content), launcher="guard")
        claim = self._on_disk(
            world,
            lambda disk: self._installation(disk, alive).settle(
                "spawn", caller=self._caller("spawn", world, pid, f"s{guard}", main=True)
            ),
        )
        yield from self._interrupted(f"{what}, claimed by spawn", alive, claim)
        self._check_settled(what, alive, claim)
        settled = claim.result
        if isinstance(settled, Settled) and settled.must_exec:
            raise InvariantError(f"{what}: P changed between the guard and spawn")
        yield f"{what}, claimed by spawn", self._settled(what, alive, claim)

    def _spawn(self, what: str, world: World, pid: int, full_from: int | None) -> Iterator[tuple[str, World]]:
        """The program at P starts by itself and settles; when P changed it execs, and the new one settles too."""
        for _ in range(4):
            content = self._at(world, world.disk)
            if content not in self.scenario.programs:
                return
            alive = world._replace(running=(pid, content), launcher="spawn")
            run = self._on_disk(
                alive,
                lambda disk, alive=alive: self._installation(disk, alive).settle(  # type: ignore[misc]
                    "spawn", caller=self._caller("spawn", alive, pid, f"s{pid}")
                ),
                full_from,
            )
            yield from self._interrupted(what, alive, run)
            self._check_settled(what, alive, run)
            world = self._settled(what, alive, run)
            settled = run.result
            if not isinstance(settled, Settled) or not settled.must_exec:
                if full_from is None:
                    self._check_idempotent(what, world)
                yield what, world
                return
            if not self.fair:
                yield f"{what}, dead before exec", self._died(world, world.disk, content)
        raise InvariantError(f"{what}: it execs for ever")

    def _settled(self, what: str, world: World, run: _Run) -> World:
        state = _state(run.end)
        refused = world.refused if state is None else frozenset(state.refused)
        known, after = _programs_in(_state(world.disk)), _programs_in(state)
        written = known != after
        relied_on = run.disk.full_from is None and run.end.content("P") in self.scenario.programs
        if relied_on and (run.disk.hand is None or (written and not run.disk.hand[2])):
            activated = isinstance(run.result, Settled) and run.result.activated is not None
            names = ["P", _J] + ["previous"] * written + ["staged"] * activated
            self._check_durable(what, run.end, names)
        touched = run.disk.hand is not None or run.end.content("P") == TORN
        return world._replace(disk=run.end, by_hand=touched, torn_by_hand=touched, refused=refused)

    def _ends(self, world: World, running: tuple[int, bytes]) -> Iterator[tuple[str, World]]:
        """The program is asked to stop, or ends by itself, seen by its launcher or not."""
        pid, content = running
        if world.launcher == "guard":
            caller = self._caller("guard", world, pid + 50, f"s{pid - 1}")
        else:
            caller = self._caller("run", world, pid, f"s{pid}")
        for what, requested in (("stop requested", True), ("ended by itself", False)):
            if (requested and content in self.scenario.crashing) or (not requested and world.launcher == "spawn"):
                continue
            run = self._on_disk(
                world,
                lambda disk, requested=requested: self._installation(disk, world).end_start(  # type: ignore[misc]
                    requested, caller=caller
                ),
            )
            ended = world if requested else self._died(world, world.disk, content)
            yield from self._interrupted(what, ended, run)
            yield what, ended._replace(disk=run.end, running=None)
        if world.launcher != "run":
            yield "ended by itself, unseen", self._died(world, world.disk, content)

    def _stages(self, world: World, running: tuple[int, bytes]) -> Iterator[tuple[str, World]]:
        for data in self.scenario.releases:
            if _release(data).info.version > _release(running[1]).info.version:
                run = self._on_disk(world, lambda disk, data=data: self._stage(disk, world, data))  # type: ignore[misc]
                if run.end != world.disk:
                    yield from self._interrupted("staging", world, run)
                    if run.result:
                        self._check_durable("staged", run.end, {"staged"})
                    taken = run.end.visible() != world.disk.visible()
                    yield "staged" if taken else "not taken", world._replace(disk=run.end)

    def _stage(self, disk: SimDisk, world: World, data: bytes) -> bool:
        installation = self._installation(disk, world)
        try:
            partial = installation.new_partial()
            partial.write(data)
            installation.stage(partial, _release(data).info)
        except PatcherError:
            return False
        return True

    def _confirms(self, world: World, running: tuple[int, bytes]) -> Iterator[tuple[str, World]]:
        run = self._on_disk(world, lambda disk: self._confirm(disk, world, running))
        if run.end != world.disk:
            yield from self._interrupted("confirming", world, run)
            if run.result:
                self._check_durable("confirmed", run.end)
            yield "confirmed" if run.result else "nothing to confirm", world._replace(disk=run.end)

    def _confirm(self, disk: SimDisk, world: World, running: tuple[int, bytes]) -> object:
        installation = self._installation(disk, world)
        return installation.confirm(own=_release(running[1]).sha512)

    def _people(self, world: World) -> Iterator[tuple[str, World]]:
        for data in self.scenario.hands:
            if data != world.disk.content("P"):
                disk = SimDisk(world.disk)
                disk.put("P", data)
                yield "a person's mv", world._replace(disk=disk.image(), by_hand=True, refused=frozenset())
        if self.scenario.scp:
            yield from self._scp(world)
        if self.scenario.damage and world.disk.content(_J) not in {None, b"", b"{}"}:
            disk = SimDisk(world.disk)
            disk.overwrite(_J, b"{}")
            yield "J damaged", world._replace(disk=disk.image(), by_hand=True, refused=frozenset())
        if self.scenario.rollback:
            run = self._on_disk(world, lambda disk: self._roll_back(disk, world))
            if run.end != world.disk:
                yield from self._interrupted("rollback by hand", world, run)
                state = _state(run.end)
                yield (
                    "rolled back by hand",
                    world._replace(disk=run.end, refused=frozenset(state.refused if state else ())),
                )
        if self.scenario.second and world.running is not None:
            yield "second process", world._replace(second=not world.second)

    def _scp(self, world: World) -> Iterator[tuple[str, World]]:
        for name, contents in (("P", self.scenario.programs), (_J, tuple(self._first_states()))):
            for data in contents:
                if world.disk.content(name) is not None and world.running is None:
                    disk = SimDisk(world.disk)
                    disk.overwrite(name, data)
                    yield (
                        f"scp over {name}",
                        world._replace(disk=disk.image(), by_hand=True, torn_by_hand=True, refused=frozenset()),
                    )

    def _first_states(self) -> Iterator[bytes]:
        first = _release(self.scenario.programs[0])
        known = ProgramId(first.sha512, first.info.version)
        yield encode_state(TrialState(known, known.version))

    def _roll_back(self, disk: SimDisk, world: World) -> bool:
        disk.others_run = world.running is not None or world.second
        try:
            self._installation(disk, world).roll_back()
        except PatcherError:
            return False
        return True

    # Invariants

    def _check_disk(self, what: str, world: World, image: Image) -> None:
        """P is a complete program; the confirmed one is not lost."""
        content = image.content("P")
        if content == TORN and world.torn_by_hand:
            return
        if content not in self.scenario.programs:
            raise InvariantError(f"{what}: P is {content!r}")
        state = _state(image)
        if state is None or world.by_hand:
            return
        here = {image.content(name) for name in ("P", "previous")}
        if self._by_hash[state.confirmed.sha512] not in here:
            raise InvariantError(f"{what}: the confirmed program {state.confirmed.version} is lost; J: {state}")

    def _check_steps(self, what: str, world: World, run: _Run) -> None:
        """No refused program is put to P, no hash is refused for less than its limits, no file is changed at P."""
        before = world.disk
        for image in (*run.points, run.end):
            old, new, state = before.content("P"), image.content("P"), _state(image)
            refused = world.refused | frozenset(state.refused if state else ())
            if new != old and new is not None and _release(new).sha512 in refused and not world.by_hand:
                raise InvariantError(f"{what}: a refused program was put to P")
            before = image

    def _check_settled(self, what: str, world: World, run: _Run) -> None:
        settled, content, state = run.result, run.end.content("P"), _state(run.end)
        if not isinstance(settled, Settled) or content not in self.scenario.programs:
            return
        refused = world.refused | frozenset(state.refused if state else ())
        if settled.serve and _release(content).sha512 in refused and not world.by_hand:
            raise InvariantError(f"{what}: a refused program would be served")
        for sha512 in state.refused if state else ():
            if sha512 in world.refused or "by hand" in (state.notes.get(sha512, "") if state else ""):
                continue
            known = self._by_hash[sha512]
            failures, cuts = dict(world.failures).get(known, 0), dict(world.cuts).get(known, 0)
            if failures < self.scenario.limits.failed and cuts < self.scenario.limits.reboots:
                raise InvariantError(f"{what}: {known!r} was refused after {failures} failures and {cuts} cuts")

    def _check_durable(self, what: str, image: Image, names: Iterable[str] = ("P", _J)) -> None:
        """What a finished transaction left is what every power cut leaves."""
        before = image.visible()
        for outcome in cut_images(image):
            after = outcome.visible()
            for name in names:
                if before.get(name) != after.get(name):
                    raise InvariantError(f"{what}: finished, but a cut makes {name} {after.get(name)!r}")

    def _check_idempotent(self, what: str, world: World) -> None:
        """To settle again while the program runs changes nothing."""
        run = self._on_disk(
            world,
            lambda disk: self._installation(disk, world).settle(
                "spawn", caller=self._caller("spawn", world, 99, "s99")
            ),
        )
        if run.end.visible() != world.disk.visible():
            raise InvariantError(f"{what}: settling again changed the disk")


def _programs_in(state: TrialState | None) -> tuple[object, object] | None:
    return None if state is None else (state.confirmed, state.trial and state.trial.program)


def _unused(prefix: str, image: Image, current: str) -> str:
    """The first name that is neither current nor mentioned on the disk."""
    for number in range(9):
        name = f"{prefix}{number}"
        if name != current and not any(f'"{name}"'.encode() in visible for visible, _ in image.inodes):
            return name
    raise AssertionError("too many names on the disk")


def _unused_pid(image: Image) -> int:
    for pid in range(1, 20, 2):
        if not any(
            f'"pid": {known},'.encode() in content
            for both in image.inodes
            for content in both
            for known in (pid, pid + 1)
        ):
            return pid
    raise AssertionError("too many pids on the disk")


def explore(scenario: Scenario, limit: int = 1_000_000) -> Exploration:
    """Visit every world that can come about, ``limit`` of them at most, and check each.

    Raises:
        InvariantError: an invariant does not hold; the message tells the way there.
    """
    found = Exploration()
    device = _Device(scenario, found)
    first = device.first()
    came_from: dict[World, tuple[World, str] | None] = {first: None}
    queue = deque([first])
    recovering: set[World] = set()
    while queue:
        world = queue.popleft()
        found.worlds += 1
        try:
            _check_recovery(device, world, recovering)
            for what, after in device.events(world):
                if after not in came_from:
                    if len(came_from) >= limit:
                        found.complete = False
                        continue
                    came_from[after] = (world, what)
                    queue.append(after)
        except InvariantError as error:
            raise InvariantError(f"{error}\n" + _way(came_from, world)) from None
    return found


def _way(came_from: dict[World, tuple[World, str] | None], world: World) -> str:
    steps = []
    while (step := came_from[world]) is not None:
        world, what = step
        steps.append(what)
    return " -> ".join(reversed(steps))


def _check_recovery(device: _Device, world: World, recovering: set[World]) -> None:
    """Fair weather leads from here to a good program, confirmed, and to the newest release if that is good."""
    trail = []
    scenario = device.scenario
    best = max((data for data in scenario.releases if data not in scenario.crashing), default=scenario.programs[0])
    for _ in range(60):
        if world in recovering or world.disk.content("P") == TORN:
            break
        trail.append(world)
        if _well(scenario, world, best):
            break
        world = _fair_step(device, world)
    else:
        state = _state(world.disk)
        raise InvariantError(f"fair weather leads nowhere: P is {world.disk.content('P')!r}, J is {state}")
    recovering.update(trail)


def _well(scenario: Scenario, world: World, best: bytes) -> bool:
    content, state = world.disk.content("P"), _state(world.disk)
    if world.running is None or content is None or state is None or world.running[1] != content:
        return False
    if content in scenario.crashing or state.trial is not None or _release(content).sha512 in state.refused:
        return False
    if state.confirmed.sha512 != _release(content).sha512:
        return False
    return _release(content).info.version >= min(_release(best).info.version, _highest_wanted(state, best))


def _highest_wanted(state: TrialState, best: bytes) -> object:
    return state.newest if _release(best).sha512 in state.refused else _release(best).info.version


def _fair_step(device: _Device, world: World) -> World:
    """One step of a life without accidents: the last world that an event without an interruption gives."""
    wanted: tuple[str, ...]
    if world.second:
        return world._replace(second=False)
    if world.running is None:
        wanted = ("start",)
    elif world.running[1] in device.scenario.crashing:
        state = _state(world.disk)
        staged = world.disk.content("staged")
        newest = max(device.scenario.releases, default=b"")
        wanted = ("ended",) if staged == newest or state is None else ("staged", "ended")
    else:
        state = _state(world.disk)
        on_trial = state is not None and state.trial is not None
        wanted = ("confirmed", "staged", "stop") if on_trial else ("staged", "stop")
    choices: dict[str, World] = {}
    for what, after in _Device(device.scenario, Exploration(), fair=True).events(world):
        choices.setdefault(what.split(" ")[0], after)
    for name in wanted:
        if name in choices:
            return choices[name]
    raise InvariantError(f"there is no way on: {sorted(choices)}")
