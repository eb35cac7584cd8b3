"""Every setting: what its variable takes, what it refuses and how clearly, and who wins."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pypatcher.app.patcher import NodeSettings
from pypatcher.errors import SettingError
from pypatcher.settings import PUBLIC_BOOTSTRAP, Settings


def read(**environment: str) -> Settings:
    return Settings.from_environment({f"PYPATCHER_{name}": text for name, text in environment.items()})


def test_an_empty_environment_is_the_default() -> None:
    settings = read()
    assert settings == Settings()
    assert settings.bootstrap == PUBLIC_BOOTSTRAP
    assert settings.bind == (("0.0.0.0", 0), ("::", 0))
    assert (settings.publish_interval, settings.upload, settings.json_log) == (55, 1 << 20, False)


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("BOOTSTRAP", "a.example:1,[::1]:2", "bootstrap", (("a.example", 1), ("::1", 2))),
        ("BOOTSTRAP", "", "bootstrap", ()),
        ("BIND", "127.0.0.1:4000", "bind", (("127.0.0.1", 4000),)),
        ("BIND", "127.0.0.1:0,[::1]:0", "bind", (("127.0.0.1", 0), ("::1", 0))),
        ("PUBLISH_INTERVAL", "2.5", "publish_interval", 2.5),
        ("LOOK_INTERVAL", "30", "look_interval", 30.0),
        ("UPLOAD", "0", "upload", 0),
        ("UPLOAD", "2048", "upload", 2048),
        ("UPLOAD_DAY", "100000000", "upload_day", 100_000_000),
        ("DOWNLOAD", "65536", "download", 65536),
        ("DOWNLOAD_DAY", "1", "download_day", 1),
        ("STATE", "/var/cache/app", "state", Path("/var/cache/app")),
        ("PORTMAP", "0", "port_mapping", False),
        ("LAN", "0", "lan", False),
        ("METERED", "1", "metered", True),
        ("METERED_SIZE", "5000000", "metered_size", 5_000_000),
        ("ALLOW_VOLATILE", "1", "allow_volatile", True),
        ("ALLOW_VOLATILE", "0", "allow_volatile", False),
        ("LOG", "json", "json_log", True),
    ],
)
def test_every_variable_sets_its_value(name: str, text: str, field: str, value: object) -> None:
    assert getattr(read(**{name: text}), field) == value


@pytest.mark.parametrize("name", ["BIND", "PUBLISH_INTERVAL", "LOOK_INTERVAL", "UPLOAD", "STATE", "LOG"])
def test_an_empty_variable_is_the_default(name: str) -> None:
    assert read(**{name: ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BOOTSTRAP", "router.example"),
        ("BOOTSTRAP", "a:1,b"),
        ("BIND", "127.0.0.1"),
        ("BIND", "127.0.0.1:1,127.0.0.2:2"),
        ("BIND", "[::1]:1,[::2]:2"),
        ("BIND", "localhost:0"),
        ("BIND", ","),
        ("PUBLISH_INTERVAL", "often"),
        ("PUBLISH_INTERVAL", "0"),
        ("PUBLISH_INTERVAL", "-55"),
        ("PUBLISH_INTERVAL", "nan"),
        ("PUBLISH_INTERVAL", "inf"),
        ("LOOK_INTERVAL", "0.01"),
        ("LOOK_INTERVAL", "100000"),
        ("UPLOAD", "-1"),
        ("UPLOAD", "1 MiB"),
        ("UPLOAD", "1e6"),
        ("UPLOAD", "1" * 5000),
        ("UPLOAD_DAY", "0"),
        ("DOWNLOAD", "0"),
        ("DOWNLOAD", "65535"),
        ("DOWNLOAD", "fast"),
        ("DOWNLOAD_DAY", "-1"),
        ("DOWNLOAD_DAY", "1 GB"),
        ("LAN", "off"),
        ("METERED", "yes"),
        ("METERED_SIZE", "1 MB"),
        ("LOG", "yes"),
    ],
)
def test_nonsense_is_refused_by_the_variables_name(name: str, text: str) -> None:
    with pytest.raises(SettingError, match=f"PYPATCHER_{name}"):
        read(**{name: text})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("publish_interval", 0),
        ("publish_interval", -1.0),
        ("publish_interval", math.nan),
        ("publish_interval", "55"),
        ("look_interval", 0.0),
        ("look_interval", math.inf),
        ("upload", -1),
        ("upload", 1.5),
        ("upload", None),
        ("upload_day", 0),
        ("download", 1000),
        ("download", 1e6),
        ("download_day", "1000000"),
        ("bind", ()),
        ("bind", (("0.0.0.0", 0), ("127.0.0.1", 0))),
        ("bind", (("a.name.example", 0),)),
        ("bind", (("0.0.0.0", 70000),)),
        ("bind", "0.0.0.0:0"),
        ("bind", ("0.0.0.0:0",)),
        ("bootstrap", "router.example:6881"),
        ("bootstrap", ("router.example:6881",)),
        ("bootstrap", (("router.example", 0x10000),)),
        ("bootstrap", None),
        ("metered_size", -1),
        ("metered_size", 1e6),
        ("state", "/var/cache/app"),
        ("json_log", "json"),
    ],
)
def test_arguments_in_code_are_checked_like_the_environment(field: str, value: Any) -> None:
    with pytest.raises(SettingError, match=field):
        Settings().replace(**{field: value})


def test_arguments_win_over_the_environment() -> None:
    settings = read(UPLOAD="7", PUBLISH_INTERVAL="3").replace(upload=8, look_interval=None)
    assert (settings.upload, settings.publish_interval, settings.look_interval) == (8, 3, None)


def test_looks_become_rarer_after_ten_minutes_unless_told_otherwise() -> None:
    assert [Settings().pause_between_looks(uptime) for uptime in (0, 599, 600, 1e6)] == [55, 55, 300, 300]
    assert read(LOOK_INTERVAL="2").pause_between_looks(1e6) == 2


def test_a_metered_device_asks_every_6_hours_and_gives_nothing() -> None:
    metered = read(METERED="1", UPLOAD="1000", PORTMAP="1")
    assert (metered.upload, metered.port_mapping) == (0, False)
    assert [metered.pause_between_looks(uptime) for uptime in (0, 1e6)] == [6 * 3600, 6 * 3600]
    assert {metered.pause_between_greetings(silent, heard) for silent in (False, True) for heard in (False, True)} == {
        6 * 3600
    }
    assert read(METERED="1", LOOK_INTERVAL="2").pause_between_looks(1e6) == 2


def test_a_metered_device_that_wants_something_looks_ever_later() -> None:
    metered, wanting, looks = read(METERED="1"), 0.0, 0
    while wanting < 86400:
        wanting += metered.pause_while_wanting(1e6, wanting)
        looks += 1
    assert 25 <= looks <= 40
    assert read().pause_while_wanting(1e6, 1e6) == 300


def test_greetings_are_rare_where_the_owner_is_heard_in_the_dht() -> None:
    settings = Settings()
    assert settings.pause_between_greetings(False, False) == 1800
    assert settings.pause_between_greetings(False, True) == 7200
    assert settings.pause_between_greetings(True, True) == 300
    assert settings.replace(look_interval=2.0).pause_between_greetings(False, True) == 12


@pytest.mark.parametrize("name", [field.name for field in fields(Settings) if field.type == "bool"])
def test_a_switch_in_code_is_true_or_false_and_nothing_like_it(name: str) -> None:
    with pytest.raises(SettingError, match=name):
        Settings().replace(**{name: "no"})


def test_spawn_takes_every_setting() -> None:
    assert set(NodeSettings.__annotations__) == {field.name for field in fields(Settings)}
