"""The commands of the pages for people, as they stand there, and a shell that runs them in the order of the page.

A line of an indented block is a command. What the reader has by then and the page does not write (a source file, a
filled in key) stands in BEFORE; what goes on until it is stopped in FOR_EVER. Every other line runs as it is and has
to succeed, in a copy of this repository, with `/opt` and `/etc/systemd/system` of its own. `make walk` runs all of them
on a new Debian; the test of this runs those that take seconds, and hides what a new machine would not have.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
PAGES = (
    "README.md",
    *sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").glob("*.md")),
    *sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "examples").glob("*/README.md")),
    "tests/README.md",
)
EXAMPLES = tuple(page for page in PAGES if page.startswith("examples/"))
WALKED = (
    "README.md",
    "docs/small-updates.md",
    "docs/cross-building.md",
    "docs/troubleshooting.md",
    *EXAMPLES,
)
"""In the order of somebody who reads them; no other page has commands."""
NO_SHELL = ("import ", "[Unit]")
"""How blocks begin that are Python or a unit."""

NOT_RUN = {
    "make test": "runs this test",
    "make test TESTS=tests/unit": "runs this test's neighbours",
    ".venv/bin/python -m pytest ": "the suite, of which this test is a part",
    "PYPATCHER_NO_EXTENSIONS=1 .venv/bin/python -m pytest tests/unit": "make test runs it",
    "make qemu-test": ".ci/run runs it",
    "make device-test": ".ci/run runs it, with fewer cuts",
    ".cache/cross/tools/bin/python -m qemu": "a part of make qemu-test and make device-test, which .ci/run runs",
    "PYTHONHASHSEED=0 pypatcher check-build dist/app ": "a minute; tests/interop/test_check_build.py does the same",
    "python -m nuitka ": "minutes; make packagings builds so",
    "cargo build ": "Rust is not installed here; tests/packagings embeds into Rust programs in `make packagings`",
    "go build ": "Go is not installed here; tests/packagings embeds into Go programs in `make packagings`",
    "python3 -m venv --without-pip ": "on a device: make qemu-test does it on emulated ones",
    "/opt/pypatcher/bin/python wheelhouse/armv7/pip-": "on a device: make qemu-test does it on emulated ones",
    "pypatcher run --public-key armv7=K1 ": "on a device of another target: the story of make qemu-test does it",
    "systemctl ": "this machine has no systemd to obey it; make device-test starts such units",
}
LONG = {
    "make demo": "minutes",
    "apt-get install ": "packages of the machine's own",
    "python3 -m venv /opt/pypatcher && ": "a minute, and an index; the test has what it makes",
    "make wheels": "minutes; .ci/run builds them in make qemu-test",
    "make -s wheelhouse": "minutes; .ci/run builds it in make qemu-test; here is its sysroot",
    "make wheelhouse": "minutes; .ci/run builds it in make qemu-test",
    "make check-wheelhouse": "needs a wheelhouse",
    "(cd wheelhouse/armv7": "needs a wheelhouse",
    "make onefile": "minutes; .ci/run builds a onefile in make qemu-test",
    "pypatcher embed dist/armv7/app": "needs that onefile",
    "pypatcher sign dist/armv7/app": "needs that onefile",
}
"""Run by `make walk` alone, from nothing on a new Debian."""

_KEY = "[ -e owner.key ] || pypatcher gen owner.key"
BEFORE = {
    ("README.md", "gcc "): "cp $HERE/examples/c-app/app.c .",
    ("README.md", "pypatcher run "): "pypatcher sign app --key-file owner.key",
    ("README.md", "pypatcher gen owner.key"): "rm -f owner.key owner.key.pub && cp $HERE/examples/python-app/app.py .",
    (
        "README.md",
        "PYTHONHASHSEED=0 pyinstaller ",
    ): "sed -i \"s/^OWNER = .*/OWNER = '$(cut -d' ' -f2 owner.key.pub)'/\" app.py",
    ("README.md", "mkdir -p /opt/app "): "timeout 90 sh -c 'until grep node.started device.out; do sleep 1; done'",
    ("README.md", "pypatcher stage "): (
        "cp dist/app app-1.4.0 && pypatcher sign app-1.4.0 --version 1.4.0 --key-file owner.key"
    ),
    ("docs/cross-building.md", "make wheelhouse "): _KEY,
    ("docs/cross-building.md", "pypatcher gen keys "): _KEY,
    ("docs/cross-building.md", "arm-linux-gnueabihf-gcc "): "cp examples/c-app/app.c .",
    ("docs/cross-building.md", "make onefile "): "mkdir -p myapp && cp examples/python-app/app.py myapp/",
    ("docs/cross-building.md", "python3 -m zipapp "): "cp -r examples/zipapp/service source",
    ("docs/cross-building.md", "pypatcher unit "): "mkdir -p /opt/sensor && cp app.pyz /opt/sensor/app",
    ("docs/cross-building.md", "pypatcher verify "): (
        "mkdir -p dist/armv7 dist/aarch64 && cp app dist/armv7/sensor"
        " && python3 -c 'import sys; from tests.support.programs import with_section;"
        " sys.stdout.buffer.write(with_section(machine=183))' >dist/aarch64/sensor"
        " && pypatcher sign dist/aarch64/sensor --key-file keys/aarch64.key --version 1.0.0"
    ),
    ("docs/troubleshooting.md", "pypatcher status "): _KEY,
    ("docs/small-updates.md", "pypatcher check-build app "): (
        "mkdir -p small && cd small && cp $HERE/examples/c-app/app.c ."
    ),
    ("docs/small-updates.md", "pypatcher compare "): (
        "gcc $(pypatcher include --cflags) -o app-1.0.0 app.c && cp app-1.0.0 app-1.1.0"
    ),
}
FOR_EVER = ("pypatcher run ", "pypatcher seed ", "./dist/app", "device/")
STATUSES = {
    "pypatcher status ": "0 1 3",
    "pypatcher stage ": "0 1",
    "pypatcher confirm ": "0 1",
    "pypatcher rollback ": "0 1",
    "pypatcher netcheck ": "0 1",
    "pypatcher fetch ": "0 1",
}
"""What these say of a program that is no installation, and of a network that leads nowhere."""


class PageLine(NamedTuple):
    """One command of a page."""

    page: str
    number: int
    text: str

    def reason(self, *, everything: bool) -> str:
        """Why it is not run; empty where it is."""
        known = NOT_RUN if everything else {**NOT_RUN, **LONG}
        return next((known[start] for start in known if f"{self.text}\n".startswith(start)), "")


def page_lines(page: str) -> list[PageLine]:
    """The commands of a page, without the comments behind them."""
    found, shell = [], True
    lines = (REPOSITORY / page).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not re.match(r"    \S", line):
            continue
        if not lines[number - 2].strip():
            shell = not line.strip().startswith(NO_SHELL) and (shell or not lines[number - 3].startswith("    "))
        if shell:
            found.append(PageLine(page, number, re.sub(r"\s{2,}# .*$", "", line.strip())))
    return found


def copy_repository(folder: Path) -> Path:
    """A copy of what is under version control, or will be: as from a clone."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (REPOSITORY / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


