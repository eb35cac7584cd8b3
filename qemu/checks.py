"""The unit tests on an emulated device: everything that pure Python and the extensions compute, on its processor."""

from __future__ import annotations

import re

from cross.workshop import StepFailedError
from qemu.device import Device

__all__ = ["run_unit_tests", "run_wheel_tests"]

_UNITS = (
    "tests/unit/artifact", "tests/unit/discovery", "tests/unit/established/test_compiled.py",
    "tests/unit/established/test_protection.py", "tests/unit/established/test_hostile_peer.py",
    "tests/unit/install", "tests/unit/process",
    "tests/unit/test_addresses.py", "tests/unit/test_keys.py", "tests/unit/test_targets.py",
    "tests/unit/test_version.py", "tests/unit/cli/test_files.py", "tests/unit/cli/test_gen.py",
    "tests/unit/node/test_device.py", "tests/unit/update/test_mode.py", "tests/unit/test_settings.py",
    "tests/unit/transfer/test_wire.py", "tests/unit/test_udp.py",
)  # fmt: skip
"""What depends on the processor, the C library or the file system, and is quick enough for every run."""
_EVERYTHING = ("tests/unit", "--ignore=tests/unit/test_new_target.py")
_WHEEL = ("tests/unit/artifact/test_hashing.py", "tests/unit/artifact/test_sections.py",
          "tests/unit/artifact/test_sign.py", "tests/unit/artifact/test_verify.py",
          "tests/unit/discovery/test_records.py", "tests/unit/transfer/test_exchange.py")  # fmt: skip
_PURE = ("tests/unit/artifact/test_hashing.py", "tests/unit/artifact/test_sections.py",
         "tests/unit/artifact/test_verify.py", "tests/unit/artifact/test_sign.py")  # fmt: skip
_NOT_THERE = (
    "real_program",  # a copy of one of the device's programs, which here are Busybox under another name
    "becomes_a_program",
    "test_installed.py",  # a compiler
    "of_every_link",
    "split_debug_file",
    "shared_library_is",
    "truncated_program",
    "null_entry",
    "owner_is_kept",  # a second user id
    "of_another_user",
    "lacks_rights",
    "file_capabilities",  # extended attributes of the real root
    "none_of_our_files",  # the sources
    "compiled_is_of_these_files",
    "test_documents.py",  # the documents
    "on_one_interface",  # multicast
    "test_restart.py",  # signals to threads within milliseconds: shown on the host
    "test_supervisor.py",
    "test_children.py",
    "changed_archives",  # time: thousands of random inputs to what is pure Python anyhow
)
"""Tests, by parts of their names, that need what an emulated device lacks."""
_FEWER_EXAMPLES = """\
from hypothesis import settings

settings.register_profile("device", max_examples=10, deadline=None)
settings.load_profile("device")
"""


def run_unit_tests(device: Device, *, everything: bool = False) -> tuple[int, int]:
    """Run them, the slow ones too if ``everything``; how many passed with the extensions and how many on the twins.

    Raises:
        StepFailedError: one failed.
    """
    _use_extensions(device)
    compiled = _pytest(device, *(_EVERYTHING if everything else _UNITS))
    return compiled, _pytest(device, *_PURE, PYPATCHER_NO_EXTENSIONS="1")


def run_wheel_tests(device: Device) -> int:
    """Run those that show that a wheel works on another Python; how many passed.

    Raises:
        StepFailedError: one failed.
    """
    _use_extensions(device)
    return _pytest(device, *_WHEEL)


def _use_extensions(device: Device) -> None:
    said = device.run(device.python, "-m", "pypatcher", "--version", PYTHONPATH="/opt/tests")
    if "compiled extensions" not in said:
        raise StepFailedError(f"{device.target.name}: the wheel's extensions are not in use: {said}")


def _pytest(device: Device, *tests: str, **environment: str) -> int:
    # An emulator is slow, and the inputs that properties find are no others there: fewer of them do.
    device.path("/opt/tests/fewer_examples.py").write_text(_FEWER_EXAMPLES, encoding="ascii")
    deselect = " and ".join(f"not {name}" for name in _NOT_THERE)
    command = f'cd /src && exec {device.python} -m pytest -q -p no:cacheprovider -p fewer_examples -k "{deselect}" "$@"'
    said = device.run("/bin/sh", "-c", command, "sh", *tests, PYTHONPATH="/opt/tests", **environment)
    passed = re.search(r"(\d+) passed", said)
    if passed is None:
        raise StepFailedError(f"{device.target.name}: no test ran:\n{said[-2000:]}")
    return int(passed[1])
