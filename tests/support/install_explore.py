"""Visit every world that can come about, check each, and see that fair weather leads from it to a good end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from tests.support.install_device import DeviceEvents, ExploreTally
from tests.support.install_run import Runs
from tests.support.install_words import WORD_FILE, SimWord
from tests.support.install_world import DeviceState, InvariantError, Scenario, release, state_on
from tests.support.simdisk import TORN

__all__ = ["Exploration", "explore"]

_STEPS_TO_A_GOOD_END = 60


@dataclass
class Exploration:
    """What was found on the way.

    Attributes:
        worlds: a hash of each world that was visited: everything was tried there that may happen in it.
        points: operations before which a process was killed, in every world anew.
        images: disks after a power cut, in every world anew.
        syncs: the fsyncs that were seen, by the function that makes each.
        complete: whether there is no other world.
    """

    worlds: set[int] = field(default_factory=set)
    points: int = 0
    images: int = 0
    syncs: set[str] = field(default_factory=set)
    complete: bool = True


def explore(scenario: Scenario, limit: int = 1_000_000) -> Exploration:
    """Visit the worlds that can come about, nearest first, ``limit`` of them at most.

    Raises:
        InvariantError: an invariant does not hold; the message tells the way there.
    """
    tally, runs, found = ExploreTally(), Runs(scenario), Exploration()
    device, fair = DeviceEvents(scenario, runs, tally), DeviceEvents(scenario, runs, ExploreTally(), fair=True)
    first = device.first()
    came_from: dict[DeviceState, tuple[DeviceState, object] | None] = {first: None}
    queue = deque([first])
    recovering: set[DeviceState] = set()
    while queue:
        world = queue.popleft()
        found.worlds.add(hash(world))
        try:
            _check_recovery(fair, world, recovering)
            for what, after in device.events(world):
                if after not in came_from:
                    if len(came_from) >= limit:
                        found.complete = False
                        continue
                    came_from[after] = (world, what)
                    queue.append(after)
        except InvariantError as error:
            raise InvariantError(f"{error}\n" + _way(came_from, world)) from None
    found.points, found.images, found.syncs = tally.points, tally.images, tally.syncs
    return found


def _way(came_from: dict[DeviceState, tuple[DeviceState, object] | None], world: DeviceState) -> str:
    steps = []
    while (step := came_from[world]) is not None:
        world, what = step
        steps.append(" ".join(map(str, what)) if isinstance(what, tuple) else str(what))
    return " -> ".join(reversed(steps))


def _check_recovery(fair: DeviceEvents, world: DeviceState, recovering: set[DeviceState]) -> None:
    """Fair weather leads from here to a good program, confirmed, and to the newest release if that is good."""
    trail = []
    scenario = fair.scenario
    word = SimWord(world.disk.content(WORD_FILE) or b"")
    good = [data for data in scenario.releases if data not in scenario.crashing]
    best = max((data for data in good if word.may_stay_staged(release(data).info)), default=scenario.programs[0])
    for _ in range(_STEPS_TO_A_GOOD_END):
        if world in recovering or world.disk.content("P") == TORN:
            break
        trail.append(world)
        if _well(scenario, world, best):
            break
        world = _fair_step(fair, world)
    else:
        state = state_on(world.disk)
        raise InvariantError(f"fair weather leads nowhere: P is {world.disk.content('P')!r}, J is {state}")
    recovering.update(trail)


def _well(scenario: Scenario, world: DeviceState, best: bytes) -> bool:
    content, state = world.disk.content("P"), state_on(world.disk)
    if world.running is None or content is None or state is None or world.running[1] != content:
        return False
    if content in scenario.crashing or state.trial is not None or release(content).sha512 in state.refused:
        return False
    if state.confirmed.sha512 != release(content).sha512:
        return False
    wanted = state.newest if release(best).sha512 in state.refused else release(best).info.version
    return release(content).info.version >= min(release(best).info.version, wanted)


def _fair_step(fair: DeviceEvents, world: DeviceState) -> DeviceState:
    """One step of a life without accidents: the last world that an event without an interruption gives."""
    wanted: tuple[str, ...]
    if world.second:
        return world._replace(second=False)
    state = state_on(world.disk)
    if world.running is None:
        wanted = ("start",)
    elif world.running[1] in fair.scenario.crashing:
        staged, newest = world.disk.content("staged"), max(fair.scenario.releases, default=b"")
        wanted = ("ended",) if staged == newest or state is None else ("staged", "ended")
    else:
        on_trial = state is not None and state.trial is not None
        wanted = ("confirmed", "staged", "stop") if on_trial else ("staged", "stop")
    choices: dict[str, DeviceState] = {}
    for what, after in fair.events(world):
        choices.setdefault(str(what).split(" ", maxsplit=1)[0], after)
    for name in wanted:
        if name in choices:
            return choices[name]
    raise InvariantError(f"there is no way on: {sorted(choices)}")
