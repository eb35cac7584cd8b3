"""Power cuts before every file-changing call of whole updates, on real ext4: old or new, and it completes afterwards.

The image is copied without a sync while the updater is stopped before the call, at once and, in ``make faults``, after
delays in which the kernel writes back what it likes (the journal commits after 5 s, data follow after 30). Mounted
with the default options, and with ``noauto_da_alloc``: without the help that ext4 gives programs that forget an fsync.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

import pytest

from pypatcher.install.files import OsFiles
from tests.support.one_update import SCENARIOS, Kit, Scenario, steps_of
from tests.support.power import Cut, make_image

ALL = os.environ.get("PYPATCHER_FAULTS") == "all"
OPTIONS = ("defaults", "noauto_da_alloc")
DELAYS = (0.0, 6.0, 36.0) if ALL else (0.0,)
AT_ONCE = 48


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit.build(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def image(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    return make_image(folder / "image", kit, folder / "mount")


def sweep(folder: Path, image: Path, kit: Kit, scenario: Scenario, *, options: str, points: list[int]) -> list[str]:
    """What is wrong after a cut before each of the points, after each delay."""
    bad = []
    for first in range(0, len(points), AT_ONCE):
        with contextlib.ExitStack() as stack:
            cuts = [
                stack.enter_context(Cut(folder / f"cut-{point}", image, kit, scenario, point=point, options=options))
                for point in points[first : first + AT_ONCE]
            ]
            stopped = time.monotonic()
            for delay in DELAYS:
                time.sleep(max(0.0, stopped + delay - time.monotonic()))
                bad += [complaint for cut in cuts if (complaint := cut.look(f"after {delay:g} s"))]
    return bad


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("scenario", SCENARIOS if ALL else [SCENARIOS[0], SCENARIOS[3]], ids=str)
def test_after_a_power_cut_before_any_call_it_is_old_or_new_and_completes(
    scenario: Scenario, options: str, kit: Kit, image: Path, tmp_path: Path
) -> None:
    steps = len(steps_of(tmp_path / "count", kit, scenario))
    points = list(range(1, steps + 1, 1 if ALL else 4))
    bad = sweep(tmp_path, image, kit, scenario, options=options, points=points)
    print(f"power cuts, {scenario}, {options}: {len(points) * len(DELAYS)} points tried, {len(bad)} bad states")
    assert not bad, "\n".join(bad[:10])


def test_without_the_fsync_of_files_a_cut_does_lose_the_program_so_that_these_tests_can_fail(
    kit: Kit, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = SCENARIOS[0]
    monkeypatch.setattr(OsFiles, "sync", lambda _self, _fd: None)
    steps = steps_of(tmp_path / "count", kit, scenario)
    last_rename = max(number for number, name in enumerate(steps, 1) if name == "rename")
    shutil.rmtree(tmp_path / "count")
    renames = [number for number, name in enumerate(steps, 1) if name == "rename"]
    after_activation = [number + 2 for number in renames if number < last_rename][-2:]
    assert sweep(tmp_path, image, kit, scenario, options="noauto_da_alloc", points=after_activation)
