"""What becomes of a device when it hears a word and is restarted: every state of it by every word, as one table.

The files are lines of text that a verifier takes for releases which the owner signed; all else is the real code, on the
real disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo, VerifiedRelease
from pypatcher.artifact.manifest import Manifest
from pypatcher.artifact.terms import ALL
from pypatcher.bencode import Value
from pypatcher.errors import NotNewerError
from pypatcher.install import Installation
from pypatcher.install.files import OsFiles
from pypatcher.install.layout import Entry
from pypatcher.update.orders import stored_orders, word_name
from pypatcher.update.policy import Place, Policy, draw
from pypatcher.update.rule import DeviceRule, NodeRule
from pypatcher.update.stored_word import InstallationStore
from pypatcher.update.wanted import PastDownloads
from pypatcher.update.word import OwnersWord
from tests.support.manifests import OWNER_KEY, TARGET, release, word
from tests.support.text_programs import program, verify_program, write_program

DEVICE = bytes(range(16))
NEW, FIX, STABLE = "1.3.0", "1.4.0", "1.1.0"
OUT = draw(DEVICE, release(NEW).release_id)
"""The share at which this device does not take part yet in NEW."""


def verify(fd: int, expect: PatchInfo | None = None, /) -> VerifiedRelease:
    found = verify_program(fd)
    return replace(found, info=release(str(found.info.version)))


class TableDevice:
    """A device that runs 1.0.0, and knows no word."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.path = write_program(folder / "app", "1.0.0")
        self.installation = Installation(
            self.path, verify, kind=lambda _: "ext4", orders=stored_orders([OWNER_KEY], TARGET)
        )
        self.start()

    def start(self) -> None:
        self.installation.settle("run")

    def stage(self, version: str) -> None:
        partial = self.installation.new_partial()
        partial.write(program(version))
        self.installation.stage(partial, release(version))

    def ears(self) -> OwnersWord:
        """What one process of the program has heard: at first, what is stored."""
        store = InstallationStore(
            self.installation,
            OWNER_KEY,
            lambda each: DeviceRule(Policy(each, device_id=DEVICE), OWNER_KEY, lambda _: False),
        )
        return OwnersWord(OWNER_KEY, TARGET, store)

    def hear(self, told: Manifest) -> None:
        self.ears().hear_at_once(told.encode())

    def forget(self) -> None:
        """The word is lost, its flag is not."""
        self.hear(word("1.0.0"))
        (self.installation.layout.state_folder / f"manifest-{word_name(OWNER_KEY)}").write_bytes(b"torn")

    def says(self) -> str:
        """``P``, ``t`` on trial; what is staged (s) and what waits (w)."""
        status = self.installation.status()
        waiting = self.installation.layout.state_folder / "waiting"
        kept = [f"{status.running}{'t' if status.trial else ''}"]
        kept += [f"s{status.staged}"] if status.staged else []
        kept += [f"w{waiting.read_bytes().split()[1].decode()}"] if waiting.exists() else []
        return " ".join(each.removesuffix(".0") for each in kept).replace(".0t", "t")


def trial_of_new(device: TableDevice) -> None:
    device.stage(NEW)
    device.start()


def hotfix(device: TableDevice) -> None:
    trial_of_new(device)
    device.stage(FIX)


def waits(device: TableDevice) -> None:
    device.stage(NEW)
    folder = device.installation.layout.state_folder
    (folder / "staged").rename(folder / "waiting")


def refused(device: TableDevice) -> None:
    trial_of_new(device)
    device.installation.roll_back()


def confirmed(device: TableDevice) -> None:
    trial_of_new(device)
    device.installation.confirm()


def by_hand(device: TableDevice, version: str = NEW) -> None:
    source = device.path.with_name("brought")
    source.write_bytes(program(version))
    fd = os.open(source, os.O_RDONLY)
    try:
        device.installation.stage_file(fd)
    finally:
        os.close(fd)


STATES: dict[str, Callable[[TableDevice], None]] = {
    "old": lambda _: None,
    "staged": lambda device: device.stage(NEW),
    "waiting": waits,
    "trial": trial_of_new,
    "hotfix": hotfix,
    "refused": refused,
    "confirmed": confirmed,
    "by hand": by_hand,
}
STABLE_KEY: dict[str, Value] = {"stable": release(STABLE).to_postcard()}
WORDS: dict[str, list[Manifest]] = {
    "none": [],
    "lost": [],
    "share 0": [word(NEW, share=0)],
    "share 1": [word(NEW, share=1)],
    "below": [word(NEW, share=OUT)],
    "above": [word(NEW, share=OUT + 1)],
    "all": [word(NEW, share=ALL)],
    "held": [word(NEW), word(NEW, hold=1, revision=1)],
    "held, replayed": [word(NEW, hold=1, revision=1), word(NEW)],
    "reopened": [word(NEW, hold=2), word(NEW, revision=1)],
    "recalled": [word(NEW, hold=2)],
    "unknown must": [word(NEW, must=[b"cosign"])],
    "two words": [word(NEW), word(NEW, content=1, revision=1)],
    "two words, back": [word(NEW, content=1), word(NEW, revision=1)],
    "hotfix": [word(NEW, hold=1), word(FIX, **STABLE_KEY)],
    "hotfix held": [word(NEW, hold=1), word(FIX, hold=1, **STABLE_KEY)],
    "without its own": [word("1.2.0")],
}
"""What is heard, in turn; ``without its own``: NEW and FIX are out, and the newest word is of an older release."""

