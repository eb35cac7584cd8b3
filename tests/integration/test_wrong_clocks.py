"""Processes whose clocks stand in 1970 and in 2100: they hear the owner, obey a hold, and take what he opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from pypatcher.artifact.rollout import Change, next_word
from pypatcher.artifact.terms import Hold
from tests.support.mixed_fleet import open_mixed, until
from tests.support.updates import KEY, NEW

pytestmark = pytest.mark.timeout(300)


def clock(begins: str) -> dict[str, str]:
    """What makes a process believe that it was started then; how fast time passes stays."""
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {"LD_PRELOAD": str(library), "FAKETIME": f"@{begins}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


async def test_clocks_of_1970_and_2100_obey_the_word_and_update(tmp_path: Path) -> None:
    told = {"new-0": clock("1970-01-02 00:00:00"), "new-2": clock("2100-01-01 00:00:00")}
    async with open_mixed(tmp_path, old=0, new=3, told=told) as fleet:
        held = fleet.word(Change(hold=Hold.HELD))
        fleet.hold(NEW, is_old=False, word=held)
        await until(lambda: fleet.know(held), "all know that it is held")
        assert not fleet.updated()
        assert not any(fleet.said(name, "fetch.started") for name in fleet.names)
        years = {name: fleet.devices[name].text("errors")[:40] for name in fleet.names}
        assert "1970" in years["new-0"]
        assert "2100" in years["new-2"]
        opened = next_word(held, KEY, Change(hold=Hold.GO_ON), made=0)
        fleet.hold(NEW, is_old=False, word=opened)
        await until(lambda: fleet.updated() == fleet.names, "all of them")
