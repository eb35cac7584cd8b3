"""What cross/ and qemu/ say when they cannot do their work: what is missing, and never that all is well."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cross import clean
from cross.audit import check_anonymous
from cross.debian import install_missing
from cross.environment import is_native
from cross.workshop import StepFailedError
from pypatcher.targets import find_target, load_targets
from qemu.device import Device
from qemu.namespace import enter, register
from qemu.onefile import freeze

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lets nobody make a namespace or mount anything."""
    for name in ("unshare", "mount"):
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\necho '{name}: Operation not permitted' >&2\nexit 1\n")
        tool.chmod(0o755)
    monkeypatch.setattr(clean, "PATH", f"{tmp_path}:{clean.PATH}")


@pytest.mark.usefixtures("refusing")
def test_without_namespaces_it_says_which_permissions_are_missing() -> None:
    with pytest.raises(StepFailedError, match="unshare: Operation not permitted") as raised:
        enter("--only", "story")
    assert "kernel.unprivileged_userns_clone=1" in str(raised.value)
    assert "permission to call unshare and mount" in str(raised.value)


@pytest.mark.usefixtures("refusing")
def test_without_binfmt_misc_it_fails_and_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match="cannot run programs of armv7 here: ") as raised:
        register(find_target("armv7"), tmp_path / "binfmt_misc")
    for needed in ("mount: Operation not permitted", "Linux 6.7", "qemu-arm-static", "flag F", "qemu-user-static"):
        assert needed in str(raised.value)


def test_missing_packages_are_named_to_whoever_may_not_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StepFailedError, match=r"install these Debian packages first: one two$"):
        install_missing({"no-such-tool-2": "two", "no-such-tool-1": "one", "sh": "dash"})


def test_the_machines_own_target_is_no_device_to_emulate() -> None:
    [own] = [target.name for target in load_targets().values() if is_native(target)]
    done = subprocess.run(
        [sys.executable, "-m", "qemu", own], cwd=REPOSITORY, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{own} is this machine's own target" in done.stderr


class HostDevice(Device):
    """One whose programs run on this machine, with a PyInstaller that does no more than order what it includes."""

    def __init__(self, root: Path) -> None:
        super().__init__(next(iter(load_targets().values())))
        self.root, self.python = root, sys.executable
        (root / "opt" / "pyinstaller" / "PyInstaller").mkdir(parents=True)
        (root / "lib").mkdir()
        (root / "lib" / "ld-linux.so.2").touch()
        package = root / "opt" / "pyinstaller" / "PyInstaller"
        package.joinpath("compat.py").write_text(f"MODULES = {{{', '.join(repr(str(n)) for n in range(40))}}}\n")
        package.joinpath("__init__.py").touch()
        package.joinpath("__main__.py").write_text(
            "import os, sys\nfrom PyInstaller.compat import MODULES\nsources = sorted(os.listdir())\nos.mkdir('dist')\n"
            "open(f'dist/{sys.argv[-2]}', 'w').write(f'{sources} {list(MODULES)}')\n"
        )

    def run(self, *command: str, **environment: str) -> str:
        words = [word.replace("/root/onefile", str(self.path("/root/onefile"))) for word in command]
        environment["PYTHONPATH"] = environment["PYTHONPATH"].replace("/opt", str(self.path("/opt")))
        return subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout


def test_a_onefile_is_the_same_the_second_time_on_a_device(tmp_path: Path) -> None:
    """PyInstaller's own modules are read from their caches then, if the first time made any."""
    device, app = HostDevice(tmp_path / "root"), tmp_path / "app" / "app.py"
    app.parent.mkdir()
    app.touch()
    first, second = [freeze(device, app, tmp_path / name).read_bytes() for name in ("first", "second")]
    assert first == second


def test_what_lies_beside_a_program_is_built_with_it(tmp_path: Path) -> None:
    app = tmp_path / "app" / "app.py"
    for name in ("app.py", "data/table.csv", ".git/HEAD", "dist/app", "build/app", "env/pyvenv.cfg", "env/lib/x.py"):
        (app.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (app.parent / name).touch()
    (app.parent / "gone").symlink_to("nowhere")
    built = freeze(HostDevice(tmp_path / "root"), app, tmp_path / "dist")
    assert built.name == "app"
    assert built.read_text().startswith("['app.py', 'data'] ")


def test_a_wheel_that_tells_where_it_was_built_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("module.so", b"\x7fELF..../home/me/work/module.c\0")
    check_anonymous(wheel, Path("/home/you"))
    with pytest.raises(StepFailedError, match=r"module\.so tells where it was built"):
        check_anonymous(wheel, Path("/home/me/work"))
