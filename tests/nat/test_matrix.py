"""Devices behind routers update each other: thirteen cells; ``make nat-lab`` runs all.

The cells run side by side in one lab; each test looks at one of them.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.nat.matrix import LAN, Cell, CellOutcome, run_cells, table

pytestmark = pytest.mark.timeout(600)

CELLS = [
    Cell("public", "public"),
    Cell("public", "easy"),
    Cell("public", "hard"),
    Cell("forward", "easy"),
    Cell("upnp", "hard"),
    Cell("easy", "public"),
    Cell("easy", "easy"),
    Cell("hard", "public"),
    Cell("double", "easy"),
    Cell("ipv6", "ipv6"),
    Cell("easy", LAN),
    Cell("hard", "hard", "public"),
    Cell("public", "blocked"),
]


@pytest.fixture(scope="module")
def outcomes() -> dict[Cell, CellOutcome]:
    outcomes = asyncio.run(run_cells(CELLS))
    print(f"\n{table(outcomes)}")
    return {outcome.cell: outcome for outcome in outcomes}


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.has_way], ids=str)
def test_a_release_reaches_the_seeker(cell: Cell, outcomes: dict[Cell, CellOutcome]) -> None:
    outcome = outcomes[cell]
    assert outcome.updated, f"{cell}: not updated\n{outcome.story}"


@pytest.mark.parametrize("cell", [cell for cell in CELLS if not cell.has_way], ids=str)
def test_a_seeker_without_a_way_keeps_its_version(cell: Cell, outcomes: dict[Cell, CellOutcome]) -> None:
    outcome = outcomes[cell]
    assert not outcome.updated, f"{cell}: there is a way after all\n{outcome.story}"
