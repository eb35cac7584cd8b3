"""When a release takes over; on clocks that jump, change with DST or stand in 1970."""

from __future__ import annotations

import datetime
import random
import time
from collections.abc import Callable, Iterator
from zoneinfo import ZoneInfo

import pytest

from pypatcher.errors import SettingError
from pypatcher.update.mode import At, Now, OnRestart, RestartAlarm, UpdaterMode, parse_mode

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
JITTER = 300.0


class NoJitter(random.Random):
    """Draws the lowest number."""

    def uniform(self, a: float, b: float) -> float:
        return a


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the local time zone."""

    def choose(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield choose
    monkeypatch.undo()
    time.tzset()


def berlin(*when: int, fold: int = 0) -> float:
    return datetime.datetime(*when, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold).timestamp()


def moment(mode: At, wall: float, rng: random.Random | None = None) -> float:
    """Unix time at which the alarm goes off when it is asked as it wants to be."""
    alarm, start = RestartAlarm(mode, rng or NoJitter()), wall
    while (wait := alarm.wait(wall, wall - start)) != 0:
        assert wait is not None
        assert 0 < wait <= 30
        wall += wait
    return wall


def test_now_is_at_once_and_on_restart_is_never() -> None:
    assert RestartAlarm(Now(), random.Random()).wait(0, 0) == 0
    assert RestartAlarm(OnRestart(), random.Random()).wait(0, 0) is None
    assert (UpdaterMode.Now, UpdaterMode.OnRestart, UpdaterMode.At(3, 30)) == (Now(), OnRestart(), At(3, 30))


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ((2026, 1, 5, 3, 29, 59), (2026, 1, 5, 3, 30)),
        ((2026, 1, 5, 3, 30, 0), (2026, 1, 6, 3, 30)),
        ((2026, 1, 5, 3, 31, 0), (2026, 1, 6, 3, 30)),
        ((2026, 12, 31, 23, 0, 0), (2027, 1, 1, 3, 30)),
        ((2028, 2, 28, 12, 0, 0), (2028, 2, 29, 3, 30)),
    ],
)
def test_at_is_the_next_one_to_come(zone, now: tuple[int, ...], then: tuple[int, ...]) -> None:
    zone(BERLIN)
    assert moment(At(3, 30), berlin(*now)) == berlin(*then)


def test_midnight_is_an_ordinary_time(zone) -> None:
    zone(BERLIN)
    assert moment(At(0, 0), berlin(2026, 1, 5, 23, 59, 30)) == berlin(2026, 1, 6, 0, 0)
    assert moment(At(0, 0), berlin(2026, 1, 6, 0, 0)) == berlin(2026, 1, 7, 0, 0)
    assert moment(At(23, 59), berlin(2026, 1, 6, 0, 0)) == berlin(2026, 1, 6, 23, 59)


def test_a_time_that_dst_skips_comes_once_that_night(zone) -> None:
    zone(BERLIN)  # On 2026-03-29 2:00 is followed by 3:00.
    found = moment(At(2, 30), berlin(2026, 3, 28, 12, 0))
    assert berlin(2026, 3, 29, 1, 0) <= found <= berlin(2026, 3, 29, 4, 0)
    assert moment(At(2, 30), found) == berlin(2026, 3, 30, 2, 30)


def test_nights_with_23_and_25_hours_keep_the_time_of_day(zone) -> None:
    zone(BERLIN)
    assert moment(At(3, 30), berlin(2026, 3, 28, 3, 30)) == berlin(2026, 3, 29, 3, 30)
    assert berlin(2026, 3, 29, 3, 30) - berlin(2026, 3, 28, 3, 30) == 23 * 3600
    assert moment(At(3, 30), berlin(2026, 10, 24, 3, 30)) == berlin(2026, 10, 25, 3, 30)
    assert berlin(2026, 10, 25, 3, 30) - berlin(2026, 10, 24, 3, 30) == 25 * 3600


def test_a_time_that_dst_repeats_is_met_that_night(zone) -> None:
    zone(BERLIN)  # On 2026-10-25 2:30 comes twice.
    found = moment(At(2, 30), berlin(2026, 10, 24, 12, 0))
    assert found in (berlin(2026, 10, 25, 2, 30), berlin(2026, 10, 25, 2, 30, fold=1))


def test_jitter_is_up_to_five_minutes_and_differs_between_devices(zone) -> None:
    zone("UTC")
    found = {moment(At(3, 30), 0.0, random.Random(seed)) - 3.5 * 3600 for seed in range(50)}
    assert len(found) == 50
    assert 0 <= min(found) < 60
    assert 240 < max(found) <= JITTER


def test_jitter_reaches_beyond_midnight(zone) -> None:
    zone("UTC")
    late = type("Late", (random.Random,), {"uniform": lambda self, a, b: b})()
    assert moment(At(23, 58), 86_000.0, late) == 86_400 - 120 + JITTER


def test_a_clock_that_jumps_past_the_time_is_not_the_time_come(zone) -> None:
    zone("UTC")
    alarm = RestartAlarm(At(3, 30), NoJitter())
    assert alarm.wait(3 * 3600.0, 0.0) == 30
    assert alarm.wait(4 * 3600.0, 30.0) == 30  # NTP: an hour ahead, half a minute later
    assert alarm.wait(27 * 3600.0 + 1799, 30.0 + 23.5 * 3600 - 1) == 1
    assert alarm.wait(27 * 3600.0 + 1800, 30.0 + 23.5 * 3600) == 0


def test_a_clock_that_jumps_back_waits_for_the_next_such_time(zone) -> None:
    zone("UTC")
    alarm = RestartAlarm(At(3, 30), NoJitter())
    alarm.wait(86400.0 + 3 * 3600, 0.0)
    alarm.wait(3 * 3600.0 + 1700, 30.0)
    assert alarm.wait(3 * 3600.0 + 1800, 130.0) == 0


def test_a_device_without_a_clock_finds_the_time_after_ntp(zone) -> None:
    zone("UTC")
    alarm = RestartAlarm(At(3, 30), NoJitter())
    assert alarm.wait(5.0, 5.0) == 30
    real = datetime.datetime(2026, 11, 23, 3, 29, 50, tzinfo=datetime.UTC).timestamp()
    assert alarm.wait(real, 20.0) == 10
    assert alarm.wait(real + 10, 30.0) == 0


def test_small_corrections_of_the_clock_are_no_jump(zone) -> None:
    zone("UTC")
    alarm = RestartAlarm(At(3, 30), NoJitter())
    wall, monotonic = 3 * 3600.0, 0.0
    while (wait := alarm.wait(wall, monotonic)) != 0:
        wall, monotonic = wall + wait + 5, monotonic + wait
    assert 3.5 * 3600 <= wall < 3.5 * 3600 + 10


@pytest.mark.parametrize(
    "name", ["UTC", BERLIN, "NZST-12NZDT,M9.5.0,M4.1.0/3", "<+1245>-12:45", "EST5EDT,M3.2.0,M11.1.0"]
)
def test_every_hour_of_a_year_has_a_next_time_within_25_hours(zone, name: str) -> None:
    zone(name)
    for hour in range(0, 366 * 24, 5):
        wall = 1_767_225_600.0 + hour * 3600
        alarm, mode = RestartAlarm(At(2, 30), NoJitter()), (2, 30)
        alarm.wait(wall, 0.0)
        found = alarm._moment
        assert found is not None
        assert 0 < found - wall <= 25 * 3600
        local = time.localtime(found)
        assert (local.tm_hour, local.tm_min) == mode or local.tm_hour in (1, 3)


@pytest.mark.parametrize(("hour", "minute"), [(24, 0), (-1, 0), (0, 60), (3, -1)])
def test_there_is_no_such_time_of_day(hour: int, minute: int) -> None:
    with pytest.raises(SettingError, match="no time of day: hours are 0 to 23"):
        At(hour, minute)


@pytest.mark.parametrize("mode", [Now(), OnRestart(), At(0, 0), At(3, 5), At(23, 59)])
def test_a_mode_is_read_as_it_is_written(mode: Now | OnRestart | At) -> None:
    assert parse_mode(str(mode)) == mode


@pytest.mark.parametrize(
    "text", ["", "NOW", "at", "at=", "at=3", "at=3:", "at=:3", "at=a:b", "at=-1:0", "3:30", "at=٣:٣٠"]
)
def test_other_text_is_no_mode(text: str) -> None:
    with pytest.raises(SettingError, match=r"choose now, on-restart or at=HH:MM"):
        parse_mode(text)
