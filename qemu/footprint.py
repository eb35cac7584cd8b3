"""What pypatcher costs an emulated device: sizes, imports, and a node that is idle, fetches and serves 50 MB.

``bench/footprint.py`` writes the page, and measures the same application natively. The emulator's own memory and
slowness are part of these numbers.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import zipapp
import zipfile
from pathlib import Path
from typing import Any

from cross.clean import clean_environment
from cross.workshop import REPOSITORY, StepFailedError, fresh_folder
from qemu.device import CACHE, Device
from qemu.native import Native
from qemu.story import serve_natively
from qemu.watched import Watched

__all__ = ["measure", "measure_data_path"]

_APP = REPOSITORY / "bench" / "footprint_app.py"
_PAYLOAD = 50 * 1000 * 1000
_MEGABYTES = 16
_IDLE = 90
_LONG = 3000.0
"""Seconds for 50 MB on an emulator that shares its machine with others."""
_IMPORTS = """
import time
start = time.perf_counter()
import pypatcher
first = time.perf_counter()
import pypatcher.node.node
second = time.perf_counter()
print(first - start, second - start)
"""


def measure(device: Device, native: Native) -> dict[str, object]:
    """Measure one device; times in seconds, sizes in MB of 10^6 bytes, memory in KiB.

    Raises:
        StepFailedError: it does not work.
    """
    site = next((device.root / "opt" / "pypatcher" / "lib").glob("python*/site-packages"))
    first, second = device.run(device.python, "-c", _IMPORTS).split()
    numbers: dict[str, object] = {
        "target": device.target.name,
        "wheelhouse_mb": _size(device.wheelhouse) / 1e6,
        "installed_mb": _size(site) / 1e6,
        "import_s": float(first),
        "node_s": float(second),
    }
    work = fresh_folder(CACHE / "footprint" / device.target.name)
    native.pypatcher("gen", work / "key")
    with contextlib.ExitStack() as cleanup:
        bench = _Bench(device, native, work, cleanup)
        return numbers | {"idle": bench.idle(), "fetch": bench.fetch(), "serve": bench.serve()}


def measure_data_path(device: Device) -> str:
    """What ``bench/transfer.py`` says there: the emulator's ratios, its seconds say nothing.

    Raises:
        StepFailedError: it does not work.
    """
    bench = f"{device.python} -m bench.transfer --size-mb {_MEGABYTES}"
    return device.run("/bin/sh", "-ec", f"cd /src; exec {bench}")


class _Bench:
    """One device, a private DHT, and a native node at the other end."""

    def __init__(self, device: Device, native: Native, work: Path, cleanup: contextlib.ExitStack) -> None:
        self._device, self._native, self._work, self._cleanup = device, native, work, cleanup
        command = [str(native.folder / "bin" / "pypatcher"), "testnet", "--json"]
        testnet = self._watch("testnet", command, clean_environment())
        line = testnet.wait_for("entry points", lambda line: line.startswith("{"), _LONG)
        self._owner = (work / "key.pub").read_text(encoding="ascii").split()[1]
        self._environment = {
            "OWNER": self._owner,
            "PYPATCHER_BOOTSTRAP": ",".join(json.loads(line)["bootstrap"]),
            "PYPATCHER_BIND": "127.0.1.1:0",
        }
        self._busy = {"PYPATCHER_LOOK_INTERVAL": "2", "PYPATCHER_PUBLISH_INTERVAL": "5"}

    def idle(self) -> dict[str, Any]:
        """A node that has nothing to do."""
        return self._result(self._start("idle", self._make("1.0.0"), str(_IDLE)))

    def fetch(self) -> dict[str, Any]:
        """The device takes a release from a native node."""
        environment = {**self._environment, **self._busy, "PYPATCHER_BIND": "127.0.3.1:0"}
        seed = {
            "label": "native node",
            "file": str(self._make("1.1.0", _PAYLOAD)),
            "target": self._device.target.name,
            "owner": self._owner,
            "hostile": False,
        }
        with serve_natively(self._native, [seed], environment):
            return self._result(self._start("fetch", self._make("1.0.1"), str(_LONG), "/no/flag", **self._busy))

    def serve(self) -> dict[str, Any]:
        """A native node takes a release from the device."""
        flag = self._device.path("/device/flag")
        flag.unlink(missing_ok=True)
        release = self._make("1.2.0", _PAYLOAD)
        serving = self._start("serve", release, str(_LONG), "/device/flag", **self._busy)
        self._native.pypatcher(
            "fetch", "--public-key", self._owner, "--target", self._device.target.name, "--min-version", "1.2.0",
            "--timeout", "60", "--out", self._work / "fetched",
            **{**self._environment, "PYPATCHER_BIND": "127.0.4.1:0"},
        )  # fmt: skip
        if (self._work / "fetched").read_bytes() != release.read_bytes():
            raise StepFailedError(f"{self._device.target.name}: it served another file")
        flag.touch()
        return self._result(serving)

    def _make(self, version: str, payload: int = 0) -> Path:
        source = fresh_folder(self._work / version / "source")
        shutil.copy2(_APP, source / "__main__.py")
        app = self._work / version / "app.pyz"
        zipapp.create_archive(source, app, interpreter=self._device.python)
        if payload:
            with zipfile.ZipFile(app, "a") as archive:
                archive.writestr("payload", secrets.token_bytes(payload))
        app.chmod(0o755)
        self._native.pypatcher("embed", app, "--version", version)
        self._native.pypatcher("sign", app, "--key-file", self._work / "key")
        return app

    def _start(self, name: str, app: Path, *arguments: str, **extra: str) -> Watched:
        folder = fresh_folder(self._device.path(f"/device/{name}"))
        shutil.copy2(app, folder)
        command = self._device.command(self._device.python, f"/device/{name}/app.pyz", *arguments)
        environment = self._device.environment(
            **self._environment, **extra, PYPATCHER_STATE=f"/device/{name}/state", PYPATCHER_ALLOW_VOLATILE="1"
        )
        return self._watch(f"{self._device.target.name} {name}", command, environment)

    def _watch(self, label: str, command: list[str], environment: dict[str, str]) -> Watched:
        process = Watched(label, command, environment)
        self._cleanup.callback(process.stop)
        return process

    @staticmethod
    def _result(process: Watched) -> dict[str, Any]:
        return dict(json.loads(process.wait_for("its numbers", lambda line: line.startswith('{"own_kb"'), _LONG)))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
