"""Where a build takes its things from: what is there already, and where the checkout lies."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from cross import __main__ as cross_program
from cross import sysroot, wheelhouse
from cross.environment import BuildEnvironment
from cross.pins import Pin
from cross.sysroot import SUITES, host_suite, make_sysroot
from cross.wheelhouse import get_wheel
from cross.workshop import StepFailedError
from pypatcher.keys import KeyPair, encode_key, write_key_file
from pypatcher.targets import load_targets

REPOSITORY = Path(__file__).parents[2]
NATIVE = next(
    target for target in load_targets().values() if target.gnu_triplet == sysconfig.get_config_var("MULTIARCH")
)


def test_a_cached_wheel_is_taken_for_the_very_same_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = BuildEnvironment(NATIVE, Path(sys.executable), {}, "", Path("/usr/lib") / NATIVE.gnu_triplet)
    asked = []

    def download(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
        folder = Path(command[list(command).index("--dest") + 1])
        folder.mkdir(parents=True)
        asked.append(Path(command[list(command).index("-r") + 1]).read_text())
        with zipfile.ZipFile(folder / "some-1.0-py3-none-any.whl", "w") as archive:
            for name, text in (("some.py", ""), ("some-1.0.dist-info/WHEEL", "Tag: py3-none-any\n")):
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, text)
        return ""

    monkeypatch.setattr(wheelhouse, "run", download)
    monkeypatch.setattr(wheelhouse, "CACHE", tmp_path)
    one, other = (Pin("some", "1.0", f"some==1.0 --hash=sha256:{digit * 64}\n") for digit in "12")
    for pin in (one, one, other, other, one):
        assert get_wheel(environment, pin, tmp_path / "cache").name == "some-1.0-py3-none-any.whl"
    assert asked == [one.text, other.text]


def test_a_python_that_devices_do_not_have_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = next(debian for debian in SUITES.values() if debian.python != f"3.{sys.version_info.minor}")
    monkeypatch.setattr(sysroot, "host_suite", lambda: ("http://mirror.example", other.codename))
    with pytest.raises(StepFailedError, match=f"have Python {other.python}, and this is 3.{sys.version_info.minor}"):
        make_sysroot(NATIVE, cache=tmp_path)


APT = """\
http://mirror.example/debian-security/ bookworm-security
http://mirror.example/debian/ trixie
http://mirror.example/debian/ bookworm
"""
"""Of a sources.list with two suites; apt itself says which codename ``stable`` is."""


@pytest.mark.parametrize("codename", ["bookworm", "trixie"])
def test_the_suite_is_the_one_that_the_machine_says_it_is(codename: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysroot, "run", lambda *command: APT)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"VERSION_CODENAME": codename})
    assert host_suite() == ("http://mirror.example/debian/", codename)
    monkeypatch.setattr(sysroot, "run", lambda *command: "http://mirror.example/debian/ sid\n")
    with pytest.raises(StepFailedError, match=f"apt knows no Debian {codename} here, .* but sid: run `apt-get update`"):
        host_suite()


def test_a_folder_that_cannot_be_written_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "cross").mkdir()
    shutil.copy(REPOSITORY / "cross" / "clean.py", tmp_path / "cross")
    (tmp_path / ".cache").touch()  # root may write wherever there is a folder
    command = [sys.executable, "-I", "cross/clean.py", "true"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("nothing can be built in this folder: ")
    assert "Traceback" not in done.stderr


def test_a_wheelhouse_is_signed_by_no_public_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []
    monkeypatch.setitem(cross_program._COMMANDS, "wheelhouse", lambda target, key: made.append(key))
    pair = KeyPair.from_seed(bytes(32))
    write_key_file(tmp_path / "owner", pair)
    (tmp_path / "public").write_text(encode_key(pair.public))
    write_key_file(tmp_path / "mixed", KeyPair.from_seed(bytes([1] * 32)))
    (tmp_path / "mixed.pub").write_text(f"any {encode_key(pair.public)}\n")
    for name, said in (
        ("public", "seems to hold the public key"),
        ("owner.pub", "holds a public"),
        ("mixed", "is not"),
    ):
        monkeypatch.setattr(sys, "argv", ["cross", "wheelhouse", NATIVE.name, "--key-file", str(tmp_path / name)])
        assert (cross_program.main(), made) == (1, [])
        assert said in capsys.readouterr().err
    (tmp_path / "owner").chmod(0o644)
    monkeypatch.setattr(sys, "argv", ["cross", "wheelhouse", NATIVE.name, "--key-file", str(tmp_path / "owner")])
    assert (cross_program.main(), made) == (0, [pair])
    assert "owner can be read by other users: chmod 600 it" in capsys.readouterr().out
