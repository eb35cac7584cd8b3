"""State files emptied, cut, full of noise or somebody else's; two copies, one cache, a cloned card, scp: none harms.

Losing any of it costs time and a warning, never safety and never a start. install.md's rows for lost records are tried
here with real signed programs in every state that an update passes through.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pypatcher.addresses import Address
from pypatcher.artifact import read_release
from pypatcher.errors import PatcherError
from pypatcher.install import Caller, Installation, owner_verifies
from pypatcher.keys import OwnerKey
from pypatcher.node.cache import Cache, Memory
from pypatcher.node.report import REPORT_LIMIT, decode_report
from tests.support.devices import here, said_version
from tests.support.one_update import KEY, Kit, child

Damage = Callable[[Path], None]


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def nuls(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(4096))


def huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 32)


def of_another_user(path: Path) -> None:
    os.chown(path, 12345, 12345)
    path.chmod(0)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def gone(path: Path) -> None:
    path.unlink()


DAMAGES = (emptied, cut, nuls, noise, huge, of_another_user, a_folder, a_link, gone)
STAGES = ("staged", "on trial", "confirmed", "rolled back")


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit.build(tmp_path_factory.mktemp("kit"))


class StartedProgram:
    """A program, and its starts one after the other, none of which still runs."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.installation = self.opened()
        self._starts = 0

    def opened(self) -> Installation:
        return Installation(
            self.program, owner_verifies(OwnerKey(KEY.public), here()), lives=lambda _pid, _started: False
        )

    def start(self) -> None:
        self._starts += 1
        self.installation.settle("run", caller=Caller("run", "boot", str(self._starts), 1 << 30, self._starts))

    def stage(self, release: Path) -> None:
        with release.open("rb") as file:
            partial = self.installation.new_partial()
            partial.write(file.read())
            self.installation.stage(partial, read_release(file.fileno()).info)

    def brought_to(self, stage: str, kit: Kit) -> StartedProgram:
        """Live that far in a process that is gone afterwards, and with it its locks."""
        with child(lambda: StartedProgram(self.program)._live(stage, kit)) as pid:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return self

    def _live(self, stage: str, kit: Kit) -> str:
        self.start()
        self.stage(kit.new)
        if stage != "staged":
            self.start()
        if stage == "confirmed":
            assert self.installation.confirm() is not None
        if stage == "rolled back":
            for _ in range(3):
                self.installation.end_start(requested=False)
                self.start()
        return ""


@pytest.fixture
def device(tmp_path: Path, kit: Kit) -> Iterator[StartedProgram]:
    (tmp_path / "d").mkdir()
    return StartedProgram(Path(shutil.copy(kit.old, tmp_path / "d" / "app")))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(
    ("name", "stage"),
    [
        *((name, stage) for name in ("trial.json", "staged", "previous") for stage in STAGES),
        *((name, "on trial") for name in ("lock", "updater", "instances")),
    ],
)
def test_a_damaged_state_file_costs_time_and_no_more(
    device: StartedProgram, kit: Kit, name: str, damage: Damage, stage: str
) -> None:
    device.brought_to(stage, kit)
    path = device.installation.layout.state_folder / name
    if not path.exists():
        path.write_bytes(b"left over")
    damage(path)
    device = StartedProgram(device.program)
    for _ in range(5):
        device.start()
        assert device.program.read_bytes() in (kit.old.read_bytes(), kit.new.read_bytes())
        assert said_version(device.program) in ("1.0.0", "2.0.0")
    with contextlib.suppress(PatcherError, OSError):
        device.installation.confirm()
    if damage in (a_folder, a_link, of_another_user):
        # A person did this; what the program cannot mend by itself it says, and a person can.
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink(
            missing_ok=True
        )
    device.start()
    device.installation.confirm()
    device.stage(kit.next)
    device.start()
    assert said_version(device.program) == "2.0.1"


