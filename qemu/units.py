"""``python -m qemu.units [PYTEST ARGUMENT ...]``: the unit tests of these sources on the Python of the newer Debian.

The oldest promised Python runs the suite itself; this one runs in a root filesystem of the next Debian release, not
emulated, with that release's own C library. The sources are pure there: the compiled twins are tested by the suite and,
on this Python too, by ``make qemu-test``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cross.environment import is_native
from cross.pins import HASHED, PINS, read_pins
from cross.sysroot import NEWER, SYSROOT_ID, unpack_newer_root
from cross.workshop import CACHE, REPOSITORY, StepFailedError, digest_of, locked, make_once, run, say
from pypatcher.targets import load_targets

_TOOLS = ("bash", "binutils", "coreutils", "gcc", "iproute2", "libc6-dev", "util-linux")
"""Debian packages that the tests use."""
_PINS = PINS / "develop.txt"
_NO_WHEEL = "argparse-manpage"
"""Of these pins; no unit test imports it."""
_TESTS = ("tests/unit", "tests/faults/test_fail_once.py")
_AS_ROOT = ("unshare", "--mount", "--propagation", "private")
_AS_USER = ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "private")
# The file system of the host is not seen; its sources are, and what a running system has besides files.
_INSIDE = """\
root=$1 python=$2; shift 2
mount --bind "$root" "$root" || exit 125
for folder in proc dev src; do mkdir -p "$root/$folder"; done
mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" && mount --bind "$PWD" "$root/src" || exit 125
mount -t tmpfs tmpfs "$root/tmp" || exit 125
exec /usr/sbin/chroot "$root" /bin/bash -c 'cd /src && exec "$@"' sh "$python" -m pytest "$@"
"""


def main() -> int:
    """Prepare the root filesystem, once, and run the tests in it; pytest's status."""
    target = next(filter(is_native, load_targets().values()))
    try:

        def fill(folder: Path) -> None:
            say(f"{target.name}: root of Debian {NEWER.codename} with Python {NEWER.python} and what tests need")
            unpack_newer_root(target, folder, *_TOOLS)
            wanted = folder / "opt" / "units.txt"
            wanted.parent.mkdir(exist_ok=True)
            wanted.write_text("".join(pin.text for pin in read_pins(_PINS) if pin.name != _NO_WHEEL), encoding="utf-8")
            run(
                sys.executable, "-m", "pip", "install", "-q", "--no-compile", *HASHED,
                "--python-version", NEWER.python, "--target", folder / "opt" / "units", "-r", wanted,
            )  # fmt: skip
            _finish(folder)

        with locked("units-newer"):
            identity = digest_of(Path(__file__), _PINS, names=[SYSROOT_ID, NEWER.codename])
            root = make_once(CACHE / target.name / "units-newer", identity, fill)
    except (StepFailedError, OSError) as error:
        print(f"units: {error}", file=sys.stderr)
        return 1
    unshare = _AS_ROOT if os.geteuid() == 0 else _AS_USER
    arguments = sys.argv[1:] or ["-q", "-p", "no:cacheprovider", *_TESTS]
    environment = {
        "PATH": "/usr/bin:/usr/sbin", "HOME": "/root", "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1", "PYPATCHER_NO_EXTENSIONS": "1",
    }  # fmt: skip
    command = [*unshare, "sh", "-c", _INSIDE, "sh", str(root), f"/usr/bin/python{NEWER.python}", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode


def _finish(root: Path) -> None:
    """What the scripts of the packages would have made."""
    for name, to in (("sh", "bash"), ("cc", "gcc")):
        link = root / "usr" / "bin" / name
        if not link.exists():
            link.symlink_to(to)
    etc = root / "etc"
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", "ascii")
    (etc / "group").write_text("root:x:0:\nnogroup:x:65534:\n", "ascii")
    (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n", "ascii")
    # For programs that tests start without our environment, too.
    (root / "usr" / "lib" / "python3" / "dist-packages" / "units.pth").write_text("/src\n/opt/units\n", "ascii")


if __name__ == "__main__":
    sys.exit(main())
