"""The unit tests on an emulated device: everything that pure Python and the extensions compute, on its processor."""

from __future__ import annotations

import re
from pathlib import Path

from cross.workshop import StepFailedError
from qemu.device import Device

__all__ = ["measure", "run_unit_tests"]

_COMPILED = ("tests/unit/artifact", "tests/unit/discovery")
_TOP = ("tests/unit/test_addresses.py", "tests/unit/test_keys.py", "tests/unit/test_targets.py",
        "tests/unit/test_version.py")  # fmt: skip
_PURE = ("tests/unit/artifact/test_hashing.py", "tests/unit/artifact/test_sections.py",
         "tests/unit/artifact/test_verify.py", "tests/unit/artifact/test_sign.py")  # fmt: skip
_NOT_THERE = ("real_program", "owner_is_kept", "none_of_our_files", "on_one_interface")
"""Names of tests that need what an emulated device lacks: a compiler, a second user id, the sources, multicast."""
_FEWER_EXAMPLES = """\
from hypothesis import settings

settings.register_profile("device", max_examples=10, deadline=None)
settings.load_profile("device")
"""
_MEASURE = """
import time
start = time.perf_counter()
import pypatcher
first = time.perf_counter()
import pypatcher.node.node
second = time.perf_counter()
status = open("/proc/self/status").read()
print(first - start, second - start, status.partition("VmRSS:")[2].split()[0])
"""


def run_unit_tests(device: Device) -> tuple[int, int]:
    """Run them; returns how many passed with the extensions and how many on the pure twins.

    Raises:
        StepFailedError: one failed.
    """
    # An emulator is slow, and the inputs that properties find are no others there: fewer of them do.
    device.path("/opt/tests/fewer_examples.py").write_text(_FEWER_EXAMPLES, encoding="ascii")
    return _pytest(device, *_COMPILED, *_TOP), _pytest(device, *_PURE, PYPATCHER_NO_EXTENSIONS="1")


def measure(device: Device) -> dict[str, object]:
    """What pypatcher costs this device; for ``bench/footprint.py``."""
    site = next((device.root / "opt" / "pypatcher" / "lib").glob("python*/site-packages"))
    said = device.run(device.python, "-c", _MEASURE).split()
    return {
        "target": device.target.name,
        "wheelhouse_mb": _size(device.wheelhouse) / 1e6,
        "installed_mb": _size(site) / 1e6,
        "import_s": float(said[0]),
        "node_s": float(said[1]),
        "rss_kb": int(said[2]),
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _pytest(device: Device, *tests: str, **environment: str) -> int:
    deselect = " and ".join(f"not {name}" for name in _NOT_THERE)
    command = f'cd /src && exec {device.python} -m pytest -q -p no:cacheprovider -p fewer_examples -k "{deselect}" "$@"'
    said = device.run("/bin/sh", "-c", command, "sh", *tests, PYTHONPATH="/opt/tests", **environment)
    passed = re.search(r"(\d+) passed", said)
    if passed is None:
        raise StepFailedError(f"{device.target.name}: no test ran:\n{said[-2000:]}")
    return int(passed[1])
