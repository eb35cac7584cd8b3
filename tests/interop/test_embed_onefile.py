"""Real finished programs given a region: a PyInstaller onefile app, and an embedded program after objcopy and strip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pypatcher.artifact import Carrier, embed_region, locate_region, program_target, sign_file, verify_release
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.version import Version

KEY = KeyPair.from_seed(bytes(range(32)))


@pytest.fixture(scope="module")
def onefile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A onefile app that imports from its archive while it runs, and prints its arguments."""
    folder = tmp_path_factory.mktemp("onefile")
    (folder / "app.py").write_text("import sys, json\nprint(json.dumps(sys.argv[1:]))\n")
    command = [sys.executable, "-m", "PyInstaller", "--onefile", "--log-level", "ERROR", "--distpath", ".", "app.py"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder / "app"


@pytest.mark.parametrize("carrier", ["auto", "section", "tail"])
def test_a_onefile_app_runs_with_its_region(onefile: Path, tmp_path: Path, carrier: str) -> None:
    app = Path(shutil.copy(onefile, tmp_path / "app"))
    located = embed_region(app, Version(1, 0, 0), carrier=carrier)
    assert located.carrier is (Carrier.SECTION if carrier == "section" else Carrier.TAIL)
    sign_file(app, KEY, None, None)
    fd = os.open(app, os.O_RDONLY)
    try:
        assert verify_release(fd, OwnerKey(KEY.public), None).info.version == Version(1, 0, 0)
        assert program_target(fd)
    finally:
        os.close(fd)
    assert subprocess.run([app, "a b"], capture_output=True, text=True, check=True).stdout == '["a b"]\n'


def test_binutils_know_the_section_that_we_wrote(tmp_path: Path) -> None:
    app = Path(shutil.copy(shutil.which("true") or "/bin/true", tmp_path / "app"))
    located = embed_region(app, Version(1, 0, 0))
    data = app.read_bytes()
    subprocess.run(["objcopy", "-O", "binary", "--only-section=.embedded_signature", "--set-section-flags",
                    ".embedded_signature=alloc", app, tmp_path / "region"], check=True)  # fmt: skip
    assert (tmp_path / "region").read_bytes() == data[located.offset : located.offset + 176]
    subprocess.run(["strip", app], check=True)
    fd = os.open(app, os.O_RDONLY)
    try:
        assert locate_region(fd).carrier is Carrier.SECTION
    finally:
        os.close(fd)
    subprocess.run([app], check=True)