def script(pages: tuple[str, ...], *, everything: bool) -> str:
    """What a reader types who goes through these pages; ends with a status and the line where one fails."""
    steps = [_PRELUDE]
    for page in pages:
        folder = f"$HERE/{Path(page).parent}" if page in EXAMPLES else "$HERE"
        steps.append(f"cd {folder}")
        for line in page_lines(page):
            if line.reason(everything=everything):
                continue
            before = [text for (name, start), text in BEFORE.items() if name == page and line.text.startswith(start)]
            place = shlex.quote(f"{page}:{line.number}: {line.text}")
            steps += [f"{text}\nstep 0 {place}' (before it)'" for text in before]
            command = _filled(line.text)
            statuses = next((STATUSES[start] for start in STATUSES if line.text.startswith(start)), "0")
            if line.text.startswith(FOR_EVER):
                seconds = 60 if command.endswith("&") else 20 if everything else 8
                command, statuses = f"timeout -k 20 {seconds} {command}", "0 124"
            steps.append(f"{command}\nstep {shlex.quote(statuses)} {place}")
    return "\n".join(steps) + "\n"


def _filled(text: str) -> str:
    """The key that a person pastes in the place of K, and a file in that of ``...``."""
    text = re.sub(r"\bK\b(?!=)", "$(cut -d' ' -f2 owner.key.pub)", text)
    for name, target in (("K1", "armv7"), ("K2", "aarch64")):
        text = re.sub(rf"\b{name}\b", f"$(cut -d' ' -f2 keys/{target}.key.pub)", text)
    if text.endswith("/pypatcher testnet"):  # in the other terminal
        return f"{text} >testnet.out & sleep 5"
    if text == "export PYPATCHER_BOOTSTRAP=...":
        return "export $(grep -o 'PYPATCHER_BOOTSTRAP=[^ ]*' testnet.out)"
    if text == "device/app &":
        return "device/app >device.out 2>&1 &"
    return text.replace("> ...", "> other.service")


_PRELUDE = r"""
HERE=$PWD
export HOME=$HERE/home PYPATCHER_ALLOW_VOLATILE=1
export PYPATCHER_BOOTSTRAP= PYPATCHER_PORTMAP=0 PYPATCHER_LAN=0 PYPATCHER_BIND=127.0.0.1:0
mkdir -p "$HOME"
trap 'kill $(jobs -p) 2>/dev/null' EXIT
step() {
    status=$?
    case " $1 " in *" $status "*) echo "ok $2" ;; *) echo "FAILED with status $status: $2"; exit 1 ;; esac
}
"""
