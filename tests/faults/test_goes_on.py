"""A download from several peers goes on, whatever of its file operations it is killed at, or fails, or loses power at.

Real transfers between processes: three hold the release, a device takes it into an installation on a real disk. After
each disturbance its program is the old one, what is staged is the release or nothing, and the next download asks for no
more than what is missing. ``make faults`` disturbs every operation in every way, the suite some of them.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypatcher.artifact.tree import index_limit
from tests.support.goes_on import Builds, Holders, run
from tests.support.one_update import Disturbance, child
from tests.support.power import Disk, kernel_has, make_disk, mounted, snapshot

pytestmark = pytest.mark.timeout(7200)
ALL = os.environ.get("PYPATCHER_FAULTS") == "all"
KILLS, ERRORS, CUTS = 4, 4, 2
NAMES = ("EIO", "ENOSPC", "EROFS", "EDQUOT", "ENOMEM", "EMFILE")
NEW_BYTES = 1_500_000
DISK = Disk("ext4", "noauto_da_alloc")


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    return Builds.make(tmp_path_factory.mktemp("kit"), NEW_BYTES)


@pytest.fixture(scope="module")
def holders(kit: Builds) -> Iterator[Holders]:
    with Holders(kit, 3) as made:
        yield made


@pytest.fixture(scope="module")
def steps(kit: Builds, holders: Holders, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The file operations of a download that nothing disturbs, in order."""
    folder = tmp_path_factory.mktemp("steps")
    program, notes = kit.install(folder / "device"), folder / "notes"
    assert run(lambda: holders.fetch(program), notes) == 0, notes.read_text()
    assert not kit.wrong_with(program, is_done=True)
    found = notes.read_text().split()
    assert found.count("pwrite") > 4
    assert {"copy_file_range", "ftruncate", "fsync", "rename"} <= set(found)
    return found


def some(points: list[tuple[int, str]], count: int) -> list[tuple[int, str]]:
    """One of each kind of operation first, then by chance."""
    rng = random.Random(len(points))
    mixed = rng.sample(points, len(points))
    firsts = {name: (point, name) for point, name in reversed(mixed)}
    chosen = [*firsts.values(), *(each for each in mixed if each not in firsts.values())]
    rotated = chosen[rng.randrange(len(firsts)) :] + chosen
    return points if ALL else rotated[:count]


def go_on(program: Path, kit: Builds, holders: Holders, notes: Path) -> str:
    """Look at what a disturbance left, then fetch undisturbed; what is wrong, or empty."""
    complaint = kit.wrong_with(program, is_done=False)
    left, was_staged = kit.missing(program), (program.parent / ".app.pypatcher" / "staged").exists()
    status = run(lambda: holders.fetch(program), notes)
    if was_staged and status:
        return complaint  # the second finds nothing that is newer
    if status:
        return complaint or f"it did not go on: {notes.read_text()}"
    came = int((program.parent / "came").read_text())
    if came > left + index_limit(kit.info.file_size):
        complaint = complaint or f"{came} bytes came of the {left} that were missing"
    return complaint or kit.wrong_with(program, is_done=True)


def test_killed_at_any_operation_it_goes_on(kit: Builds, holders: Holders, steps: list[str], tmp_path: Path) -> None:
    bad, kept, notes = [], 0, tmp_path / "notes"
    points = list(enumerate(steps, 1))
    for point, name in some(points, KILLS):
        program, how = kit.install(tmp_path / "device"), Disturbance(point, "half" if name == "pwrite" else "before")
        status = run(lambda at=program: holders.fetch(at), notes, how)  # type: ignore[misc]
        if not status:
            continue  # it took fewer operations this time: how much is asked for at once follows the pace
        kept += NEW_BYTES - kit.missing(program) > 100_000
        complaint = go_on(program, kit, holders, notes) if status == -signal.SIGKILL else notes.read_text()
        bad += [f"{how} ({name}): {complaint}"] if complaint else []
    assert not bad, "\n".join(bad)
    assert kept


def test_with_an_error_from_any_operation_it_goes_on(
    kit: Builds, holders: Holders, steps: list[str], tmp_path: Path
) -> None:
    bad, notes = [], tmp_path / "notes"
    for point, name in some(list(enumerate(steps, 1)), ERRORS):
        for error in [*NAMES, "ENOSPC+", "EIO+"] if ALL else [NAMES[point % len(NAMES)] + "+" * (point % 2)]:
            program, how = kit.install(tmp_path / "device"), Disturbance(point, error)
            status = run(lambda at=program: holders.fetch(at), notes, how)  # type: ignore[misc]
            complaint = go_on(program, kit, holders, notes) if status in (0, 1) else f"ended with {status}"
            bad += [f"{how} ({name}): {complaint}"] if complaint else []
    assert not bad, "\n".join(bad)


@pytest.mark.skipif(os.geteuid() != 0 or not kernel_has("ext4"), reason="mounts a disk")
def test_after_a_power_cut_at_any_operation_it_goes_on(
    kit: Builds, holders: Holders, steps: list[str], tmp_path: Path
) -> None:
    bad, notes = [], tmp_path / "notes"
    template = tmp_path / "template"
    with make_disk(template, tmp_path / "mount", DISK) as at:
        # In a process of its own, for this one would keep files there open.
        assert run(lambda: "" if kit.install(at / "device") else "none", notes) == 0
    for point, name in some(list(enumerate(steps, 1)), CUTS):
        image, copy, how = tmp_path / "image", tmp_path / "copy", Disturbance(point, "stop")
        shutil.copyfile(template, image)
        with mounted(image, tmp_path / "mount", DISK) as at:
            program = at / "device" / "app"
            with child(lambda of=program: holders.fetch(of), how, notes) as pid:  # type: ignore[misc]
                _, status = os.waitpid(pid, os.WUNTRACED)
                if not os.WIFSTOPPED(status):
                    continue  # see above
                snapshot(image, copy)
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        with mounted(copy, tmp_path / "mount", DISK) as at:
            complaint = go_on(at / "device" / "app", kit, holders, notes)
        bad += [f"{how} ({name}): {complaint}"] if complaint else []
        copy.unlink()
    assert not bad, "\n".join(bad)