def test_another_users_state_folder_is_not_used_and_the_program_runs(device: StartedProgram, kit: Kit) -> None:
    device.start()
    os.chown(device.installation.layout.state_folder, 12345, 12345)
    os.chown(device.program.parent, 0, 0)
    code = (
        "import sys; from pathlib import Path; from pypatcher.install import Installation, owner_verifies;"
        "from pypatcher.keys import OwnerKey; owner = OwnerKey(bytes.fromhex(sys.argv[2]));"
        "print(Installation(Path(sys.argv[1]), owner_verifies(owner, None)).settle('run').reason)"
    )
    command = [sys.executable, "-c", code, device.program, KEY.public.hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "belongs to user 12345" in done.stdout
    assert said_version(device.program) == "1.0.0"


def test_of_two_copies_started_at_once_both_run_and_one_updates(device: StartedProgram, kit: Kit) -> None:
    device.start()
    device.stage(kit.new)
    first, second = StartedProgram(device.program), StartedProgram(device.program)
    with first.installation.updater_lock() as mine, second.installation.updater_lock() as other:
        assert (mine, other) == (True, False)
    # `device` itself still runs from the old file: nobody may change it under a running process.
    first.start()
    second.start()
    assert device.program.read_bytes() == kit.old.read_bytes()


@pytest.mark.parametrize("when", ["staged", "on trial"])
def test_scp_over_the_program_wins_over_a_trial(device: StartedProgram, kit: Kit, when: str) -> None:
    device.brought_to(when, kit)
    device.program.write_bytes(kit.next.read_bytes())
    for _ in range(5):
        device.start()
        assert device.program.read_bytes() == kit.next.read_bytes()
        device.installation.end_start(requested=False)
    status = device.installation.status()
    assert (str(status.confirmed), status.trial, status.needs) == ("2.0.1", None, "")


def test_half_a_program_by_scp_runs_as_it_is_and_a_whole_one_mends_it(device: StartedProgram, kit: Kit) -> None:
    device.brought_to("on trial", kit)
    device.program.write_bytes(kit.next.read_bytes()[:5000])
    device.start()
    assert device.installation.status().needs
    device.program.write_bytes(kit.next.read_bytes())
    device.start()
    assert str(device.installation.status().confirmed) == "2.0.1"


@pytest.mark.parametrize("stage", STAGES)
def test_a_cloned_card_goes_on_as_the_original(device: StartedProgram, kit: Kit, stage: str, tmp_path: Path) -> None:
    device.brought_to(stage, kit)
    shutil.copytree(device.program.parent, tmp_path / "clone", copy_function=shutil.copy2)
    original, clone = StartedProgram(device.program), StartedProgram(tmp_path / "clone" / "app")
    device.installation = original.installation
    for one in (original, clone):
        one.start()
        one.installation.confirm()
    if stage not in ("staged", "on trial"):
        assert original.program.read_bytes() == clone.program.read_bytes()
    assert clone.installation.status().needs == ""
    clone.stage(kit.next)
    clone.start()
    assert said_version(clone.program) == "2.0.1"


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_cache_is_an_empty_one(tmp_path: Path, damage: Damage) -> None:
    cache = Cache(tmp_path / "cache")
    peers: tuple[Address, ...] = (("192.0.2.1", 1), ("192.0.2.2", 2))
    cache.save(Memory(port=7, good_peers=peers, staged={"ab": "cd"}))
    damage(tmp_path / "cache" / "node.json")
    loaded = Cache(tmp_path / "cache").load()
    assert loaded == Memory() or damage is of_another_user
    cache.save(Memory(port=8))


def test_two_programs_with_one_cache_folder_lose_hints_at_most(tmp_path: Path) -> None:
    first, second = Cache(tmp_path / "cache"), Cache(tmp_path / "cache")
    first.save(Memory(port=1, staged={"aa": "bb"}))
    second.save(Memory(port=2))
    assert first.load() == second.load() == Memory(port=2)


@pytest.mark.parametrize("damage", [emptied, cut, nuls, noise, huge])
def test_a_damaged_report_is_no_report(device: StartedProgram, damage: Damage) -> None:
    device.start()
    device.installation.write_report(b'{"format": 1}')
    damage(device.installation.layout.state_folder / "node.json")
    assert decode_report(device.installation.read_report(REPORT_LIMIT + 1)) is None


def test_what_cannot_be_written_down_is_said_as_an_error_of_ours(device: StartedProgram) -> None:
    device.start()
    device.installation.layout.state_folder.chmod(0o777)
    with pytest.raises(PatcherError, match="others can write"):
        device.installation.write_report(b"{}")
