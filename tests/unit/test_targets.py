"""A target is a file, and adding one is adding a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pypatcher import targets
from pypatcher.errors import SettingError
from pypatcher.targets import find_target, load_targets, read_targets

FOLDER = Path(__file__).parents[2] / "targets"


def test_the_targets_of_the_design_are_known() -> None:
    assert set(load_targets()) >= {"aarch64", "armv7", "x86_64"}
    arm = find_target("armv7")
    assert (arm.elf_machine, arm.elf_class, arm.byte_order, arm.float_abi) == (40, 32, "little", "hard")
    assert (arm.gnu_triplet, arm.debian_arch) == ("arm-linux-gnueabihf", "armhf")
    assert (find_target("aarch64").elf_machine, find_target("x86_64").elf_machine) == (183, 62)


def test_an_unknown_target_is_told_which_there_are() -> None:
    with pytest.raises(SettingError, match=f"unknown target 'armv6': choose one of {', '.join(load_targets())}"):
        find_target("armv6")


def test_sources_that_were_bundled_without_targets_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pypatcher._built_in_targets", None)  # an installed pypatcher has it
    monkeypatch.setattr(targets, "__file__", str(tmp_path / "bundle" / "pypatcher" / "targets.py"))
    with pytest.raises(SettingError, match="build the program in a folder of its own"):
        load_targets.__wrapped__()


def test_adding_a_target_is_adding_a_file(tmp_path: Path) -> None:
    text = (FOLDER / "aarch64.toml").read_text()
    (tmp_path / "riscv64.toml").write_text(text.replace("183", "243"))
    (tmp_path / "README").write_text("no target")
    assert {name: target.elf_machine for name, target in read_targets(tmp_path).items()} == {"riscv64": 243}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not = toml = at all", "target file"),
        ("elf_machine = 1", "missing"),
        ((FOLDER / "armv7.toml").read_text() + "colour = 'blue'\n", "colour"),
        (
            (FOLDER / "armv7.toml").read_text().replace("elf_class = 32", "elf_class = '32'"),
            "elf_class must be of type",
        ),
    ],
)
def test_a_file_that_is_no_target_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(SettingError, match=message) as raised:
        read_targets(tmp_path)
    assert "odd.toml" in str(raised.value)
