"""The table of install.md, row by row, and the other pure decisions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import pytest

from pypatcher.errors import NotNewerError, RefusedReleaseError
from pypatcher.install.decide import Action, Decision, Limits, check_stageable, check_wanted, closed_trial, decide
from pypatcher.install.examine import EntryKind, Examined
from pypatcher.install.starts import Fate, Launcher
from pypatcher.install.trial import ProgramId, Start, Trial, TrialState
from pypatcher.version import Version


def known(text: str) -> ProgramId:
    return ProgramId(hashlib.sha512(text.encode()).digest(), Version.parse(text))


V1, V2, V3 = known("1.0.0"), known("2.0.0"), known("3.0.0")
ABSENT = Examined(EntryKind.ABSENT)
EMPTY = Examined(EntryKind.EMPTY)
INVALID = Examined(EntryKind.INVALID)
OPEN = Start("boot", "start", 1, 1, "run", True)


def good(program: ProgramId) -> Examined:
    return Examined(EntryKind.GOOD, program)


@dataclass(frozen=True)
class FakeDisk:
    """Facts, written down."""

    state: TrialState | None
    program: Examined
    staged: Examined = ABSENT
    previous: Examined = ABSENT
    fate: Fate = Fate.NONE
    alone: bool = True
    launcher: Launcher = "run"
    staged_is_allowed: bool = True
    is_held: bool = False
    is_recalled: bool = False


def confirmed(
    program: ProgramId = V1, *, refused: tuple[ProgramId, ...] = (), trial: Trial | None = None
) -> TrialState:
    return TrialState(program, program.version, tuple(one.sha512 for one in refused), trial)


FAILED_TWICE = Trial(V2, failed=2, open=OPEN)
OVER = Trial(V2, failed=3)

FOREIGN_2 = Examined(EntryKind.FOREIGN, foreign=V2)

ROWS = {
    "P on trial trusts another key than signed it": (
        FakeDisk(confirmed(trial=Trial(V2)), FOREIGN_2, previous=good(V1), launcher="spawn"),
        17,
        Action.DISOWN,
    ),
    "the same, with another process of it": (
        FakeDisk(confirmed(trial=Trial(V2)), FOREIGN_2, previous=good(V1), alone=False, launcher="spawn"),
        17,
        Action.REFUSE,
    ),
    "the same, refused already": (
        FakeDisk(
            confirmed(refused=(V2,), trial=Trial(V2)), FOREIGN_2, previous=good(V1), alone=False, launcher="spawn"
        ),
        17,
        Action.WAIT,
    ),
    "P on trial trusts another key than signed it, no way back": (
        FakeDisk(confirmed(trial=Trial(V2)), FOREIGN_2, previous=ABSENT, launcher="spawn"),
        1,
        Action.RUN_ALONE,
    ),
    "P not on trial trusts another key than signed it": (
        FakeDisk(confirmed(V2), FOREIGN_2, previous=good(V1), launcher="spawn"),
        1,
        Action.RUN_ALONE,
    ),
    "staged by a key that the guard does not know": (
        FakeDisk(confirmed(), good(V1), staged=FOREIGN_2, launcher="guard"),
        7,
        Action.RUN,
    ),
    "staged by a key that run does not know": (
        FakeDisk(confirmed(), good(V1), staged=FOREIGN_2),
        5,
        Action.DROP_STAGED,
    ),
    "P missing": (FakeDisk(confirmed(), ABSENT, previous=good(V1)), 1, Action.RUN_ALONE),
    "P damaged, whatever previous is": (FakeDisk(confirmed(), INVALID, previous=good(V1)), 1, Action.RUN_ALONE),
    "P empty, previous good": (FakeDisk(confirmed(), EMPTY, previous=good(V1)), 1, Action.RESTORE),
    "P empty, J lost": (FakeDisk(None, EMPTY, previous=good(V1)), 1, Action.RESTORE),
    "P empty, previous refused": (
        FakeDisk(confirmed(V2, refused=(V1,)), EMPTY, previous=good(V1)),
        1,
        Action.RUN_ALONE,
    ),
    "P empty, no previous": (FakeDisk(confirmed(), EMPTY), 1, Action.RUN_ALONE),
    "P empty, seen by spawn": (FakeDisk(confirmed(), EMPTY, previous=good(V1), launcher="spawn"), 1, Action.RUN_ALONE),
    "J lost, another previous": (FakeDisk(None, good(V2), previous=good(V1)), 2, Action.ADOPT_WITH_WAY_BACK),
    "J lost, previous is P": (FakeDisk(None, good(V1), previous=good(V1)), 3, Action.ADOPT),
    "J lost, previous damaged": (FakeDisk(None, good(V1), previous=INVALID), 3, Action.ADOPT),
    "first start": (FakeDisk(None, good(V1)), 3, Action.ADOPT),
    "put by hand": (FakeDisk(confirmed(), good(V2)), 4, Action.BY_HAND),
    "a refused one put by hand": (FakeDisk(confirmed(refused=(V2,)), good(V2)), 4, Action.BY_HAND),
    "staged damaged": (FakeDisk(confirmed(), good(V1), staged=INVALID), 5, Action.DROP_STAGED),
    "staged empty": (FakeDisk(confirmed(), good(V1), staged=EMPTY), 5, Action.DROP_STAGED),
    "staged refused": (FakeDisk(confirmed(refused=(V2,)), good(V1), staged=good(V2)), 5, Action.DROP_STAGED),
    "staged not newer": (FakeDisk(confirmed(V2), good(V2), staged=good(V1)), 5, Action.DROP_STAGED),
    "staged older than the newest confirmed": (
        FakeDisk(replace(confirmed(), newest=V3.version), good(V1), staged=good(V2)),
        5,
        Action.DROP_STAGED,
    ),
    "staged good": (FakeDisk(confirmed(), good(V1), staged=good(V2)), 6, Action.ACTIVATE),
    "staged good, others run": (FakeDisk(confirmed(), good(V1), staged=good(V2), alone=False), 6, Action.WAIT),
    "nothing to do": (FakeDisk(confirmed(), good(V1)), 7, Action.RUN),
    "activation over a failed version without a way back": (
        FakeDisk(confirmed(V1, refused=(V2,), trial=Trial(V3)), good(V2), staged=good(V3)),
        8,
        Action.PLACE_TRIAL,
    ),
    "another put by hand during a trial": (FakeDisk(confirmed(trial=Trial(V2)), good(V3)), 9, Action.BY_HAND),
    "a refused one put by hand during a trial": (
        FakeDisk(confirmed(refused=(V3,), trial=FAILED_TWICE), good(V3), staged=good(V2)),
        9,
        Action.BY_HAND,
    ),
    "activation unfinished": (
        FakeDisk(confirmed(trial=Trial(V2)), good(V1), staged=good(V2)),
        10,
        Action.RESUME_ACTIVATION,
    ),
    "rollback done, not recorded": (
        FakeDisk(confirmed(refused=(V2,), trial=Trial(V2, failed=3)), good(V1)),
        11,
        Action.CLEAR_TRIAL,
    ),
    "c put back by hand during a trial": (FakeDisk(confirmed(trial=FAILED_TWICE), good(V1)), 11, Action.CLEAR_TRIAL),
    "a newer one staged over the one that was being activated": (
        FakeDisk(confirmed(trial=Trial(V2)), good(V1), staged=good(V3)),
        11,
        Action.CLEAR_TRIAL,
    ),
    "rollback intended": (
        FakeDisk(confirmed(refused=(V2,), trial=OVER), good(V2), previous=good(V1)),
        12,
        Action.FINISH_ROLLBACK,
    ),
    "rollback intended, others run": (
        FakeDisk(confirmed(refused=(V2,), trial=OVER), good(V2), previous=good(V1), alone=False),
        12,
        Action.WAIT,
    ),
    "refused, no way back, a newer one here": (
        FakeDisk(confirmed(refused=(V2,), trial=OVER), good(V2), staged=good(V3)),
        13,
        Action.REPLACE_TRIAL,
    ),
    "limit reached, no way back, a newer one here": (
        FakeDisk(confirmed(trial=OVER), good(V2), staged=good(V3)),
        13,
        Action.REPLACE_TRIAL,
    ),
    "limit reached, no way back, the one here is not newer": (
        FakeDisk(confirmed(trial=Trial(V3, failed=3)), good(V3), staged=good(V2)),
        16,
        Action.COUNT,
    ),
    "refused, nothing else here": (FakeDisk(confirmed(refused=(V2,), trial=OVER), good(V2)), 14, Action.RUN_REFUSED),
    "refused, previous is not the confirmed one": (
        FakeDisk(confirmed(refused=(V2,), trial=OVER), good(V2), previous=good(V3)),
        14,
        Action.RUN_REFUSED,
    ),
    "limit reached": (FakeDisk(confirmed(trial=OVER), good(V2), previous=good(V1)), 15, Action.ROLL_BACK),
    "limit reached by the start that just ended": (
        FakeDisk(confirmed(trial=FAILED_TWICE), good(V2), previous=good(V1), fate=Fate.ENDED),
        15,
        Action.ROLL_BACK,
    ),
    "limit of reboots reached": (
        FakeDisk(confirmed(trial=Trial(V2, reboots=9, open=OPEN)), good(V2), previous=good(V1), fate=Fate.REBOOTED),
        15,
        Action.ROLL_BACK,
    ),
    "a second process of the last chance": (
        FakeDisk(confirmed(trial=FAILED_TWICE), good(V2), previous=good(V1), fate=Fate.ALIVE),
        16,
        Action.COUNT,
    ),
    "on trial": (FakeDisk(confirmed(trial=Trial(V2)), good(V2), previous=good(V1)), 16, Action.COUNT),
    "on trial, a hotfix waits": (
        FakeDisk(confirmed(trial=Trial(V2)), good(V2), staged=good(V3), previous=good(V1)),
        16,
        Action.COUNT,
    ),
    "staged, and the owner's word forbids it": (
        FakeDisk(confirmed(), good(V1), staged=good(V2), staged_is_allowed=False),
        18,
        Action.SET_ASIDE,
    ),
    "the same while others run": (
        FakeDisk(confirmed(), good(V1), staged=good(V2), staged_is_allowed=False, alone=False),
        18,
        Action.SET_ASIDE,
    ),
    "forbidden, and its activation began": (
        FakeDisk(confirmed(trial=Trial(V2)), good(V1), staged=good(V2), staged_is_allowed=False),
        10,
        Action.RESUME_ACTIVATION,
    ),
    "forbidden, refused, and not newer": (
        FakeDisk(confirmed(V2), good(V2), staged=good(V1), staged_is_allowed=False),
        5,
        Action.DROP_STAGED,
    ),
    "limit reached, no way back, the newer one here is forbidden": (
        FakeDisk(confirmed(trial=OVER), good(V2), staged=good(V3), staged_is_allowed=False),
        16,
        Action.COUNT,
    ),
    "held on trial, a hotfix is here": (
        FakeDisk(confirmed(trial=Trial(V2)), good(V2), staged=good(V3), previous=good(V1), is_held=True),
        19,
        Action.GIVE_WAY,
    ),
    "held on trial, a hotfix is here, others run": (
        FakeDisk(confirmed(trial=Trial(V2)), good(V2), staged=good(V3), previous=good(V1), is_held=True, alone=False),
        19,
        Action.WAIT,
    ),
    "held on trial, a hotfix is here that is held as well": (
        FakeDisk(
            confirmed(trial=Trial(V2)),
            good(V2),
            staged=good(V3),
            previous=good(V1),
            is_held=True,
            staged_is_allowed=False,
        ),
        16,
        Action.COUNT,
    ),
    "held on trial, nothing newer": (
        FakeDisk(confirmed(trial=Trial(V2)), good(V2), previous=good(V1), is_held=True),
        16,
        Action.COUNT,
    ),
    "held on trial, a hotfix, no way back": (
        FakeDisk(confirmed(trial=Trial(V2)), good(V2), staged=good(V3), is_held=True),
        16,
        Action.COUNT,
    ),
    "held on trial at its limit": (
        FakeDisk(confirmed(trial=OVER), good(V2), staged=good(V3), previous=good(V1), is_held=True),
        15,
        Action.ROLL_BACK,
    ),
    "recalled on trial": (
        FakeDisk(confirmed(trial=Trial(V2)), good(V2), previous=good(V1), is_held=True, is_recalled=True),
        19,
        Action.GIVE_WAY,
    ),
    "recalled on trial, no way back": (
        FakeDisk(confirmed(trial=Trial(V2)), good(V2), is_held=True, is_recalled=True),
        16,
        Action.COUNT,
    ),
    "gone back from a recalled trial, not recorded": (
        FakeDisk(confirmed(trial=Trial(V2)), good(V1), is_held=True, is_recalled=True),
        11,
        Action.CLEAR_TRIAL,
    ),
    "limit reached without a way back refuses nothing": (FakeDisk(confirmed(trial=OVER), good(V2)), 16, Action.COUNT),
}


@pytest.mark.parametrize(("disk", "row", "action"), ROWS.values(), ids=ROWS)
def test_the_first_row_that_matches_decides(disk: FakeDisk, row: int, action: Action) -> None:
    assert decide(disk) == Decision(row, action)


def test_every_row_of_the_page_is_tested() -> None:
    assert {row for _, row, _ in ROWS.values()} == set(range(1, 20))


def test_limits_are_three_failures_and_ten_reboots() -> None:
    assert Limits() == Limits(failed=3, reboots=10)


def test_a_start_that_needs_only_the_program_looks_at_nothing_else() -> None:
    class OnlyProgram(FakeDisk):
        def __getattribute__(self, name: str) -> object:
            if name in {"previous", "alone"}:
                raise AssertionError(f"{name} was looked up")
            return super().__getattribute__(name)

    assert decide(OnlyProgram(confirmed(), good(V1))).row == 7
    assert decide(OnlyProgram(confirmed(trial=Trial(V2)), good(V2))).row == 16


def test_a_start_that_ended_costs_one_failure_and_a_reboot_one_reboot() -> None:
    trial = Trial(V2, failed=1, reboots=1, open=OPEN)
    assert closed_trial(trial, Fate.ENDED) == Trial(V2, failed=2, reboots=1)
    assert closed_trial(trial, Fate.REBOOTED) == Trial(V2, failed=1, reboots=2)
    assert closed_trial(trial, Fate.REBOOTED, is_held=True) == Trial(V2, failed=1, reboots=1)
    for fate in (Fate.OWN, Fate.ALIVE, Fate.CLAIMABLE, Fate.NONE):
        assert closed_trial(trial, fate) == trial


def test_a_newer_release_is_stageable_also_during_a_trial() -> None:
    check_stageable(V2, V1.version, None, None)
    check_stageable(V3, V2.version, confirmed(trial=Trial(V2)), None)
    check_stageable(V3, V1.version, confirmed(), V2)


def test_what_is_not_newer_than_the_program_is_not_staged() -> None:
    with pytest.raises(NotNewerError):
        check_stageable(V1, V1.version, confirmed(), None)
    with pytest.raises(NotNewerError):
        check_stageable(V2, V3.version, confirmed(trial=Trial(V3)), None)


def test_what_is_not_newer_than_the_newest_confirmed_is_not_staged() -> None:
    with pytest.raises(NotNewerError):
        check_stageable(V2, V1.version, replace(confirmed(), newest=V2.version), None)


def test_a_refused_file_is_never_staged_again_but_another_build_is() -> None:
    state = confirmed(refused=(V2,))
    with pytest.raises(RefusedReleaseError):
        check_stageable(V2, V1.version, state, None)
    check_stageable(ProgramId(bytes(64), V2.version), V1.version, state, None)


def test_a_newer_one_that_is_staged_stays() -> None:
    with pytest.raises(NotNewerError):
        check_stageable(V2, V1.version, confirmed(), V3)
    check_stageable(V2, V1.version, confirmed(refused=(V3,)), V3)


def test_what_is_staged_is_not_fetched_again_another_build_may_be() -> None:
    another = ProgramId(bytes(64), V2.version)
    with pytest.raises(NotNewerError, match="staged already"):
        check_wanted(another, V1.version, confirmed(), V2)
    check_stageable(another, V1.version, confirmed(), V2)
    check_wanted(another, V1.version, confirmed(refused=(V2,)), V2)
    check_wanted(V3, V1.version, confirmed(), V2)


def test_what_could_not_be_staged_is_not_fetched() -> None:
    with pytest.raises(NotNewerError, match=r"3\.0\.0, which is staged"):
        check_wanted(V2, V1.version, confirmed(), V3)
    with pytest.raises(NotNewerError):
        check_wanted(V1, V1.version, None, None)
    with pytest.raises(RefusedReleaseError):
        check_wanted(V2, V1.version, confirmed(refused=(V2,)), None)
    check_wanted(ProgramId(b"", V2.version), V1.version, confirmed(refused=(V2,)), None)
