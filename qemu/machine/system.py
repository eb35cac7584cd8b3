"""The device's kernel, its initial file system, and the root file system that its disks are made from.

Debian packages, unpacked as a sysroot is and never installed, so what their scripts would have done and systemd needs
is done here: users, a machine id, an enabled unit. The kernel's drivers for QEMU's board are loaded by a shell script
of six lines, after which the first process is whatever the kernel's command line names behind ``--``.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cross.sysroot import SYSROOT_ID, unpack_packages
from cross.workshop import StepFailedError, digest_of, locked, make_once, python_version, say
from pypatcher.targets import Target
from qemu.device import CACHE

__all__ = ["INSIDE", "System", "make_system"]

INSIDE = Path(__file__).resolve().parent / "inside"
_DRIVERS = ("virtio", "virtio_ring", "virtio_mmio", "virtio_blk", "virtio_console")
"""In the order in which they need each other."""

_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
for driver in {drivers}; do /bin/busybox insmod /$driver.ko; done
/bin/busybox mount -t ext4 -o rw /dev/vda /root
/bin/busybox mount --move /dev /root/dev
/bin/busybox mount --move /proc /root/proc
exec /bin/busybox switch_root /root "$@"
"""
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nsensor:x:1000:1000::/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\ntty:x:5:\nsystemd-journal:x:101:\nsensor:x:1000:\n",
    "etc/hostname": "device\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
}
_MASKED = (
    "getty.target", "systemd-firstboot.service", "systemd-logind.service", "systemd-sysusers.service",
    "systemd-udev-trigger.service", "systemd-udevd.service", "modprobe@.service", "systemd-pcrphase.service",
    "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
)  # fmt: skip
"""Units for people at a terminal, for hardware, and for a first boot: the device has none of these."""


@dataclass(frozen=True, slots=True)
class System:
    """What a disk and QEMU are given.

    Attributes:
        kernel: the kernel's image.
        initrd: the initial file system with its drivers.
        root: the root file system, without pypatcher.
    """

    kernel: Path
    initrd: Path
    root: Path


def make_system(target: Target) -> System:
    """The system of ``target``, made if it is not there yet.

    Raises:
        StepFailedError: apt cannot download it.
    """

    def fill(folder: Path) -> None:
        say(f"{target.name}: kernel and systemd of Debian {target.debian_arch}")
        system = _system(folder)
        unpack_packages(target, _packages(target), system.root)
        _take_kernel(system)
        _settle(system.root)

    with locked(f"machine-{target.name}"):
        identity = digest_of(Path(__file__), names=[SYSROOT_ID])
        return _system(make_once(CACHE / "machine" / target.name, identity, fill))


def _system(folder: Path) -> System:
    return System(folder / "kernel", folder / "initrd", folder / "root")


def _packages(target: Target) -> list[str]:
    kernel = f"linux-image-cloud-{target.debian_arch}"
    return [kernel, "systemd-sysv", f"python{python_version()}", "busybox-static", "coreutils", "dash", "findutils"]


def _take_kernel(system: System) -> None:
    """Move the kernel out of the root file system, and its drivers into the initial one."""
    kernels = list((system.root / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise StepFailedError(f"{system.root / 'boot'} has {len(kernels)} kernels")
    shutil.move(kernels[0], system.kernel)
    modules = {path.stem: path for path in (system.root / "usr" / "lib" / "modules").rglob("*.ko")}
    content = [(name, 0o755, None) for name in ("bin", "dev", "proc", "root")]
    busybox = (system.root / "bin" / "busybox").read_bytes()
    files = {"bin/busybox": busybox, "init": _INIT.format(drivers=" ".join(_DRIVERS)).encode("ascii")}
    files |= {f"{name}.ko": modules[name].read_bytes() for name in _DRIVERS}
    entries = [*content, *((name, 0o755, data) for name, data in files.items())]
    system.initrd.write_bytes(b"".join(_archive(entries)))
    for folder in ("boot", "usr/lib/modules"):
        shutil.rmtree(system.root / folder)


def _archive(entries: list[tuple[str, int, bytes | None]]) -> Iterator[bytes]:
    """A cpio archive as the kernel reads it ("newc"): a name, a mode, and the bytes of a file or None for a folder."""
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        kind = stat.S_IFDIR if data is None else stat.S_IFREG
        body, title = data or b"", name.encode("ascii") + b"\0"
        numbers = (number, kind | mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(title), 0)
        header = b"070701" + b"".join(b"%08x" % value for value in numbers) + title
        yield header + bytes(-len(header) % 4) + body + bytes(-len(body) % 4)


def _settle(root: Path) -> None:
    for name, text in _FILES.items():
        (root / name).write_text(text, encoding="ascii")
    units = root / "etc" / "systemd" / "system"
    for name in _MASKED:
        (units / name).symlink_to("/dev/null")
    for folder in ("dev", "proc", "sys", "run", "tmp", "root", "opt", "srv", "var/lib"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
