"""A target's sysroot: Debian packages of that architecture, downloaded by a private apt and unpacked, never installed.

It serves twice: the cross compiler finds headers and libraries in it, and ``qemu/`` copies it as a device's root
filesystem. apt takes the host's own suite and mirror, with its own lists and an empty list of installed packages, so
that it resolves every dependency itself. No package's scripts run.
"""

from __future__ import annotations

import compileall
import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from cross.debian import install_missing
from cross.workshop import CACHE, StepFailedError, fresh_folder, locked, make_once, python_version, run, say
from pypatcher.targets import Target

__all__ = [
    "NEWER",
    "SUITES",
    "SYSROOT_ID",
    "Debian",
    "host_suite",
    "make_newer_root",
    "make_sysroot",
    "unpack_newer_root",
    "unpack_packages",
]

_FORMAT = "3"
SYSROOT_ID = f"{_FORMAT}-{python_version()}"
"""Changes whenever what is in a sysroot does."""


@dataclass(frozen=True, slots=True)
class Debian:
    """A Debian release and the Python that it has."""

    codename: str
    python: str


SUITES = {"12": Debian("bookworm", "3.11"), "13": Debian("trixie", "3.13")}
NEWER = SUITES["13"]
"""What devices may run besides the release that wheels are built on."""

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64")


def make_sysroot(target: Target, debian: Debian | None = None, cache: Path = CACHE) -> Path:
    """The folder of ``target``'s sysroot in ``cache``, made if it is not there yet; by default of this Debian.

    Raises:
        StepFailedError: apt cannot download it.
    """

    def fill(folder: Path) -> None:
        say(f"{target.name}: sysroot of Debian {target.debian_arch} packages")
        suite = (host_suite()[0], debian.codename) if debian else None
        hosts = next((release for release in SUITES.values() if release.codename == host_suite()[1]), None)
        if debian is None and hosts and hosts.python != python:
            raise StepFailedError(
                f"devices with Debian {hosts.codename} have Python {hosts.python}, and this is {python}: say "
                "PYTHON=/usr/bin/python3 to make, after `make clean-cross`"
            )
        unpack_packages(target, _packages(python), folder, suite)

    python = debian.python if debian else python_version()
    with locked(f"sysroot-{target.name}"):
        return make_once(cache / target.name / "sysroot", f"{_FORMAT}-{python}", fill)


def make_newer_root(target: Target) -> Path:
    """A root filesystem of ``target`` with the Python of ``NEWER``: to run things in, not to build with.

    Raises:
        StepFailedError: apt cannot download it.
    """

    def fill(folder: Path) -> None:
        say(f"{target.name}: root of Debian {NEWER.codename} with Python {NEWER.python}")
        unpack_newer_root(target, folder, "busybox-static")

    with locked(f"root-{NEWER.codename}-{target.name}"):
        return make_once(CACHE / target.name / f"root-{NEWER.codename}", SYSROOT_ID, fill)


def unpack_newer_root(target: Target, root: Path, *packages: str) -> None:
    """Make ``root`` a root filesystem with the Python of ``NEWER`` and these packages.

    Raises:
        StepFailedError: apt cannot download it.
    """
    unpack_packages(target, [f"python{NEWER.python}", *packages], root, (host_suite()[0], NEWER.codename))


def unpack_packages(target: Target, packages: list[str], root: Path, suite: tuple[str, str] | None = None) -> None:
    """Make ``root`` a file system of these packages with all that they depend on.

    Args:
        suite: mirror and name of a Debian suite; by default the host's own.

    Raises:
        StepFailedError: apt cannot download it.
    """
    install_missing({"dpkg-deb": "dpkg", "apt-get": "apt"})
    archives = _download(target, packages, root.with_name(f"{root.name}-apt"), suite or host_suite())
    _unpack(archives, root)
    shutil.rmtree(archives.parent)
    library = root / "usr" / "lib" / f"python{python_version()}"
    if library.exists():
        compileall.compile_dir(
            library,
            quiet=2,
            stripdir=str(root),
            rx=re.compile(r"/(test|tests|lib2to3|idlelib)/"),
            invalidation_mode=None,
        )


