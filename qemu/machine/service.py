"""One program and its systemd unit on a device: installed as docs/cross-building.md says, updated, and looked at."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cross.workshop import StepFailedError
from qemu.device import Device
from qemu.machine.guest import Guest
from qemu.machine.releases import Releases

__all__ = ["ARGUMENTS", "Service"]

ARGUMENTS = ("--name", "kitchen sensor")
_USER = "sensor"


class Service:
    """The program of one kind, with its old version installed."""

    def __init__(self, guest: Guest, device: Device, releases: Releases, kind: str, version: str) -> None:
        self.guest = guest
        self.unit = f"{kind}.service"
        self.program = f"/opt/{kind}/app"
        self._device = device
        self._releases = releases
        self._kind = kind
        self._key = f"--public-key={device.target.name}={releases.keys[kind]}"
        self._seeder = ""
        guest.run("install", "-d", "-o", _USER, "-g", _USER, f"/opt/{kind}")
        guest.run("install", "-o", _USER, "-g", _USER, self._file(version), self.program)

    def install_unit(self, *options: str, with_key: bool) -> None:
        """Write what ``pypatcher unit`` prints, ask systemd what it thinks of it, and start it.

        Raises:
            StepFailedError: systemd has something to say against it.
        """
        words = [self._device.pypatcher, "unit", "--user", _USER, *options, *([self._key] if with_key else [])]
        path = f"/etc/systemd/system/{self.unit}"
        self.guest.run("sh", "-c", f'"$@" > {path}', "sh", *words, self.program, *ARGUMENTS)
        if said := self.guest.run("systemd-analyze", "verify", path):
            raise StepFailedError(f"systemd-analyze verify: {said}")
        self.guest.run("systemctl", "daemon-reload")
        self.guest.run("systemctl", "enable", self.unit)
        self.guest.run("systemctl", "restart", self.unit)

    def publish(self, version: str) -> None:
        """Seed a release from a service of its own, and the one before no longer."""
        if self._seeder:
            self.guest.run("systemctl", "stop", self._seeder)
        self._seeder = f"seeder-{self._kind}-{version}"
        folder = f"/srv/seeds/{self._seeder}"
        self.guest.run("install", "-D", self._file(version), f"{folder}/app")
        entry = {
            "label": self._kind,
            "file": f"{folder}/app",
            "target": self._device.target.name,
            "owner": self._releases.keys[self._kind],
            "hostile": False,
        }
        self.guest.run(
            "systemd-run", "--quiet", f"--unit={self._seeder}", "--setenv=PYPATCHER_BIND=127.0.3.1:0",
            self._device.python, "/opt/machine/seeder.py", json.dumps([entry]),
        )  # fmt: skip

    def rest(self) -> None:
        """Stop it and its seeder until the device is switched on again: an emulator is slow enough."""
        self.guest.run("systemctl", "stop", self._seeder, self.unit)

    def wait_for_version(self, version: str) -> None:
        """The program starts as that version, with its arguments.

        Raises:
            StepFailedError: it does not.
        """
        self.wait_for(f"version {version}", f"version {version}", ARGUMENTS[0])

    def wait_for(self, what: str, *words: str) -> None:
        """The next entry about the unit that has all these words.

        Raises:
            StepFailedError: there is none.
        """
        self.guest.wait_for(self.unit, what, lambda said: all(word in said for word in words))

    def check(self, version: str, trial: str | None, confirmed: str) -> dict[str, Any]:
        """The unit is up, its file is that release, and that is on trial or not; returns what ``status`` says.

        Raises:
            StepFailedError: no.
        """
        found = self.guest.run("sha512sum", self.program).split()[0]
        if found != hashlib.sha512(self._releases.file(self._kind, version).read_bytes()).hexdigest():
            raise StepFailedError(f"{self.program} is not {version}, byte for byte")
        words = (self._device.pypatcher, "status", "--json", self._key, self.program)
        status: dict[str, Any] = json.loads(self.guest.run(*words, may_fail=True))  # it may begin just now
        on_trial = None if status["trial"] is None else status["trial"]["version"]
        if (status["running"], on_trial, status["confirmed"]) != (version, trial, confirmed):
            raise StepFailedError(f"{self.unit}: expected {version}, trial {trial}, confirmed {confirmed}: {status}")
        if (state := self.show("ActiveState")) != "active":
            raise StepFailedError(f"{self.unit} is {state}")
        return status

    def check_nothing_leaked(self) -> None:
        """Of a onefile: one launcher, one program, one unpacked folder, on the whole device.

        Raises:
            StepFailedError: there are more, or fewer.
        """
        control_group = f"/sys/fs/cgroup{self.show('ControlGroup')}/cgroup.procs"
        mine = sorted(self.guest.run("cat", control_group).split(), key=int)
        listed = self.guest.run("sh", "-c", "ls -l /proc/[0-9]*/exe 2>&1; true").splitlines()
        running = [line.split("/proc/")[1].split("/")[0] for line in listed if f"-> {self.program}" in line]
        folders = self.guest.run("find", "/tmp", "/var/tmp", "-name", "_MEI*", "-prune").split()  # noqa: S108 (its own)
        if len(mine) != 2 or sorted(running, key=int) != mine or len(folders) != 1:
            raise StepFailedError(f"{self.unit} has {mine}, {self.program} runs as {running}, unpacked in {folders}")

    def confirm(self, version: str) -> None:
        """Have the program say that it works.

        Raises:
            StepFailedError: that ends no trial.
        """
        self.guest.run("systemctl", "kill", "--signal=USR1", self.unit)
        self.guest.wait_for_event(self.unit, "trial.confirmed", version=version)

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.guest.run("systemctl", "show", "--property", name, "--value", self.unit).strip()

    def _file(self, version: str) -> str:
        return f"/srv/releases/{self._kind}/{version}/app"
