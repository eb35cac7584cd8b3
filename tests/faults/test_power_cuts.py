"""Power cuts before every file-changing call of whole updates, on real disks: old or new, and it completes afterwards.

The image is copied without a sync while the updater is stopped before the call, at once and, in ``make faults``, after
delays in which the kernel writes back what it likes (ext4 commits its journal after 5 s, btrfs after 30, data follow
after 30). ext4 is mounted with the default options, and with ``noauto_da_alloc``: without the help that it gives
programs that forget an fsync; btrfs and f2fs are tried where the kernel has them, and the tests say where it has not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

import pytest

from pypatcher.install.files import OsFiles
from tests.support.one_update import SCENARIOS, Kit, UpdateScenario, steps_of
from tests.support.power import DISKS, Cut, Disk, kernel_has, make_image

ALL = os.environ.get("PYPATCHER_FAULTS") == "all"
DISKS_HERE = [disk for disk in DISKS if kernel_has(disk.filesystem)]
DELAYS = (0.0, 6.0, 36.0) if ALL else (0.0,)
AT_ONCE = 48


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit.build(tmp_path_factory.mktemp("kit"))


@pytest.fixture(scope="module")
def images(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> dict[Disk, Path]:
    folder = tmp_path_factory.mktemp("image")
    return {disk: make_image(folder / str(disk), kit, folder / "mount", disk) for disk in DISKS_HERE}


def sweep(folder: Path, image: Path, kit: Kit, scenario: UpdateScenario, *, disk: Disk, points: list[int]) -> list[str]:
    """What is wrong after a cut before each of the points, after each delay."""
    bad = []
    for first in range(0, len(points), AT_ONCE):
        with contextlib.ExitStack() as stack:
            cuts = [
                stack.enter_context(Cut(folder / f"cut-{point}", image, kit, scenario, point=point, disk=disk))
                for point in points[first : first + AT_ONCE]
            ]
            stopped = time.monotonic()
            for delay in DELAYS:
                time.sleep(max(0.0, stopped + delay - time.monotonic()))
                bad += [complaint for cut in cuts if (complaint := cut.look(f"after {delay:g} s"))]
    return bad


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("disk", DISKS_HERE, ids=str)
@pytest.mark.parametrize("scenario", SCENARIOS if ALL else [SCENARIOS[0], SCENARIOS[3]], ids=str)
def test_after_a_power_cut_before_any_call_it_is_old_or_new(
    scenario: UpdateScenario, disk: Disk, kit: Kit, images: dict[Disk, Path], tmp_path: Path
) -> None:
    steps = len(steps_of(tmp_path / "count", kit, scenario))
    points = list(range(1, steps + 1, 1 if ALL else 4))
    bad = sweep(tmp_path, images[disk], kit, scenario, disk=disk, points=points)
    print(f"power cuts, {scenario}, {disk}: {len(points) * len(DELAYS)} points tried, {len(bad)} bad states")
    assert not bad, "\n".join(bad[:10])


def test_a_cut_loses_a_file_without_fsync_so_these_tests_can_fail(
    kit: Kit, images: dict[Disk, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = SCENARIOS[0]
    monkeypatch.setattr(OsFiles, "sync", lambda _self, _fd: None)
    steps = steps_of(tmp_path / "count", kit, scenario)
    last_rename = max(number for number, name in enumerate(steps, 1) if name == "rename")
    shutil.rmtree(tmp_path / "count")
    renames = [number for number, name in enumerate(steps, 1) if name == "rename"]
    after_activation = [number + 2 for number in renames if number < last_rename][-2:]
    disk = Disk("ext4", "noauto_da_alloc")
    assert sweep(tmp_path, images[disk], kit, scenario, disk=disk, points=after_activation)


def test_the_power_is_cut_on_every_filesystem_that_this_kernel_has() -> None:
    here = sorted({disk.filesystem for disk in DISKS_HERE})
    missing = sorted({disk.filesystem for disk in DISKS} - set(here))
    print(f"power cuts are tried on {', '.join(here)}; this kernel has no {', '.join(missing) or 'other to try'}")
    assert "ext4" in here
