"""The install protocol under every accident: the real code of ``install/`` on a disk that forgets.

Each scenario is explored from a program's first start: whatever may happen next happens, and before every operation the
process is killed or the power goes, which loses any subset of what was not synced. At each point install.md's
invariants must hold, and fair weather must lead on to a good program, confirmed. The suite explores the beginning of
each scenario, over a hundred thousand states in all; ``PYPATCHER_FAULTS_WORLDS=100000`` explores further.

A state is a world in its scenario, which says what may happen there: everything on the disk, durable and not, who runs,
and what a bystander remembers of failures, cuts and refusals. It counts as visited when everything that may happen was
tried and checked. How many worlds differ, whatever the scenario, is printed too.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from pypatcher.install import starts
from pypatcher.install.layout import Entry, Folder, Layout
from tests.support.install_explore import Exploration, explore
from tests.support.install_world import InvariantError, Scenario
from tests.support.simdisk import TORN, Image, SimDisk, cut_images
from tests.support.text_programs import program

WORLDS = int(os.environ.get("PYPATCHER_FAULTS_WORLDS", "12500"))
"""To visit in each scenario; fewer where a start alone leads to very many."""
DIFFERENT = 100_000
_WORDS = (b"1 go 2.0.0", b"2 hold 2.0.0", b"3 recall 2.0.0", b"4 go 2.0.0")
_HOTFIX = (b"1 go 2.0.0", b"2 hold 2.0.0", b"3 go 3.0.0 2.0.0")
_BY_HAND = (program("1.0.0"), program("2.0.0"), program("9.0.0"))

SCENARIOS = {
    "run, a good release": Scenario.of(releases="2"),
    "run, a crashing release and its hotfix": Scenario.of(crashing="2", releases="23"),
    "run, a crashing release alone": Scenario.of(crashing="2", releases="2"),
    "guard": Scenario.of(crashing="2", releases="23", launchers=("guard",)),
    "spawn": Scenario.of(crashing="2", releases="23", launchers=("spawn",)),
    "mixed launchers": Scenario.of(crashing="2", releases="23", launchers=("run", "guard", "spawn")),
    "a guard's start that nobody claims, then a shell's loop": Scenario.of(
        crashing="2", releases="23", launchers=("spawn", "guard")
    ),
    "spawn, a release that trusts another key than signed it, and its hotfix": Scenario.of(
        crashing="2", disowned="2", releases="23", launchers=("spawn",)
    ),
    "the same under a guard, with a second process": Scenario.of(
        crashing="2", disowned="2", releases="23", launchers=("guard", "spawn"), second=True
    ),
    "a person's mv": Scenario.of(crashing="2", releases="23", hands=_BY_HAND),
    "a person's mv between any two operations": Scenario.of(crashing="2", releases="23", race=True),
    "a person's scp, also within a start": Scenario.of(crashing="2", releases="23", scp=True),
    "a damaged trial.json": Scenario.of(crashing="2", releases="23", damage=True),
    "time passes": Scenario.of(crashing="2", releases="2", time=True),
    "time passes, with a hotfix, a guard and a full disk": Scenario.of(
        crashing="2", releases="23", time=True, launchers=("guard",), full=True
    ),
    "time passes, and a person rolls back": Scenario.of(crashing="2", releases="23", time=True, rollback=True),
    "a release comes in parts, its tree behind it, on a full disk": Scenario.of(
        crashing="2", releases="23", parts=True, full=True
    ),
    "a rollback by hand": Scenario.of(releases="23", rollback=True),
    "two processes": Scenario.of(crashing="2", releases="23", second=True),
    "a full disk at any write": Scenario.of(crashing="2", releases="23", full=True),
    "mixed launchers on a disk that is full at any write": Scenario.of(
        crashing="2", releases="23", launchers=("guard", "spawn", "run"), full=True
    ),
    "a filesystem without hard links": Scenario.of(crashing="2", releases="23", links=False),
    "the owner opens, holds and recalls a release": Scenario.of(releases="2", words=_WORDS),
    "the same under a guard, on a disk that is full at any write": Scenario.of(
        releases="2", words=_WORDS, launchers=("guard", "spawn"), full=True
    ),
    "a hotfix for who is on trial of a held release": Scenario.of(releases="23", words=_HOTFIX),
    "the same where it crashes, with a second process": Scenario.of(
        crashing="2", releases="23", words=_HOTFIX, launchers=("run", "spawn"), second=True
    ),
    "everything together": Scenario.of(
        crashing="2",
        releases="23",
        launchers=("guard", "run"),
        hands=_BY_HAND,
        damage=True,
        rollback=True,
        second=True,
    ),
}

FSYNCS = (
    "begin: fsync trial.json",
    "begin: fsync P",
    "begin: fsync S",
    "begin: fsync D",
    "write_state: fsync trial.json.new",
    "write_state: fsync S",
    "write_word: fsync manifest-k.new",
    "write_word: fsync S",
    "write_word: fsync manifest-k.seen.new",
    "take_back: fsync S",
    "_go_on: fsync D",
    "make_ready: fsync partial",
    "place_partial: fsync S",
    "keep_previous: fsync P",
    "keep_previous: fsync S",
    "_copy: fsync previous.new",
    "rename_to_program: fsync D",
    "rename_to_program: fsync S",
    "sync_program: fsync P",
    "sync_program: fsync D",
)
"""Every fsync that install.md orders, by the function that makes it and what it syncs."""

BY_RULE_ALONE = {"adopt_with_way_back: fsync previous", "intend_rollback_of_confirmed: fsync previous"}
BY_RULE_ALONE |= {"set_aside: fsync S", "_go_on: fsync S"}
BY_RULE_ALONE |= {"sync: fsync partial"}
BY_RULE_ALONE |= {"write_failed: fsync second-trials.json.new", "write_failed: fsync S"}
"""No hash may become ``confirmed`` before its file was synced; ``previous`` always was when it was made. And
no release is let in before that was counted: a record that is lost or torn lets nothing in. What a word forbids stays
staged nowhere: who finds it so beside the stored word sets it aside again. Were a download
that goes on ``staged`` again after a cut, the next start would find it torn and leave it. What is synced of one that is
under way spares bytes, and nothing is believed of it."""

REVEALING = (
    (Scenario.of(crashing="2", releases="2", cuts=False), 250),
    (Scenario.of(crashing="2", releases="2", launchers=("spawn",), cuts=False), 250),
    (Scenario.of(crashing="2", releases="23"), 400),
    (Scenario.of(crashing="2", releases="23", links=False), 400),
    (Scenario.of(releases="2", scp=True, cuts=False), 600),
    (Scenario.of(releases="2", words=(b"1 hold 2.0.0", b"2 go 2.0.0"), cuts=False), 400),
    (Scenario.of(releases="23", hands=_BY_HAND[:1]), 2000),
)
"""Small worlds in which the loss of an fsync shows."""


@pytest.fixture(scope="module")
def explorations() -> Iterator[dict[str, Future[Exploration]]]:
    """Every scenario being explored, by as many processes as there are processors."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), context, logging.disable, (logging.CRITICAL,)) as pool:
        longest_first = sorted(SCENARIOS, key=lambda name: worlds_of(SCENARIOS[name]))
        yield {name: pool.submit(explore, SCENARIOS[name], worlds_of(SCENARIOS[name])) for name in longest_first}
        pool.shutdown(cancel_futures=True)


