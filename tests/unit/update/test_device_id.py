"""Which device this is: kept over dongles that come and go, another one on a cloned card, from what all may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pypatcher.update.device_id import Hardware, device_id, read_hardware

TOPIC = bytes(32)
PI, OTHER_PI = (
    Hardware(b"10000000abcdef01", ("aa:00:00:00:00:01",)),
    Hardware(b"10000000abcdef02", ("aa:00:00:00:00:02",)),
)
PC, OTHER_PC = Hardware(b"", ("aa:00:00:00:00:03", "aa:00:00:00:00:04")), Hardware(b"", ("aa:00:00:00:00:05",))


@pytest.mark.parametrize("hardware", [PI, PC])
def test_a_device_stays_the_same_and_another_topic_sees_another(hardware: Hardware) -> None:
    number, stored = device_id(TOPIC, hardware, b"")
    assert len(number) == 16
    assert device_id(TOPIC, hardware, stored) == (number, stored)
    assert device_id(TOPIC, hardware, b"") == (number, stored)
    assert device_id(bytes(31) + b"\1", hardware, b"")[0] != number


@pytest.mark.parametrize(("hardware", "clone"), [(PI, OTHER_PI), (PC, OTHER_PC), (PI, PC)])
def test_a_cloned_card_is_another_device(hardware: Hardware, clone: Hardware) -> None:
    number, stored = device_id(TOPIC, hardware, b"")
    assert device_id(TOPIC, clone, stored) == device_id(TOPIC, clone, b"") != (number, stored)


def test_a_dongle_that_comes_or_goes_changes_nothing() -> None:
    number, stored = device_id(TOPIC, PI, b"")
    assert device_id(TOPIC, Hardware(PI.serial, ("02:00:00:00:00:09",)), stored)[0] == number
    number, stored = device_id(TOPIC, PC, b"")
    assert device_id(TOPIC, Hardware(b"", ("02:00:00:00:00:09", *PC.macs)), stored)[0] == number


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"id": "00"}', b'{"id": 1, "mac": "", "serial": ""}', b"\xff"])
def test_without_hardware_that_tells_it_is_drawn_once(damaged: bytes) -> None:
    number, stored = device_id(TOPIC, Hardware(), damaged)
    assert device_id(TOPIC, Hardware(), stored) == (number, stored)
    assert device_id(TOPIC, Hardware(), damaged)[0] != number


def interface(root: Path, name: str, mac: str, *, permanent: str = "0", wireless: bool = False) -> None:
    folder = root / "sys/class/net" / name
    (folder / "device").mkdir(parents=True)
    if wireless:
        (folder / "wireless").mkdir()
    for file, text in (("address", mac), ("addr_assign_type", permanent), ("type", "1")):
        (folder / file).write_text(text + "\n")


def test_the_hardware_is_the_serial_and_permanent_macs_wired_first(tmp_path: Path) -> None:
    interface(tmp_path, "wlan0", "aa:00:00:00:00:01", wireless=True)
    interface(tmp_path, "eth1", "aa:00:00:00:00:03")
    interface(tmp_path, "eth0", "00:00:00:00:00:00")
    interface(tmp_path, "veth0", "aa:00:00:00:00:05", permanent="3")
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    serial = tmp_path / "proc/device-tree/serial-number"
    serial.write_bytes(b"10000000abcdef01\0")
    assert read_hardware(tmp_path) == Hardware(b"10000000abcdef01", ("aa:00:00:00:00:03", "aa:00:00:00:00:01"))
    serial.write_bytes(b"0000000000000000\0")
    assert read_hardware(tmp_path).serial == b""


def test_a_machine_that_says_nothing_is_no_error(tmp_path: Path) -> None:
    assert read_hardware(tmp_path / "none") == Hardware()
