"""Which device this is: decided by the program, then by the interpreter, never by the kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pypatcher.errors import SettingError, WrongTargetError
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.node.device import own_key, own_target
from pypatcher.targets import find_target
from tests.support.programs import AARCH64, ARM, X86_64, make_elf, make_zipapp

ARM_PROGRAM = make_elf(bits=32, machine=ARM, flags=0x5000400)
PROGRAMS = {"armv7": ARM_PROGRAM, "aarch64": make_elf(machine=AARCH64), "x86_64": make_elf(machine=X86_64)}
FIRST, SECOND = (OwnerKey(KeyPair.from_seed(bytes([seed]) * 32).public) for seed in (1, 2))
Kernel = Callable[[str], None]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Have ``uname -m`` say something."""
    return lambda machine: monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@pytest.mark.parametrize("machine", ["aarch64", "armv8l", "armv7l"])
@pytest.mark.parametrize("program", [ARM_PROGRAM, make_zipapp(), make_zipapp({"a.so": ARM_PROGRAM}), b"damaged"])
def test_a_32_bit_userland_on_a_64_bit_kernel_is_armv7(
    write: Callable[[str, bytes], Path], kernel: Kernel, program: bytes, machine: str
) -> None:
    kernel(machine)
    assert own_target(write("app", program), write("python", ARM_PROGRAM)).name == "armv7"


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_program_is_of_its_own_target_whatever_interprets_others(
    write: Callable[[str, bytes], Path], kernel: Kernel, name: str
) -> None:
    kernel("aarch64")
    for interpreter in PROGRAMS.values():
        assert own_target(write("app", PROGRAMS[name]), write("python", interpreter)).name == name


def test_a_zipapp_for_another_machine_than_its_python_has_no_target(write: Callable[[str, bytes], Path]) -> None:
    program = make_zipapp({"a.so": ARM_PROGRAM, "b.so": PROGRAMS["aarch64"]})
    with pytest.raises(WrongTargetError, match="no target that pypatcher knows"):
        own_target(write("app", program), write("python", ARM_PROGRAM))


def test_a_processor_below_the_target_is_told(write: Callable[[str, bytes], Path], kernel: Kernel) -> None:
    kernel("armv6l")
    with pytest.raises(WrongTargetError, match="Pi 1, Zero"):
        own_target(write("app", make_zipapp()), write("python", ARM_PROGRAM))


def test_each_device_picks_the_key_of_its_target() -> None:
    keys = {"armv7": FIRST, "aarch64": SECOND}
    assert [own_key(keys, find_target(name)) for name in keys] == [FIRST, SECOND]
    assert own_key({None: FIRST}, find_target("armv7")) == FIRST
    with pytest.raises(SettingError, match="no public key was given for this device's target, x86_64"):
        own_key(keys, find_target("x86_64"))
