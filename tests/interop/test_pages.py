"""The commands of the pages for people do what they say, as they stand; those that are not run say why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cross.clean import clean_environment
from cross.debian import install_missing, toolchain_packages
from cross.sysroot import make_sysroot
from cross.workshop import run
from pypatcher.targets import find_target
from tests.support.pages import BEFORE, LONG, NOT_RUN, PAGES, REPOSITORY, WALKED, copy_repository, page_lines, script

ANOTHER_MACHINE = """
mount -t tmpfs none /opt && ln -s "$1" /opt/pypatcher
mount -t tmpfs none /etc/systemd/system
[ ! -e /usr/arm-linux-gnueabihf/include ] || mount -t tmpfs none /usr/arm-linux-gnueabihf/include
exec bash script
"""
"""One with an `/opt` and units of its own, and without C headers for other machines but those of a sysroot."""
QUICK = tuple(page for page in WALKED if page != "examples/python-app/README.md")
"""That one builds a onefile of the same app as the README, which takes a minute again."""


def test_every_page_with_commands_is_walked_through() -> None:
    left = [line for page in PAGES if page not in WALKED for line in page_lines(page)]
    assert [line for line in left if not line.reason(everything=True)] == []


def test_no_reason_and_no_preparation_is_for_a_command_that_is_gone() -> None:
    lines = [line for page in PAGES for line in page_lines(page)]
    unused = [start for start in (*NOT_RUN, *LONG) if not any(f"{line.text}\n".startswith(start) for line in lines)]
    unused += [
        start for page, start in BEFORE if not any(line.page == page and line.text.startswith(start) for line in lines)
    ]
    assert unused == []


@pytest.mark.timeout(900)
def test_the_commands_of_the_pages_do_what_they_say(tmp_path: Path) -> None:
    """All that take seconds, in a copy of this repository; `make walk` runs the others too, on new machines."""
    target = find_target("armv7")
    install_missing(toolchain_packages(target))
    sysroot = make_sysroot(target)  # as the page's own `make wheelhouse` did, which takes minutes
    copy = copy_repository(tmp_path / "copy")
    (copy / ".cache" / "cross" / target.name).mkdir(parents=True)
    (copy / sysroot.relative_to(REPOSITORY)).symlink_to(sysroot)
    # As the page's own `pip install .`, which a bundler needs: the sources themselves are without targets.
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    run(*pip, "--target", tmp_path / "installed", copy, environment={"PYPATCHER_NO_EXTENSIONS": "1"})
    (copy / "script").write_text(script(QUICK, everything=False), encoding="utf-8")
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", ANOTHER_MACHINE, "sh"]
    done = subprocess.run(
        [*command, sys.prefix],
        cwd=copy, env=clean_environment({"PYTHONPATH": str(tmp_path / "installed")}), check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    lines = [line for page in QUICK for line in page_lines(page) if not line.reason(everything=False)]
    assert [line for line in lines if f"ok {line.page}:{line.number}: {line.text}\n" not in done.stdout] == []
