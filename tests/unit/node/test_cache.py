"""The cache holds hints: losing or damaging it costs time and nothing else."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pypatcher.budgets.peer_budget import FetchBudget
from pypatcher.node.cache import Cache, Memory, cache_folder

MEMORY = Memory(
    port=40123,
    dht_nodes=(("8.8.8.8", 6881), ("2001:db8::1", 6881)),
    good_peers=(("192.168.1.7", 40124),),
    staged={"ab" * 32: "cd" * 64},
    unfit={"ef" * 64: "it is for another machine"},
)
TABLE = {"port": 1, "dht_nodes": [], "good_peers": [], "staged": {}}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    Cache(tmp_path / "deep" / "er").save(MEMORY)
    assert Cache(tmp_path / "deep" / "er").load() == MEMORY


def test_nothing_saved_is_an_empty_memory(tmp_path: Path) -> None:
    assert Cache(tmp_path / "missing").load() == Memory()
    assert Cache(None).load() == Memory()
    Cache(None).save(MEMORY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(4096),
        b"{",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b"[" * 200_000,
        json.dumps(TABLE).encode()[:-3],
        b'"' + b"x" * 400_000 + b'"',
        json.dumps({**TABLE, "dht_nodes": {}}).encode(),
        json.dumps({**TABLE, "good_peers": "8.8.8.8:1"}).encode(),
        json.dumps({**TABLE, "staged": []}).encode(),
        json.dumps({**TABLE, "unfit": []}).encode(),
        json.dumps({**TABLE, "unfit": {"no hex": "why"}}).encode(),
        json.dumps({**TABLE, "staged": {"ab": 7}}).encode(),
        json.dumps({**TABLE, "staged": {"no hex": "ab"}}).encode(),
        b'{"port": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_damaged_file_is_empty_and_replaced_by_the_next_save(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "node.json").write_bytes(content)
    cache = Cache(tmp_path)
    assert cache.load() == Memory()
    cache.save(MEMORY)
    assert cache.load() == MEMORY


@pytest.mark.parametrize("port", [-1, 65536, "1", 1.5, True, None, [1]])
def test_a_port_that_is_none_is_unknown(tmp_path: Path, port: object) -> None:
    (tmp_path / "node.json").write_text(json.dumps({**TABLE, "port": port}))
    assert Cache(tmp_path).load().port == 0


@pytest.mark.parametrize(
    "text",
    ["a.name.example:6881", "8.8.8.8", "8.8.8.8:0", "8.8.8.8:99999", "999.1.1.1:1", "\ud800:1", "", "[::1%]:1", 7],
)
def test_only_literal_addresses_are_remembered(tmp_path: Path, text: object) -> None:
    addresses = [text, "8.8.4.4:1"]
    (tmp_path / "node.json").write_text(json.dumps({**TABLE, "dht_nodes": addresses, "good_peers": addresses}))
    memory = Cache(tmp_path).load()
    assert memory.dht_nodes == memory.good_peers == (("8.8.4.4", 1),)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.ip_addresses().map("{}:1".format),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(TABLE, json_values)) | json_values)
def test_whatever_is_loaded_can_be_used_and_saved(tmp_path: Path, table: object) -> None:
    (tmp_path / "node.json").write_text(json.dumps(table))
    cache = Cache(tmp_path)
    memory = cache.load()
    budget = FetchBudget()
    for address in memory.good_peers:
        budget.succeeded(address)
    cache.save(memory)
    assert cache.load() == memory


def test_lists_are_bounded_and_the_latest_good_peers_stay(tmp_path: Path) -> None:
    many = tuple((f"10.0.{number >> 8}.{number & 255}", 1) for number in range(1000))
    Cache(tmp_path).save(Memory(dht_nodes=many, good_peers=many))
    memory = Cache(tmp_path).load()
    assert memory.dht_nodes == many[:200]
    assert memory.good_peers == many[-200:]


def test_a_folder_that_cannot_be_made_is_said_once_and_costs_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING, logger="pypatcher"):
        cache.save(MEMORY)
        cache.save(MEMORY)
    assert len([record for record in caplog.records if "updates still work" in record.getMessage()]) == 1
    assert cache.load() == Memory()


def test_a_file_in_the_way_is_survived_and_no_temporary_stays(tmp_path: Path) -> None:
    (tmp_path / "node.json").mkdir()
    cache = Cache(tmp_path)
    assert cache.load() == Memory()
    cache.save(MEMORY)
    assert [path.name for path in tmp_path.iterdir()] == ["node.json"]


def test_the_folder_is_private(tmp_path: Path) -> None:
    Cache(tmp_path / "cache").save(MEMORY)
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0
    assert (tmp_path / "cache" / "node.json").stat().st_mode & 0o077 == 0


def test_the_place_is_the_setting_then_systemds_then_xdgs_then_home() -> None:
    environment = {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_STATE_HOME": "/xdg", "HOME": "/home/pi"}
    assert cache_folder(Path("/chosen"), environment, "space") == Path("/chosen/pypatcher/space")
    assert cache_folder(None, environment, "space") == Path("/var/lib/a/pypatcher/space")
    del environment["STATE_DIRECTORY"]
    assert cache_folder(None, environment, "space") == Path("/xdg/pypatcher/space")
    del environment["XDG_STATE_HOME"]
    assert cache_folder(None, environment, "space") == Path("/home/pi/.local/state/pypatcher/space")
    assert cache_folder(None, {}, "space") is None
