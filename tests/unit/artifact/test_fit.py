"""Which targets a file is for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pypatcher.artifact.fit import check_device, check_target, program_target
from pypatcher.artifact.region import template
from pypatcher.errors import ArtifactError, WrongTargetError
from pypatcher.targets import find_target, load_targets
from pypatcher.version import Version
from tests.support.programs import AARCH64, ARM, X86_64, make_elf, make_zipapp

Opened = Callable[[bytes], int]
X86_ELF = make_elf(machine=X86_64)
A64_ELF = make_elf(machine=AARCH64)
HARD = make_elf(bits=32, machine=ARM, flags=0x5000400)
GO_ARM = make_elf(bits=32, machine=ARM, flags=0x5000002)
SOFT = make_elf(bits=32, machine=ARM, flags=0x5000200)


@pytest.mark.parametrize(
    ("data", "targets"),
    [
        (X86_ELF, {"x86_64"}),
        (A64_ELF, {"aarch64"}),
        (HARD, {"armv7"}),
        (GO_ARM, {"armv7"}),
        (SOFT, set()),
        (make_elf(bits=32, machine=X86_64), set()),
        (make_elf(order=">", machine=AARCH64), set()),
        (make_elf(bits=32, machine=3), set()),
        (make_zipapp(), set(load_targets())),
        (make_zipapp({"a.so": HARD, "b": b"text"}), {"armv7"}),
        (make_zipapp({"a.so": HARD, "deep/b.so.1": A64_ELF}), set()),
        (make_zipapp({"a.so": X86_ELF}, comment=template(Version(1, 0, 0))), {"x86_64"}),
    ],
)
def test_a_file_fits_the_targets_that_all_its_elf_parts_fit(opened: Opened, data: bytes, targets: set[str]) -> None:
    fd = opened(data)
    assert program_target(fd) == targets
    for name in ("x86_64", "aarch64", "armv7"):
        if name in targets:
            check_target(fd, find_target(name))
        else:
            with pytest.raises(WrongTargetError, match=name):
                check_target(fd, find_target(name))


def test_the_reason_names_the_part_and_what_it_is(opened: Opened) -> None:
    with pytest.raises(WrongTargetError, match=r"member 'lib/x\.so' is not for target armv7: it is built for AArch64"):
        check_target(opened(make_zipapp({"lib/x.so": A64_ELF})), find_target("armv7"))
    with pytest.raises(WrongTargetError, match="soft-float"):
        check_target(opened(SOFT), find_target("armv7"))


@pytest.mark.parametrize("data", [b"", b"text", make_elf(kind=1), make_elf(kind=4), b"\x7fELF", b"#!/bin/sh\necho\n"])
def test_other_files_are_for_nothing(opened: Opened, data: bytes) -> None:
    with pytest.raises(ArtifactError):
        program_target(opened(data))
    with pytest.raises(ArtifactError):
        check_target(opened(data), find_target("x86_64"))


def test_a_zipapp_with_a_broken_elf_member_is_refused(opened: Opened) -> None:
    with pytest.raises(ArtifactError, match=r"'x\.so' cannot be read"):
        program_target(opened(make_zipapp({"x.so": HARD[:30]})))


@pytest.mark.parametrize("machine", ["armv6l", "armv5tel"])
def test_an_armv6_device_is_told_that_it_is_no_target(machine: str) -> None:
    with pytest.raises(WrongTargetError, match="Pi 1, Zero"):
        check_device(find_target("armv7"), machine)


@pytest.mark.parametrize(("target", "machine"), [("armv7", "armv7l"), ("armv7", "aarch64"), ("x86_64", "x86_64")])
def test_other_devices_pass(target: str, machine: str) -> None:
    check_device(find_target(target), machine)