TABLE = """
none            | 1.0  | 1.3t     | 1.0 w1.3 | 1.3t     | 1.3t s1.4 | 1.0 | 1.3 | 1.3t
lost            | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
share 0         | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
share 1         | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
below           | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
above           | 1.0  | 1.3t     | 1.3t     | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
all             | 1.0  | 1.3t     | 1.3t     | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
held            | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
held, replayed  | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
reopened        | 1.0  | 1.3t     | 1.3t     | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
recalled        | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.0 w1.3 | 1.0 w1.3  | 1.0 | 1.3 | 1.3t
unknown must    | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
two words       | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
two words, back | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
hotfix          | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.4t w1.3 | 1.0 | 1.3 | 1.3t
hotfix held     | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
without its own | 1.0  | 1.0 w1.3 | 1.0 w1.3 | 1.3t     | 1.3t w1.4 | 1.0 | 1.3 | 1.3t
"""
"""A column for each state: ``P`` (t: on trial), what is staged (s), what waits (w), after the word and one start."""


def rows() -> dict[tuple[str, str], str]:
    found = {}
    for line in TABLE.strip().splitlines():
        name, *cells = (cell.strip() for cell in line.split("|"))
        found |= {(name, state): cell for state, cell in zip(STATES, cells, strict=True)}
    return found


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", WORDS)
def test_what_becomes_of_a_device(tmp_path: Path, name: str, state: str) -> None:
    device = TableDevice(tmp_path / "device")
    STATES[state](device)
    for told in WORDS[name]:
        device.hear(told)
    if name == "lost":
        device.forget()
    device.start()
    assert device.says() == rows()[name, state]


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EMLINK, errno.EPERM])
def test_a_recall_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int) -> None:
    device = TableDevice(tmp_path / "device")
    trial_of_new(device)
    device.hear(word(NEW, hold=2))

    def fails(*_: object, **__: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "link", fails)
    device.start()
    assert device.says() == "1.0"


def test_what_could_not_be_staged_by_hand_takes_nothing_away(tmp_path: Path) -> None:
    device = TableDevice(tmp_path / "device")
    by_hand(device)
    with pytest.raises(NotNewerError):
        by_hand(device, STABLE)
    device.hear(word(NEW, hold=1))
    device.start()
    assert device.says() == "1.3t"


def test_a_second_process_brings_no_older_word_back(tmp_path: Path) -> None:
    device = TableDevice(tmp_path / "device")
    first, second = device.ears(), device.ears()
    device.stage(NEW)
    first.hear_at_once(word(NEW, revision=2, hold=1).encode())
    assert device.says() == "1.0 w1.3"
    second.hear_at_once(word(NEW, revision=1).encode())
    assert second.current == device.ears().current == word(NEW, revision=2, hold=1)
    device.start()
    assert device.says() == "1.0 w1.3"


async def test_who_carries_a_word_out_late_undoes_no_newer_one(tmp_path: Path) -> None:
    device = TableDevice(tmp_path / "device")
    device.stage(NEW)
    late = NodeRule(
        device.installation, PastDownloads(), OWNER_KEY, device_id=DEVICE, place=Place.BY_DRAW, is_required=False
    )
    late.word = device.ears()
    late.word.hear_at_once(word(NEW, hold=1).encode())
    assert device.says() == "1.0 w1.3"
    device.hear(word(NEW, revision=1))
    assert device.says() == "1.0 s1.3"
    await late.arrange()
    assert device.says() == "1.0 s1.3"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_a_word_that_cannot_be_read_lets_nothing_be_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    device = TableDevice(tmp_path / "device")
    device.hear(word("1.2.0"))
    device.hear(word(NEW, hold=1))
    by_guess = device.installation.layout.state_folder / "staged"
    by_guess.write_bytes(program(NEW))
    by_guess.chmod(0o755)
    genuine = OsFiles.open

    def broken(files: OsFiles, entry: Entry) -> int:
        if entry.name.startswith("manifest-"):
            raise OSError(number, os.strerror(number))
        return genuine(files, entry)

    monkeypatch.setattr(OsFiles, "open", broken)
    device.start()
    assert device.says() in ("1.0 s1.3", "1.0 w1.3")
