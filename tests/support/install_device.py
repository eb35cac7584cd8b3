"""Everything that can happen to a device, as the worlds that can come next: each event runs the real code.

A process is killed or the power goes before each of its operations; a launcher starts the program, sees it end or does
not; a peer offers a release; the program confirms itself; people copy, damage and roll back; the disk fills up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from pypatcher.errors import PatcherError
from pypatcher.install.installation import Installation
from pypatcher.install.reconcile import Settled
from pypatcher.install.starts import CLAIM_TICKS, Caller, Launcher
from pypatcher.install.trial import ProgramId, TrialState, encode_state
from tests.support.install_invariants import check_disk, check_durable, check_settled, check_steps, check_word
from tests.support.install_run import Accident, Run, Runs
from tests.support.install_words import WORD_FILE, hear
from tests.support.install_world import (
    STATE_FILE,
    DeviceState,
    InvariantError,
    Scenario,
    count,
    release,
    state_on,
    unused_boot,
    unused_pid,
)
from tests.support.simdisk import TORN, Image, SimDisk, cut_images

__all__ = ["DeviceEvents", "ExploreTally"]

_NONE = Accident()
_LAUNCHED = 1
"""When most processes start, in ticks since boot."""
_EXECS = 4
_RACED_OPERATIONS = 20

Event = tuple[object, DeviceState]
"""What happened, and the world that came of it. A text, or parts of one."""


class ExploreTally:
    """What was gone through."""

    def __init__(self) -> None:
        self.points = 0
        self.images = 0
        self.syncs: set[str] = set()


class DeviceEvents:
    """The events of one scenario.

    Args:
        fair: nothing goes wrong; the first event of a kind is what fair weather does.
    """

    def __init__(self, scenario: Scenario, runs: Runs, tally: ExploreTally, *, fair: bool = False) -> None:
        self.scenario = scenario
        self._runs = runs
        self._tally = tally
        self._fair = fair

    def events(self, world: DeviceState) -> Iterator[Event]:
        """Every world that can come next."""
        if world.running is None:
            for launcher in self.scenario.launchers:
                yield from self._starts(world, launcher)
        else:
            yield from self._ends(world, world.running)
            yield from self._stages(world, world.running)
            if world.running[1] not in self.scenario.crashing:
                yield from self._confirms(world, world.running)
            if self.scenario.time and not self._fair:
                yield from self._passes(world)
            yield from self._hears(world)
        if not self._fair:
            yield from self._people(world)
            if self.scenario.cuts:
                content = world.program
                yield from (self._cut("cut", world, content, outcome) for outcome in cut_images(world.disk))

    def first(self) -> DeviceState:
        """The first program, just copied to its place."""
        disk = SimDisk()
        disk.put("P", self.scenario.programs[0])
        return DeviceState(next(image for image in cut_images(disk.image()) if image.content("P") is not None))

    # Transactions, and what interrupts them

    def _run(
        self,
        what: tuple[object, ...],
        world: DeviceState,
        code: Callable[[Installation], object],
        accident: Accident = _NONE,
    ) -> Run:
        run = self._runs.run(what, world, code, accident)
        self._tally.points += len(run.points)
        self._tally.syncs |= run.syncs
        return run

    def _with_room_and_without(
        self, what: tuple[object, ...], world: DeviceState, code: Callable[[Installation], object]
    ) -> Iterator[tuple[str, Run]]:
        """The transaction as it is, then with a disk that is full from each operation on that needs room."""
        run = self._run(what, world, code)
        yield "", run
        if self.scenario.full and not self._fair:
            for operation in run.writes:
                yield f", disk full from operation {operation}", self._run(what, world, code, Accident(operation))

    def _interrupted(
        self, what: object, world: DeviceState, run: Run, *, ended: DeviceState | None = None
    ) -> Iterator[Event]:
        """The process that runs the code is killed, or the power goes, before each of its operations.

        ``ended``: the world in which the program ended before the power went.
        """
        if self._fair:
            return
        check_steps(what, world, run)
        for number, image in run.kills:
            told = (what, "killed before operation", number)
            check_disk(self.scenario, told, world, image)
            check_word(told, (world.disk,), image)
            yield told, self._died(world, image, image.content("P") or b"")
        if self.scenario.cuts:
            for number, content, outcome in run.cuts:
                yield self._cut((what, "cut before operation", number), ended or world, content, outcome)

    def _died(self, world: DeviceState, image: Image, content: bytes) -> DeviceState:
        failures = count(world.failures, content, self.scenario.limits.failed)
        return world._replace(disk=image, running=None, failures=failures)

    def _cut(self, what: object, world: DeviceState, content: bytes, outcome: Image) -> Event:
        """The power went while ``content`` was at P, and this disk is left."""
        self._tally.images += 1
        limit = self.scenario.limits.reboots
        cuts = count(world.cuts, content, limit)
        left = outcome.content("P")
        if left != content:
            cuts = count(cuts, left or b"", limit)
        boot = unused_boot(outcome, world.boot)
        after = world._replace(disk=outcome, running=None, second=False, boot=boot, cuts=cuts)
        check_word(what, cut_images(world.disk), outcome)
        check_disk(self.scenario, what, after, outcome)
        return what, after

    # Starts

    def _starts(self, world: DeviceState, launcher: str) -> Iterator[Event]:
        pid = unused_pid(world.disk)
        if launcher == "spawn":
            yield from self._spawns(world, pid)
            return
        yield from self._start(f"start by {launcher}", world, launcher, pid)
        if self._fair:
            return
        if self.scenario.scp:
            touched = world._replace(by_hand=True, torn_by_hand=True, refused=frozenset())
            for data in self.scenario.programs:
                for how in ("put", "overwrite"):
                    what = f"start by {launcher}, a person's {how} of {data!r} at its decision"
                    yield from self._start(what, touched, launcher, pid, Accident(hand=(how, data, 0)))
        if self.scenario.race:
            touched = world._replace(by_hand=True, refused=frozenset())
            for operation in range(1, _RACED_OPERATIONS):
                hand = ("put", self.scenario.programs[-1], operation)
                what = f"start by {launcher}, a person's mv of {hand[1]!r} before operation {operation}"
                yield from self._start(what, touched, launcher, pid, Accident(hand=hand))

    def _start(
        self, what: str, world: DeviceState, launcher: str, pid: int, accident: Accident = _NONE
    ) -> Iterator[Event]:
        known: Launcher = launcher  # type: ignore[assignment]
        settle = self._settle(Caller(known, world.boot, f"s{pid}", pid, _LAUNCHED), world)
        runs = [("", self._run(*settle, accident))] if accident.hand else self._with_room_and_without(*settle)
        for room, run in runs:
            told = what + room
            yield from self._interrupted(told, world, run)
            check_settled(self.scenario, told, world, run)
            after = self._settled(told, world, run)
            if after.program not in self.scenario.programs:
                yield told, after
                continue
            if launcher == "guard":
                yield from self._guarded(told, after, pid, run.accident)
                continue
            started = after._replace(running=(pid, after.program), launcher=launcher)
            if run.accident.full_from is None and not (accident.hand and accident.hand[2]):
                self._check_idempotent(told, started)
            yield told, started

    def _guarded(self, what: str, world: DeviceState, guard: int, accident: Accident) -> Iterator[Event]:
        """The guard counted the start; the program claims it, or dies before it can."""
        if not self._fair:
            yield f"{what}, program dead before spawn", self._died(world, world.disk, world.program)
        caller = Caller("spawn", world.boot, f"s{guard}", guard + 1, _LAUNCHED, main=True)
        settled = accident.full_from is None
        yield from self._spawn(f"{what}, claimed by spawn", world, caller, "guard", settled=settled)

    def _spawns(self, world: DeviceState, pid: int) -> Iterator[Event]:
        """By itself, soon after what was before, or long after."""
        state = state_on(world.disk)
        start = None if state is None or state.trial is None else state.trial.open
        unclaimed = start is not None and not start.claimed
        if unclaimed:
            late = Caller("spawn", world.boot, f"s{pid}", pid, _LAUNCHED + CLAIM_TICKS + 1)
            yield from self._spawn("start by spawn, long after", world, late, "spawn")
        if not (unclaimed and self._fair):
            soon = Caller("spawn", world.boot, f"s{pid}", pid, _LAUNCHED)
            yield from self._spawn("start by spawn", world, soon, "spawn")

    def _spawn(
        self, what: str, world: DeviceState, caller: Caller, launcher: str, *, settled: bool = False
    ) -> Iterator[Event]:
        """The program at P settles; when P changed it execs, and the new one settles too.

        ``settled``: a guard did so just before, with room on the disk, so that nothing may be left to change.
        """
        left = [(what, world, _EXECS)]
        while left:
            what, world, execs = left.pop()
            content = world.program
            if content not in self.scenario.programs:
                continue
            if not execs:
                raise InvariantError(f"{what}: it execs for ever")
            alive = world._replace(running=(caller.pid, content), launcher=launcher)
            for room, run in self._with_room_and_without(*self._settle(caller, alive)):
                told = what + room
                yield from self._interrupted(told, alive, run)
                check_settled(self.scenario, told, alive, run)
                after = self._settled(told, alive, run)
                if isinstance(run.result, Settled) and run.result.must_exec:
                    disowned = content in self.scenario.disowned
                    if settled and not room and execs == _EXECS and not disowned:
                        raise InvariantError(f"{told}: P changed between the guard and spawn")
                    if not self._fair:
                        yield f"{told}, dead before exec", self._died(after, after.disk, content)
                    left.append((f"{told}, exec", after, execs - 1))
                    continue
                if not room:
                    self._check_idempotent(told, after)
                yield told, after

    def _settle(
        self, caller: Caller, world: DeviceState
    ) -> tuple[tuple[object, ...], DeviceState, Callable[[Installation], object]]:
        return ("settle", caller), world, partial(Installation.settle, launcher=caller.launcher, caller=caller)

    def _settled(self, what: object, world: DeviceState, run: Run) -> DeviceState:
        state = state_on(run.end)
        refused = world.refused if state is None else frozenset(state.refused)
        hand = run.accident.hand
        written = _programs_in(state_on(world.disk)) != _programs_in(state)
        relied_on = run.accident.full_from is None and run.end.content("P") in self.scenario.programs
        if relied_on and (hand is None or (written and not hand[2])):
            activated = isinstance(run.result, Settled) and run.result.activated is not None
            names = ["P", STATE_FILE] + ["previous"] * written + ["staged"] * activated
            check_durable(what, run.end, names)
        touched = hand is not None or run.end.content("P") == TORN
        return world._replace(disk=run.end, by_hand=touched, torn_by_hand=touched, refused=refused)

    def _check_idempotent(self, what: object, world: DeviceState) -> None:
        """To settle again while the program runs changes nothing, unless it finds that it is to end."""
        if world.program in self.scenario.disowned:
            return
        run = self._run(*self._settle(Caller("spawn", world.boot, "s99", 99, _LAUNCHED), world))
        if run.end.visible() != world.disk.visible():
            raise InvariantError(f"{what}: settling again changed the disk")

    # While the program runs

    def _ends(self, world: DeviceState, running: tuple[int, bytes]) -> Iterator[Event]:
        """The program is asked to stop, or ends by itself, seen by its launcher or not."""
        pid, content = running
        if world.launcher == "guard":
            caller = Caller("guard", world.boot, f"s{pid - 1}", pid + 50, _LAUNCHED)
        else:
            caller = Caller("run", world.boot, f"s{pid}", pid, _LAUNCHED)
        for what, requested in (("stop requested", True), ("ended by itself", False)):
            if (requested and content in self.scenario.crashing) or (not requested and world.launcher == "spawn"):
                continue
            end = partial(Installation.end_start, requested=requested, caller=caller)
            for room, run in self._with_room_and_without(("end", requested, caller), world, end):
                # A stop that could not be noted looks like an end that nobody asked for.
                noted = requested and not room
                ended = world if noted else self._died(world, world.disk, content)
                yield from self._interrupted(what + room, world, run, ended=ended)
                yield what + room, ended._replace(disk=run.end, running=None)
        if world.launcher != "run":
            yield "ended by itself, unseen", self._died(world, world.disk, content)

    def _stages(self, world: DeviceState, running: tuple[int, bytes]) -> Iterator[Event]:
        for data in self.scenario.releases:
            if release(data).info.version <= release(running[1]).info.version:
                continue
            stage = partial(_stage_of_parts if self.scenario.parts else _stage, data)
            for room, run in self._with_room_and_without(("stage", data), world, stage):
                if run.end != world.disk:
                    yield from self._interrupted("staging" + room, world, run)
                    if run.result:
                        check_durable("staged" + room, run.end, {"staged"})
                    taken = run.end.content("staged") != world.disk.content("staged")
                    yield ("staged" if taken else "not taken") + room, world._replace(disk=run.end)

    def _confirms(self, world: DeviceState, running: tuple[int, bytes]) -> Iterator[Event]:
        own = release(running[1]).sha512
        confirm = partial(Installation.confirm, own=own)
        for room, run in self._with_room_and_without(("confirm", own), world, confirm):
            if run.end != world.disk:
                yield from self._interrupted("confirming" + room, world, run)
                if run.result:
                    check_durable("confirmed" + room, run.end)
                yield ("confirmed" if run.result else "nothing confirmed") + room, world._replace(disk=run.end)

    # The owner's word

    def _hears(self, world: DeviceState) -> Iterator[Event]:
        for word in () if self._fair else self.scenario.words:
            for room, run in self._with_room_and_without(("hear", word), world, partial(hear, word)):
                if run.end != world.disk:
                    yield from self._interrupted("hearing" + room, world, run)
                    if run.result:
                        check_durable("heard" + room, run.end, {WORD_FILE, f"{WORD_FILE}.seen", "staged"})
                    yield f"heard {word!r}{room}", world._replace(disk=run.end)

    # Time

    def _passes(self, world: DeviceState) -> Iterator[Event]:
        for room, run in self._with_room_and_without(("time",), world, _pass_time):
            if run.end != world.disk:
                for what, after in self._interrupted("time passing" + room, world, run):
                    yield what, self._let_in(what, world, after)
                check_durable("time passed" + room, run.end, {"P", STATE_FILE, "second-trials.json"})
                yield "time passed" + room, self._let_in("time passed", world, world._replace(disk=run.end))

    def _let_in(self, what: object, before: DeviceState, after: DeviceState) -> DeviceState:
        """What is refused no longer, counted: never more often than the limits say."""
        old, new = state_on(before.disk), state_on(after.disk)
        gone = frozenset(old.refused if old else ()) - frozenset(new.refused if new else ())
        counts = after.let_in
        for data in self.scenario.programs:
            if release(data).sha512 in gone:
                counts = count(counts, data, 9)
                if dict(counts)[data] > len(self.scenario.limits.again):
                    raise InvariantError(f"{what}: {data!r} was let in {dict(counts)[data]} times")
                if new is not None and release(data).info.version <= new.newest:
                    raise InvariantError(f"{what}: {data!r} was let in, and is not newer than {new.newest}")
        return after._replace(refused=after.refused - gone, let_in=counts)

    # People

    def _people(self, world: DeviceState) -> Iterator[Event]:
        touched = world._replace(by_hand=True, refused=frozenset())
        for data in self.scenario.hands:
            if data != world.disk.content("P"):
                yield "a person's mv", touched._replace(disk=_changed(world.disk, "put", "P", data))
        if self.scenario.scp and world.running is None:
            for name, contents in (("P", self.scenario.programs), (STATE_FILE, (self._first_state(),))):
                for data in contents if world.disk.content(name) is not None else ():
                    disk = _changed(world.disk, "overwrite", name, data)
                    yield f"scp over {name}", touched._replace(disk=disk, torn_by_hand=True)
        if self.scenario.damage and world.disk.content(STATE_FILE) not in {None, b"", b"{}"}:
            yield "J damaged", touched._replace(disk=_changed(world.disk, "overwrite", STATE_FILE, b"{}"))
        if self.scenario.rollback:
            others = world._replace(second=world.second or world.running is not None)
            for room, run in self._with_room_and_without(("roll back",), others, _roll_back):
                if run.end != world.disk:
                    yield from self._interrupted("rollback by hand" + room, world, run)
                    state = state_on(run.end)
                    refused = frozenset(state.refused if state else ())
                    yield "rolled back by hand" + room, world._replace(disk=run.end, refused=refused)
        if self.scenario.second and world.running is not None:
            yield "second process", world._replace(second=not world.second)

    def _first_state(self) -> bytes:
        first = release(self.scenario.programs[0])
        return encode_state(TrialState(ProgramId(first.sha512, first.info.version), first.info.version))


def _stage(data: bytes, installation: Installation) -> bool:
    try:
        partial_file = installation.new_partial(release(data).info)
        partial_file.write(data)
        installation.stage(partial_file, release(data).info)
    except PatcherError:
        return False
    return True


def _stage_of_parts(data: bytes, installation: Installation) -> bool:
    half = len(data) // 2
    try:
        partial_file = installation.new_partial(release(data).info)
        partial_file.write_part(b"tree", len(data))
        partial_file.write_part(data[half:], half)
        partial_file.sync()
        partial_file.write_part(data[:half], 0)
        partial_file.cut(len(data))
        installation.stage(partial_file, release(data).info)
    except PatcherError:
        return False
    return True


def _pass_time(installation: Installation) -> bool:
    return installation.may_be_let_in() and installation.count_uptime(1) is not None


def _roll_back(installation: Installation) -> bool:
    try:
        installation.roll_back()
    except PatcherError:
        return False
    return True


def _changed(image: Image, how: str, name: str, data: bytes) -> Image:
    disk = SimDisk(image)
    getattr(disk, how)(name, data)
    return disk.image()


def _programs_in(state: TrialState | None) -> tuple[object, object] | None:
    return None if state is None else (state.confirmed, state.trial and state.trial.program)
