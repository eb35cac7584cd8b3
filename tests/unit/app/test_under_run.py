"""A program below ``pypatcher run`` that names a key of its own: that of ``run`` alone counts.

The test's process is ``run``: it settles, and holds the installation. The program is a real zipapp in a process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipapp
from pathlib import Path

import pypatcher
from pypatcher.artifact import embed_region, read_release, sign_file
from pypatcher.install import Installation, owner_verifies
from pypatcher.keys import KeyPair, OwnerKey, encode_key
from pypatcher.version import Version

OLD, NEW = KeyPair.from_seed(bytes(range(1, 33))), KeyPair.from_seed(bytes(range(2, 34)))
APP = """
import pypatcher

@pypatcher.public_key("KEY")
def main():
    print("VERSION", pypatcher.confirm())

main()
"""


def built(folder: Path, version: str, signs: KeyPair, names: KeyPair) -> Path:
    source = folder / f"source-{version}"
    source.mkdir(parents=True)
    (source / "__main__.py").write_text(
        APP.replace("VERSION", version).replace("KEY", encode_key(names.public)), encoding="utf-8"
    )
    path = folder / version
    zipapp.create_archive(source, path, interpreter=sys.executable)
    embed_region(path, Version.parse(version))
    sign_file(path, signs, None, None)
    return path


def stage(device: Installation, release: Path) -> None:
    with release.open("rb") as file, device.new_partial() as partial:
        partial.write(file.read())
        device.stage(partial, read_release(file.fileno()).info)


def start(device: Installation) -> tuple[int, str]:
    """The status and the output of the program, started as ``run`` starts it."""
    done = subprocess.run(
        [sys.executable, str(device.program)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(pypatcher.__file__).parents[1]),
            "PYPATCHER_RUN": os.path.realpath(device.program),
        },
    )
    return done.returncode, done.stdout.strip()


def installed(folder: Path, release: Path) -> Installation:
    """A device whose ``run`` has both keys, as while the owner's key changes."""
    folder.mkdir()
    device = Installation(
        Path(shutil.copy(release, folder / "app")), owner_verifies(OwnerKey(NEW.public), None, OwnerKey(OLD.public))
    )
    device.settle("run")
    return device


def test_a_release_whose_program_names_another_key_is_not_refused(tmp_path: Path) -> None:
    """Before, every release of such a program was refused for good, and the device was left behind."""
    device = installed(tmp_path / "device", built(tmp_path, "1.0.0", OLD, OLD))
    stage(device, built(tmp_path, "1.1.0", NEW, OLD))
    assert str(device.settle("run").activated) == "1.1.0"
    assert start(device) == (0, "1.1.0 True")
    status = device.status()
    assert (str(status.confirmed), status.trial, status.refused) == ("1.1.0", None, ())


def test_a_second_process_of_such_a_program_drops_no_staged_release(tmp_path: Path) -> None:
    """Before, it unlinked what its own key had not signed, and ``run`` fetched it again and again."""
    device = installed(tmp_path / "device", built(tmp_path, "1.0.0", OLD, OLD))
    stage(device, built(tmp_path, "1.1.0", NEW, OLD))
    assert start(device) == (0, "1.0.0 False")
    assert device.staged_release() is not None
