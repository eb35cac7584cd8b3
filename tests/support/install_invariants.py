"""What install.md promises of every moment, as checks on a disk, a transaction and a world.

What must be true afterwards, that fair weather leads on from everywhere, is checked by ``install_explore``.
"""

from __future__ import annotations

from collections.abc import Iterable

from pypatcher.install.reconcile import Settled
from pypatcher.install.trial import TrialState
from tests.support.install_run import Run
from tests.support.install_words import WORD_FILE, SimWord, word_seq
from tests.support.install_world import STATE_FILE, DeviceState, InvariantError, Scenario, release, state_on
from tests.support.simdisk import TORN, Image, cut_images

__all__ = ["check_disk", "check_durable", "check_settled", "check_steps", "check_word"]


def check_disk(scenario: Scenario, what: object, world: DeviceState, image: Image) -> None:
    """P is a complete program; the confirmed one is not lost."""
    content = image.content("P")
    if content == TORN and world.torn_by_hand:
        return
    if content not in scenario.programs:
        raise InvariantError(f"{what}: P is {content!r}")
    state = state_on(image)
    if state is None or world.by_hand:
        return
    here = {release(data).sha512 for data in (content, image.content("previous")) if data in scenario.programs}
    if state.confirmed.sha512 not in here:
        raise InvariantError(f"{what}: the confirmed program {state.confirmed.version} is lost; J: {state}")


def check_steps(what: object, world: DeviceState, run: Run) -> None:
    """No refused program is put to P, nor one that the stored word forbids, unless its activation began before."""
    old = world.disk.content("P")
    forbids, state = SimWord(world.disk.content(WORD_FILE) or b""), state_on(world.disk)
    allowed = {old, world.disk.content("previous"), _trial_on(state, world)}
    for content in {image.content("P") for image in (*run.points, run.end)} - allowed:
        if content is not None and not world.by_hand and not forbids.may_stay_staged(release(content).info):
            raise InvariantError(f"{what}: {content!r} was put to P, which {forbids.line!r} forbids")
    for image in (*run.points, run.end):
        new = image.content("P")
        if new != old and new is not None and not world.by_hand:
            state = state_on(image)
            if release(new).sha512 in world.refused | frozenset(state.refused if state else ()):
                raise InvariantError(f"{what}: a refused program was put to P")
        old = new


def _trial_on(state: TrialState | None, world: DeviceState) -> bytes | None:
    """What is being activated: it is named by J, and lies staged."""
    staged = world.disk.content("staged")
    if state is None or state.trial is None or staged in {None, TORN}:
        return None
    return staged if release(staged or b"").sha512 == state.trial.program.sha512 else None


def check_word(what: object, before: Iterable[Image], after: Image) -> None:
    """No word that was there in every case is replaced by an older one, nor lost."""
    kept = min(word_seq(image.content(WORD_FILE)) for image in before)
    if word_seq(after.content(WORD_FILE)) < kept:
        raise InvariantError(f"{what}: the word of seq {kept} became {after.content(WORD_FILE)!r}")


def check_settled(scenario: Scenario, what: object, world: DeviceState, run: Run) -> None:
    """What is refused is not served, and was refused for no less than its limits."""
    settled, content, state = run.result, run.end.content("P"), state_on(run.end)
    if not isinstance(settled, Settled) or content is None or content not in scenario.programs:
        return
    refused = world.refused | frozenset(state.refused if state else ())
    if settled.serve and release(content).sha512 in refused and not world.by_hand:
        raise InvariantError(f"{what}: a refused program would be served")
    for sha512 in state.refused if state else ():
        if sha512 in world.refused or "by hand" in (state.notes.get(sha512, "") if state else ""):
            continue
        known = next(data for data in scenario.programs if release(data).sha512 == sha512)
        if known in scenario.disowned:
            continue
        failures, cuts = dict(world.failures).get(known, 0), dict(world.cuts).get(known, 0)
        if failures < scenario.limits.failed and cuts < scenario.limits.reboots:
            raise InvariantError(f"{what}: {known!r} was refused after {failures} failures and {cuts} cuts")


def check_durable(what: object, image: Image, names: Iterable[str] = ("P", STATE_FILE)) -> None:
    """What a finished transaction left is what every power cut leaves."""
    before = image.visible()
    for outcome in cut_images(image):
        after = outcome.visible()
        for name in names:
            if before.get(name) != after.get(name):
                raise InvariantError(f"{what}: finished, but a cut makes {name} {after.get(name)!r}")
