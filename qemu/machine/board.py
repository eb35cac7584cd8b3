"""One emulated board, from power-on to power-off: QEMU's process, and the wire on which the device says lines.

The disk is written through: whatever the device's kernel was told is on it, is on it, and nothing else. Killing QEMU is
a power cut. (This machine need not flush its own disk for that: it goes on.) QEMU ends with us however we end.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from cross.clean import clean_environment
from cross.workshop import StepFailedError
from pypatcher.targets import Target
from qemu.machine.system import System
from qemu.watched import Watched

__all__ = ["Board", "machine_emulator", "machine_packages"]


def machine_emulator(target: Target) -> str:
    """QEMU's command for whole machines of ``target``."""
    return target.qemu.removesuffix("-static").replace("qemu-", "qemu-system-", 1)


def machine_packages(target: Target) -> dict[str, str]:
    """Command -> package, for running whole machines of ``target``."""
    return {machine_emulator(target): machine_emulator(target)}


class Board(Watched):
    """A device that was just switched on.

    Args:
        first: the first process and its arguments.
        console: the file for what the kernel says; what the device says is in one beside it.
    """

    def __init__(
        self, target: Target, system: System, disk: Path, *first: str, console: Path, processors: int = 1
    ) -> None:
        self._console = console
        command = [
            "setpriv", "--pdeathsig", "KILL",
            machine_emulator(target), "-machine", "virt", "-cpu", target.qemu_cpu, "-smp", str(processors),
            "-m", "768M", "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot",
            "-serial", f"file:{console}",
            "-kernel", str(system.kernel), "-initrd", str(system.initrd),
            "-append", f"quiet panic=-1 systemd.show_status=0 -- {' '.join(first)}",
            "-drive", f"file={disk},format=raw,if=none,id=disk,cache=writethrough,cache.no-flush=on",
            "-device", "virtio-blk-device,drive=disk",
            "-device", "virtio-serial-device",
            "-chardev", "stdio,id=wire,signal=off", "-device", "virtserialport,chardev=wire",
        ]  # fmt: skip
        super().__init__(
            "the device", command, clean_environment(), stdin=subprocess.PIPE, log=console.with_name("wire")
        )

    def send(self, line: str) -> None:
        """Write a line to the wire."""
        if self.process.stdin is None:
            raise StepFailedError("the wire is closed")
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def cut(self) -> list[str]:
        """Cut the power; returns the lines that had been on the wire and nobody has read yet."""
        self.process.kill()
        self.process.wait()
        return self.rest()

    def wait_until_off(self, seconds: float) -> None:
        """The device switches itself off.

        Raises:
            StepFailedError: it does not, or not as it should.
        """
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise StepFailedError(self.story(f"still on after {seconds:.0f} s")) from None
        if status:
            raise StepFailedError(self.story(f"QEMU ended with status {status}"))

    def story(self, what: str) -> str:
        """What happened, with what the kernel said last."""
        kernel = self._console.read_text(encoding="utf-8", errors="replace").splitlines()[-30:]
        return "\n".join([super().story(what), "its kernel said:", *(f"  {line[:400]}" for line in kernel)])
