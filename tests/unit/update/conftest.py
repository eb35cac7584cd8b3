"""What the tests of the updater share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.updater_world import UpdaterWorld


@pytest.fixture
def world(tmp_path: Path) -> UpdaterWorld:
    return UpdaterWorld(tmp_path)
