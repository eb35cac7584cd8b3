"""What is on the disk of a new device: the system, pypatcher as pip installed it, the releases, the test's agent."""

from __future__ import annotations

import json
from pathlib import Path

from cross.workshop import run
from qemu.device import Device
from qemu.machine.releases import KINDS, Releases
from qemu.machine.system import INSIDE, System

__all__ = ["ENTRY_POINT", "add_releases", "new_device"]

ENTRY_POINT = "127.0.0.1:6881"
"""Of the private DHT, on the device's loopback."""

_SETTINGS = {
    "PYPATCHER_BOOTSTRAP": ENTRY_POINT,
    "PYPATCHER_BIND": "127.0.1.1:0",
    "PYPATCHER_LOOK_INTERVAL": "5",
    "PYPATCHER_PUBLISH_INTERVAL": "10",
    "PYPATCHER_LOG": "json",
}
_MANAGER = """\
[Manager]
DefaultEnvironment={environment}
# An emulator beside other work may need minutes for what a device does in a second.
DefaultTimeoutStartSec=900
DefaultTimeoutStopSec=900
"""
_AGENT = """\
[Unit]
Description=Carries out what the test says

[Service]
ExecStart={python} /opt/machine/agent.py
"""


def new_device(content: Path, device: Device, system: System) -> Path:
    """Make the folder ``content`` of the system, pypatcher, and what the tests run there.

    Files are links to their originals: replace them, never write to them.
    """
    run("cp", "-a", "--link", system.root, content)
    run("cp", "-a", "--link", device.path("/opt/pypatcher"), content / "opt" / "pypatcher")
    machine = content / "opt" / "machine"
    machine.mkdir()
    run("cp", *INSIDE.glob("*.py"), Path(__file__).parent.parent / "seeder.py", machine)
    return content


def add_releases(content: Path, device: Device, releases: Releases) -> None:
    """Put the releases into ``/srv/releases``, and tell systemd of the agent and of the network to update in.

    What programs are told stands in the manager's defaults and in drop-ins, so that their units are those of
    ``pypatcher unit``.
    """
    folder = content / "srv" / "releases"
    folder.mkdir()
    for kind in KINDS:
        run("cp", "-a", "--link", releases.folder / kind, folder)
    settings = " ".join(f"{name}={value}" for name, value in _SETTINGS.items())
    systemd = content / "etc" / "systemd"
    wants = systemd / "system" / "multi-user.target.wants"
    for made in (systemd / "system.conf.d", wants):
        made.mkdir(exist_ok=True)
    (systemd / "system.conf.d" / "test.conf").write_text(_MANAGER.format(environment=settings), encoding="ascii")
    (systemd / "system" / "agent.service").write_text(_AGENT.format(python=device.python), encoding="ascii")
    (wants / "agent.service").symlink_to("../agent.service")
    for kind in KINDS:
        keys = json.dumps({device.target.name: releases.keys[kind]})
        drop_in = systemd / "system" / f"{kind}.service.d" / "keys.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(f"[Service]\nEnvironment='OWNER_KEYS={keys}'\n", encoding="ascii")