def worlds_of(scenario: Scenario) -> int:
    if scenario.race or scenario.scp:
        return WORLDS // 6
    several = len(scenario.launchers) > 1
    if scenario.full or scenario.parts:
        return WORLDS // 3 if several or scenario.parts else WORLDS
    # Where one launcher alone starts the programs, or a person does, few worlds are those of another scenario.
    alike = several or scenario.words or scenario.rollback or scenario.damage or scenario.second
    return WORLDS // 2 if alike else 2 * WORLDS


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SCENARIOS)
def test_no_accident_breaks_an_invariant(name: str, explorations: dict[str, Future[Exploration]]) -> None:
    found = explorations[name].result()
    said = f"{len(found.worlds)} worlds, {found.points} kill points, {found.images} disks after a cut, 0 bad states"
    print(f"{name}: {said}" + (", and there are no others" if found.complete else ""))
    assert found.syncs <= {*FSYNCS, *BY_RULE_ALONE}
    assert found.complete or len(found.worlds) == worlds_of(SCENARIOS[name])
    assert found.points + found.images > 10 * len(found.worlds)


@pytest.mark.timeout(1800)
def test_a_hundred_thousand_different_worlds_were_visited(explorations: dict[str, Future[Exploration]]) -> None:
    found = [each.result() for each in explorations.values()]
    states, different = sum(len(each.worlds) for each in found), len(set().union(*(each.worlds for each in found)))
    points, images = sum(each.points for each in found), sum(each.images for each in found)
    print(f"{states} states, {different} worlds differ, {points} kill points, {images} disks after a cut, 0 bad states")
    assert different >= min(DIFFERENT, WORLDS)


@pytest.mark.parametrize("fsync", FSYNCS)
def test_without_one_of_its_fsyncs_the_protocol_fails(fsync: str) -> None:
    for scenario, worlds in REVEALING:
        try:
            explore(scenario.without(fsync), worlds)
        except InvariantError:
            return
    pytest.fail(f"nothing shows that {fsync} is needed")


def test_a_guards_start_that_never_lapses_lets_a_shells_loop_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "CLAIM_TICKS", 1 << 60)
    with pytest.raises(InvariantError, match="fair weather leads nowhere"):
        explore(SCENARIOS["a guard's start that nobody claims, then a shell's loop"], 1000)


def test_a_cut_keeps_what_was_synced_and_any_part_of_the_rest() -> None:
    image = Image(
        names=(("P", 0), ("staged", 1)), durable=(("P", 0),), pending=(), inodes=((b"new", b"old"), (b"x", b"x"))
    )
    assert {outcome.content("P") for outcome in cut_images(image)} == {b"new", b"old", TORN}
    assert {outcome.content("staged") for outcome in cut_images(image)} == {None}


def test_a_rename_that_a_cut_hits_never_loses_both_names() -> None:
    disk = SimDisk()
    disk.put("P", b"old")
    disk.put("staged", b"new")
    disk.sync_folder(Folder.PROGRAM)
    disk.sync_folder(Folder.STATE)
    disk.rename(Layout.staged, Entry(Folder.PROGRAM, "P"))
    both = {(one.content("P"), one.content("staged")) for one in cut_images(disk.image())}
    assert both == {(b"old", b"new"), (b"new", b"new"), (b"new", None)}
    disk.sync_folder(Folder.PROGRAM)
    assert {one.content("P") for one in cut_images(disk.image())} == {b"new"}
