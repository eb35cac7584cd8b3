"""The same build in a root file system of another Debian: ``make wheelhouse TARGET=armv7 DEBIAN=13``.

A wheel that is not abi3 is for one version of Python, which builds it. So a Debian with that Python is unpacked (never
installed: no package's script runs), with compilers for every target, and ``make`` runs in it as root of a namespace.
It sees this repository at its own path, with a cache and a wheelhouse of its own: ``wheelhouse/debian13``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from cross.clean import clean_environment
from cross.environment import is_native
from cross.sysroot import SUITES, Debian, host_suite, make_sysroot, unpack_packages
from cross.workshop import CACHE, REPOSITORY, StepFailedError, digest_of, locked, make_once, say
from pypatcher.targets import Target, load_targets

__all__ = ["debian", "make_in_debian"]

_PACKAGES = (
    "base-files", "base-passwd", "bash", "binutils", "coreutils", "dash", "debianutils", "diffutils", "dpkg", "apt",
    "file", "findutils", "g++", "gcc", "git", "grep", "gzip", "libc-bin", "libc6-dev", "make", "mawk", "perl", "sed",
    "systemd", "tar", "unzip", "util-linux", "xz-utils",
)  # fmt: skip
_SHARED = ("etc/resolv.conf", "etc/hosts", "etc/ssl", "usr/share/ca-certificates", "usr/local/share/ca-certificates")
"""How this machine reaches an index: whom it asks for names, and whom it trusts."""
_ENTER = r"""
set -eu
root=$1 repository=$2 cache=$3 wheelhouse=$4
shift 4
mkdir -p "$root$repository" "$root/proc" "$root/dev" "$root/tmp"
for path in proc dev; do mount --rbind "/$path" "$root/$path"; done
for path in %s; do
    [ -e "/$path" ] || continue
    if [ -d "/$path" ]; then mkdir -p "$root/$path"; else mkdir -p "${root}/${path%%/*}"; : >>"$root/$path"; fi
    mount --bind "/$path" "$root/$path"
done
mount --bind "$repository" "$root$repository"
mount --bind "$cache" "$root$repository/.cache/cross"
mount --bind "$wheelhouse" "$root$repository/wheelhouse"
exec /usr/sbin/chroot "$root" /usr/bin/env -C "$repository" "$@"
""" % " ".join(_SHARED)  # noqa: UP031  (a shell's braces)


def debian(number: str) -> Debian:
    """The release of that number.

    Raises:
        StepFailedError: it is not known here.
    """
    if number not in SUITES:
        raise StepFailedError(f"DEBIAN={number} is none of {' '.join(SUITES)}")
    return SUITES[number]


def make_in_debian(number: str, target: Target) -> Path:
    """Make ``target``'s wheelhouse in Debian ``number``; returns its folder.

    Raises:
        StepFailedError: that Debian cannot be unpacked, or the build there failed; it said why.
    """
    release = debian(number)
    place, wheelhouse = REPOSITORY / ".cache" / f"debian{number}", REPOSITORY / "wheelhouse" / f"debian{number}"
    root = _make_root(release, CACHE / f"debian{number}")
    for folder in (place, wheelhouse):
        folder.mkdir(parents=True, exist_ok=True)
    make_sysroot(target, release, place)
    command = [
        "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _ENTER, "sh",
        str(root), str(REPOSITORY), str(place), str(wheelhouse),
        "make", "--no-print-directory", "wheelhouse", f"TARGET={target.name}",
        f"PYTHON=/usr/bin/python{release.python}",
    ]  # fmt: skip
    if subprocess.run(command, env=clean_environment(), check=False).returncode:
        raise StepFailedError(f"the build in Debian {number} failed")
    return wheelhouse / target.name


def _make_root(release: Debian, root: Path) -> Path:
    native = next(filter(is_native, load_targets().values()), None)
    if native is None:
        raise StepFailedError("this machine is none of targets/: no Debian of its own can be unpacked here")
    compilers = sorted(
        f"gcc-{target.gnu_triplet.replace('_', '-')}" for target in load_targets().values() if target != native
    )
    python = [f"python{release.python}-venv", f"python{release.python}-dev", "python3"]
    packages = [*_PACKAGES, *python, *compilers]

    def fill(folder: Path) -> None:
        say(f"Debian {release.codename} with compilers, to build for its Python {release.python}")
        unpack_packages(native, packages, folder, (host_suite()[0], release.codename))
        (folder / "usr" / "bin" / "awk").symlink_to("mawk")
        for name in ("passwd", "group"):
            master = folder / "usr" / "share" / "base-passwd" / f"{name}.master"
            (folder / "etc" / name).write_bytes(master.read_bytes())

    with locked(f"root-{release.codename}"):
        return make_once(root, digest_of(Path(__file__), names=packages), fill)
