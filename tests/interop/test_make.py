"""What make takes from the shell that calls it, and from where the checkout lies."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
STAMP = Path(".cache/cross/tools/.ready")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One with tools that are as new as what they are made from."""
    folder = tmp_path / "checkout"
    for name in ("scripts", "requirements"):
        shutil.copytree(REPOSITORY / name, folder / name)
    shutil.copy(REPOSITORY / "Makefile", folder)
    (folder / STAMP).parent.mkdir(parents=True)
    (folder / STAMP).write_text(f"{folder}/{STAMP}\n")
    return folder


def make(folder: Path, *words: str, **environment: str) -> str:
    """What make would do there."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "-n", "--no-print-directory", *words]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**clean, "PWD": str(folder), **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_a_variable_of_the_shell_chooses_nothing_that_is_built(checkout: Path) -> None:
    shell = dict.fromkeys(("APP", "CUTS", "DEBIAN", "KEY", "KINDS", "ONLY", "TARGET", "TESTS"), "nonsense")
    for goal in ("wheels", "wheelhouse", "onefile", "check-wheelhouse", "device-test", "qemu-test"):
        assert make(checkout, goal, **shell) == make(checkout, goal)
        assert "nonsense" in make(checkout, goal, "TARGET=nonsense", **shell)


@pytest.mark.parametrize("flags", ["-i", "-ki", "--ignore-errors", "ik", "-e", "--environment-overrides"])
def test_no_flags_let_failed_steps_pass_or_the_shell_in(checkout: Path, flags: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        make(checkout, "wheels", "TARGET=armv7", MAKEFLAGS=flags)
    assert "without -i and -e, please" in raised.value.stderr
    for harmless in ("-k", "-j2", "--no-print-directory", "--include-dir=/i", "DEBIAN=i"):
        assert "-m cross wheels armv7i" in make(checkout, "wheels", "TARGET=armv7i", MAKEFLAGS=harmless)


def test_tools_are_whole_by_whatever_path_the_checkout_is_reached(checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkout)
    for folder in (checkout, link):
        assert "scripts/venv" not in make(folder, "wheels")
    moved = checkout.rename(tmp_path / "moved")
    assert "scripts/venv" in make(moved, "wheels")


TOOL = """\
#!/bin/sh
uv=.cache/pins/bin/uv
case "$*" in
    *venv*) mkdir -p .cache/pins/bin && cp "$0" .cache/pins/bin/pip ;;
    *install*)
        printf '#!/bin/sh\\necho half made >&2; exit 1\\n' >$uv && chmod +x $uv || exit
        [ -z "$KILLED" ] || exit 1
        printf '#!/bin/sh\\n' >$uv ;;
esac
"""
"""A Python, and its pip: where KILLED is set it leaves half a tool, which can be executed."""


def test_no_half_installed_tool_makes_the_pins(checkout: Path) -> None:
    (checkout / "python").write_text(TOOL)
    (checkout / "python").chmod(0o755)
    for killed in ("1", ""):
        done = subprocess.run(
            ["scripts/pins", "./python"], cwd=checkout, env={**os.environ, "KILLED": killed}, check=False
        )
        assert done.returncode == bool(killed)
