"""What the settings bound holds for everything that a node does; ``run`` and ``spawn`` make the same node."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pypatcher.discovery import Namespace
from pypatcher.install import Installation
from pypatcher.install.layout import Layout
from pypatcher.node.config import NodeConfig, NodeProgram
from pypatcher.node.fetch_newest import Acquirer
from pypatcher.node.network import Network
from pypatcher.node.node import Node
from pypatcher.node.seed import settings_for
from pypatcher.settings import Settings
from pypatcher.targets import find_target
from pypatcher.transfer import StallRule
from pypatcher.transfer.shelf import Shelf
from pypatcher.update.outfile import OutFile
from tests.support.manifests import OWNER_KEY
from tests.support.node_fakes import FakeInstallation

FAR = ("20.0.0.1", 1)


class _EnoughError(Exception):
    """All that is looked at is there."""


@pytest.mark.parametrize("stall", [None, StallRule(5.0, 5.0)])
async def test_every_exchange_of_a_node_has_the_limits_of_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stall: StallRule | None
) -> None:
    told: list[tuple[StallRule, Shelf]] = []

    def exchanges(_endpoint: Any, _namespace: Any, shelf: Shelf, *, stall: StallRule, **_: Any) -> None:
        told.append((stall, shelf))
        raise _EnoughError

    monkeypatch.setattr("pypatcher.node.node.Exchanges", exchanges)
    settings = Settings(
        bootstrap=(), bind=(("127.0.0.1", 0),), port_mapping=False, lan=False, state=tmp_path,
        download=65536, download_day=1, upload_day=100,
    )  # fmt: skip
    installation = cast("Installation", FakeInstallation(Layout(tmp_path / "app")))
    program = NodeProgram(find_target("x86_64"), OWNER_KEY, installation)
    node = Node(
        NodeConfig({None: OWNER_KEY}, kind="rustpatcher", settings=settings, stall=stall), program, lambda _: None
    )
    with pytest.raises(_EnoughError):
        await node.run()
    [(rule, shelf)] = told
    assert (rule.rate, rule.seconds) == ((5.0, 5.0) if stall else (1000.0, 60.0))
    assert rule.intake is not None
    assert 1.5 < rule.intake.took(131072, FAR) < 2.0
    assert node.intake.wait(FAR) > 0.0
    assert shelf.limiter.admit(FAR, 101) is None
    assert shelf.limiter.admit(FAR, 100) is not None


def test_fetch_keeps_to_the_rate_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[StallRule] = []

    def exchanges(*_: Any, stall: StallRule, **__: Any) -> None:
        told.append(stall)
        raise _EnoughError

    monkeypatch.setattr("pypatcher.node.fetch_newest.Exchanges", exchanges)
    network = SimpleNamespace(endpoint=None, namespace=Namespace.ours("x86_64", OWNER_KEY))
    with pytest.raises(_EnoughError):
        Acquirer(cast("Network", network), cast("OutFile", None), Settings(download=65536), print, print)
    assert told[0].intake is not None
    assert 1.5 < told[0].intake.took(131072, FAR) < 2.0


def test_the_files_of_a_seed_share_the_limits() -> None:
    shares = [settings_for(Settings(upload=900, upload_day=3000), number, 3) for number in range(3)]
    assert {(each.upload, each.upload_day) for each in shares} == {(300, 1000)}
    assert settings_for(Settings(upload_day=1), 0, 3).upload_day == 1
    assert settings_for(Settings(), 0, 3).upload_day is None
