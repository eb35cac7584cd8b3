"""What starts a program for a person (nice, env, an interpreter, ld.so, a link): it updates itself, or says why not.

The same for ``pypatcher run`` is in ``tests/unit/cli``.
"""

from __future__ import annotations

import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

from pypatcher.keys import encode_key
from tests.support.packagings import wait_until
from tests.support.updates import KEY

LOADER = str(next(Path("/").glob("lib*/ld-linux*.so.?")))
STARTERS = {
    "nice": ("nice",),
    "env": ("env", "COLOUR=blue"),
    "python3": (sys.executable,),
    "ld.so": (LOADER, sys.executable),
    "a link": ("sh", "-c", 'ln -sf app link; shift; exec ./link "$@"', "sh"),
    "a chain": ("sh", "-c", 'exec nice env sh -c \'exec "$@"\' sh "$@"', "sh"),
    "a script that waits": ("sh", "-c", '"$@" & wait', "sh"),
}
ONEFILE_STARTERS = {name: words for name, words in STARTERS.items() if name != "python3"} | {"ld.so": (LOADER,)}


def of(packaging: str) -> dict[str, tuple[str, ...]]:
    return STARTERS if packaging == "zipapp" else ONEFILE_STARTERS


@pytest.mark.parametrize("starter", STARTERS)
def test_restarts_as_it_was_started(device, packaging, starter):
    if starter not in of(packaging):
        return
    world = device(packaging)
    world.stage(1)
    process = world.start("sleep", "an argument", wrapper=of(packaging)[starter])
    wait_until(lambda: "end" in world.notes(), lambda: f"the new version's end: {world.errors()}")
    process.wait(30)
    world.wait_for_end()
    old, new = world.starts()
    assert (old["version"], new["version"]) == ("1", "2")
    assert new["argv"][1:] == old["argv"][1:] == ["sleep", "an argument"]
    assert world.unpacked() == []


APP = f"""
import logging, threading, pypatcher

class Handler(logging.StreamHandler):
    said = threading.Event()

    def emit(self, record):
        super().emit(record)
        self.said.set()

logging.getLogger("pypatcher").addHandler(Handler())
pypatcher.public_key("{encode_key(KEY.public)}")
pypatcher.start()
Handler.said.wait(30)
print("runs")
"""


@pytest.mark.parametrize("starter", STARTERS)
def test_says_of_the_program_itself_why_it_gets_no_updates(tmp_path: Path, starter: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "__main__.py").write_text(APP)
    zipapp.create_archive(tmp_path / "source", tmp_path / "app", interpreter=sys.executable)
    done = subprocess.run(
        [*STARTERS[starter], "./app"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "runs\n", done.stderr
    assert f"{tmp_path / 'app'} gets no updates" in done.stderr
    assert "pypatcher embed" in done.stderr
    assert not [word for word in ("nice", "/env", "ld-linux", "bin/python") if word in done.stderr], done.stderr
