"""``make nat-lab``: the whole matrix, then a fleet of 60.

Or the cells named: ``python -m tests.nat "easy x hard" "hard x hard + public"``, or ``many`` for the fleet alone.
"""

from __future__ import annotations

import asyncio
import sys

from tests.nat.many import spread
from tests.nat.matrix import Cell, Outcome, all_cells, run_cells, table
from tests.nat.world import LackingError


def main(names: list[str]) -> int:
    """Run cells, print each as it ends and the matrix at the end; status 1 if one surprised."""
    if names == ["many"]:
        return _many()
    cells = [_parse(name) for name in names] or all_cells()

    def said(outcome: Outcome) -> None:
        print(table([outcome]).splitlines()[1], flush=True)
        if not outcome.as_expected or names:
            print(outcome.story, flush=True)

    try:
        outcomes = asyncio.run(run_cells(cells, said=said))
    except LackingError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{table(outcomes)}")
    wrong = sum(not each.as_expected for each in outcomes)
    print(f"\n{len(outcomes)} cells, {len(outcomes) - wrong} as expected, {wrong} not")
    return int(wrong > 0) or (0 if names else _many())


def _many() -> int:
    result = asyncio.run(spread())
    print(f"\n60 devices in 10 LANs behind 10 routers, one has the new release\n{result}")
    return int(len(result.seconds) < result.devices)


def _parse(name: str) -> Cell:
    pair, _, member = name.partition(" + ")
    holder, _, seeker = pair.partition(" x ")
    return Cell(holder, seeker, member or None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
