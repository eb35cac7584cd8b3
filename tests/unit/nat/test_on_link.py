"""Who is on a link of this machine, by the kernel's tables."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pypatcher.nat.on_link import OnLink
from tests.support.transport import ManualClock

V4 = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t0000000A\t0101A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0
"""
NOWHERE = "0" * 32
V6 = f"""fd000009000000000000000000000000 40 {NOWHERE} 00 {NOWHERE} 0 1 0 00000001 eth0
fd000000000000000000000000000000 08 {NOWHERE} 00 fd000009000000000000000000000001 0 1 0 00000003 eth0
{NOWHERE} 00 {NOWHERE} 00 {NOWHERE} 0 1 0 00000001 lo
"""


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    if sys.byteorder != "little":
        pytest.fail("the table below is one of a little-endian machine")
    (tmp_path / "route").write_text(V4)
    (tmp_path / "ipv6_route").write_text(V6)
    return tmp_path


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("192.168.1.7", True),
        ("192.168.2.7", False),
        ("10.0.0.7", False),
        ("172.17.0.2", False),
        ("127.0.0.5", True),
        ("8.8.8.8", False),
        ("fd00:9::7", True),
        ("fd00:a::7", False),
        ("fe80::7%eth0", False),
        ("::1", True),
        ("2a01:db9::1", False),
    ],
)
def test_private_addresses_are_near_only_on_a_link(tables: Path, host: str, near: bool) -> None:
    assert OnLink(ManualClock(), tables=tables)((host, 6881)) is near


def test_a_new_link_is_seen_within_ten_seconds(tables: Path) -> None:
    clock = ManualClock()
    on_link = OnLink(clock, tables=tables)
    assert not on_link(("192.168.2.7", 1))
    (tables / "route").write_text(V4.replace("0001A8C0", "0002A8C0"))
    clock.now += 10.0
    assert on_link(("192.168.2.7", 1))


def test_without_tables_only_loopback_is_near(tmp_path: Path) -> None:
    on_link = OnLink(ManualClock(), tables=tmp_path)
    assert not on_link(("192.168.1.7", 1))
    assert on_link(("127.0.0.1", 1))
