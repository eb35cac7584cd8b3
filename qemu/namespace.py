"""A private place to be root in: user, mount and process namespaces, and a binfmt_misc of their own.

Since Linux 6.7 binfmt_misc belongs to the user namespace, so that anybody may have ARM programs started by QEMU there
without changing the host. Every mount and every process ends with the namespace.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

from cross.clean import PATH, clean_environment
from cross.workshop import StepFailedError, run
from pypatcher.targets import Target

__all__ = ["INSIDE", "bind", "binfmt_rule", "enter", "register"]

INSIDE = "PYPATCHER_QEMU_INSIDE"
_ET_EXEC = 2
_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")
# The first process of the namespace only waits: a program whose parent is process 1 looks as in a container.
_KEEPER = 'mount -t proc proc /proc && "$@"; exit $?'
_NO_NAMESPACE = """\
cannot make namespaces here: {reason}
What is needed is that user namespaces are allowed (sysctl kernel.unprivileged_userns_clone=1,
kernel.apparmor_restrict_unprivileged_userns=0), and in a container permission to call unshare and mount."""
_NO_EMULATION = """\
cannot run programs of {name} here: {reason}
What is needed is one of:
  - Linux 6.7 or newer, in which every user namespace may have a binfmt_misc of its own, or
  - {qemu} registered in the host's binfmt_misc with flag F (Debian: apt-get install qemu-user-static binfmt-support)"""


def enter(package: str, *arguments: str) -> int:
    """Run a package again inside new namespaces; returns its exit status. What it leaves behind ends with it.

    Raises:
        StepFailedError: there can be no namespaces here; the message says what is missing.
    """
    shell = [*_UNSHARE, "sh", "-c", _KEEPER, "sh"]
    try:
        run(*shell, "true")
    except StepFailedError as error:
        raise StepFailedError(_NO_NAMESPACE.format(reason=str(error).splitlines()[-1])) from None
    command = [*shell, sys.executable, "-m", package, *arguments]
    return subprocess.run(command, env=clean_environment({INSIDE: "1"}), check=False).returncode


def register(target: Target, mount_point: Path) -> None:
    """Have the kernel start programs of ``target`` by QEMU, in this namespace.

    Raises:
        StepFailedError: it does not; the message says what is missing.
    """
    problem = ""
    try:
        if not (mount_point / "register").exists():
            mount_point.mkdir(parents=True, exist_ok=True)
            run("mount", "-t", "binfmt_misc", "binfmt_misc", mount_point)
        (mount_point / "register").write_bytes(binfmt_rule(target).encode("ascii"))
    except (StepFailedError, OSError) as error:
        problem = str(error)
    # Where that failed the host may have it registered already: only starting one tells.
    sysroot = mount_point.parent / target.name / "root"
    try:
        run("/usr/sbin/chroot", sysroot, "/bin/busybox", "true", environment={"QEMU_CPU": target.qemu_cpu})
    except StepFailedError as error:
        reason = (problem or str(error)).splitlines()[-1]
        raise StepFailedError(_NO_EMULATION.format(name=target.name, qemu=target.qemu, reason=reason)) from None


def binfmt_rule(target: Target) -> str:
    """What binfmt_misc is told: programs with this ELF header are QEMU's, which is opened now (F)."""
    emulator = shutil.which(target.qemu, path=PATH)
    return f":qemu-{target.name}:M::{_escaped(_magic(target))}:{_escaped(_mask())}:{emulator}:F"


def bind(source: Path, point: Path) -> None:
    """Show ``source`` at ``point`` too, until the namespace ends."""
    point.mkdir(parents=True, exist_ok=True)
    run("mount", "--rbind", source, point)


def _magic(target: Target) -> bytes:
    order = "<" if target.byte_order == "little" else ">"
    ident = b"\x7fELF" + bytes([target.elf_class // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    return ident + struct.pack(f"{order}HH", _ET_EXEC, target.elf_machine)


def _mask() -> bytes:
    """The OS ABI does not matter, and position-independent programs (type 3) are programs too."""
    mask = bytearray(b"\xff" * 7 + bytes(9) + b"\xff" * 4)
    mask[16:18] = b"\xfe\xfe"
    return bytes(mask)


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)