def _packages(python: str) -> list[str]:
    build = [f"python{python}-dev", f"libpython{python}-dev", "libssl-dev", "libffi-dev", "zlib1g-dev", "libc6-dev"]
    # For qemu/'s devices: a shell, time zones, and what PyInstaller runs there.
    device = ["busybox-static", "tzdata", "libc-bin", "binutils"]
    return build + device


def _download(target: Target, packages: list[str], private: Path, suite: tuple[str, str]) -> Path:
    """Download packages with all that they depend on; returns the folder of the ``.deb`` files."""
    mirror, codename = suite
    fresh_folder(private)
    for folder in ("etc/sources.list.d", "etc/preferences.d", "lists/partial", "archives/partial"):
        (private / folder).mkdir(parents=True)
    (private / "status").touch()
    signed = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (private / "etc" / "sources.list").write_text(f"deb [signed-by={signed}] {mirror} {codename} main\n", "utf-8")
    options = [
        f"APT::Architecture={target.debian_arch}",
        f"APT::Architectures={target.debian_arch}",
        f"Dir::Etc::sourcelist={private}/etc/sources.list",
        f"Dir::Etc::sourceparts={private}/etc/sources.list.d",
        f"Dir::Etc::preferencesparts={private}/etc/preferences.d",
        f"Dir::State::lists={private}/lists",
        f"Dir::State::status={private}/status",
        f"Dir::Cache={private}",
        "Dir::Cache::archives=archives",
        "Acquire::Languages=none",
        "Debug::NoLocking=true",
    ]
    if os.geteuid() == 0:
        options.append("APT::Sandbox::User=root")  # the apt user cannot write into our folder
    apt = ["apt-get", "-qq", *(f"-o{option}" for option in options)]
    run(*apt, "update")
    run(*apt, "install", "--download-only", "-y", "--no-install-recommends", *packages)
    return private / "archives"


def host_suite() -> tuple[str, str]:
    """Mirror and name of the host's own Debian suite: its ``main``, without updates (they lag for some targets).

    Whatever else is in sources.list, and however it is called there (``stable``): the host says itself what it is.
    """
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    listed = run(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages", "Component: main",
        "Origin: Debian",
    )  # fmt: skip
    suites = [line.split() for line in listed.splitlines()]
    for mirror, name in suites:
        if name == codename:
            return mirror, codename
    raise StepFailedError(
        f"apt knows no Debian {codename or 'suite'} here, which this machine says it is, but "
        f"{' '.join(sorted({name for _, name in suites})) or 'nothing'}: run `apt-get update` as root, on Debian"
    )


def _unpack(archives: Path, sysroot: Path) -> None:
    fresh_folder(sysroot)
    for name in _MERGED:
        (sysroot / "usr" / name).mkdir(parents=True)
        (sysroot / name).symlink_to(f"usr/{name}")
    for archive in sorted(archives.glob("*.deb")):
        # dpkg-deb -x would put folders in the place of the links just made.
        run("dpkg-deb", "--fsys-tarfile", archive, output=archives / "files.tar")
        run("tar", "-x", "--keep-directory-symlink", "-f", archives / "files.tar", "-C", sysroot)
    for name in ("share/doc", "share/man", "share/locale"):
        shutil.rmtree(sysroot / "usr" / name, ignore_errors=True)
    for folder, folders, files in os.walk(sysroot):
        for name in (*folders, *files):
            _make_relative(Path(folder) / name, sysroot)


def _make_relative(link: Path, sysroot: Path) -> None:
    """An absolute link means the host's file to a cross compiler."""
    if link.is_symlink() and link.readlink().is_absolute():
        destination = sysroot / str(link.readlink()).lstrip("/")
        link.unlink()
        link.symlink_to(os.path.relpath(destination, link.parent))
