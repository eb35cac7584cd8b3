"""``make nat-lab``: the whole matrix, a fleet of 60, three fleets of 20 among forged addresses, ten that are besieged.

Or the cells named: ``python -m tests.nat "easy x hard" "hard x hard + public"``, or ``many``, ``forged`` or
``frozen`` alone, the last of which is ten times a fleet that an attacker wants to keep on its old release; or
``default``: the most usual pairs at the intervals that pypatcher is shipped with, which takes up to 40 minutes.
"""

from __future__ import annotations

import asyncio
import sys

from tests.nat.forged import FLOOD, NODE, SILENT, suffer, told
from tests.nat.frozen import freeze, shown
from tests.nat.lab import LackingError
from tests.nat.many import spread
from tests.nat.matrix import DEFAULT, QUICK, Cell, CellOutcome, all_cells, default_cells, run_cells, table


def main(names: list[str]) -> int:
    """Run cells, print each as it ends and the matrix at the end; status 1 if one surprised."""
    if names == ["many"]:
        return _many()
    if names == ["forged"]:
        return _forged()
    if names == ["frozen"]:
        return _frozen()
    is_default = names == ["default"]
    cells = default_cells() if is_default else [_parse(name) for name in names] or all_cells()

    def said(outcome: CellOutcome) -> None:
        print(table([outcome]).splitlines()[1], flush=True)
        if not outcome.as_expected or names:
            print(outcome.story, flush=True)

    try:
        outcomes = asyncio.run(run_cells(cells, said=said, pace=DEFAULT if is_default else QUICK))
    except LackingError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{table(outcomes)}")
    wrong = sum(not each.as_expected for each in outcomes)
    print(f"\n{len(outcomes)} cells, {len(outcomes) - wrong} as expected, {wrong} not")
    status = int(wrong > 0)
    return status if names else max(status, _many(), _forged(), _frozen())


def _many() -> int:
    result = asyncio.run(spread())
    print(f"\n60 devices in 10 LANs behind 10 routers, one has the new release\n{result}")
    return int(len(result.seconds) < result.devices)


def _forged() -> int:
    results = asyncio.run(suffer([FLOOD, SILENT, NODE]))
    print(f"\nfleets of 20, each with one holder, among forged addresses\n{told(results)}")
    return int(any(len(each.seconds) < each.devices or each.minute > 10 or each.connections for each in results))


def _frozen() -> int:
    runs = asyncio.run(freeze(10))
    print(f"\ntwo devices each, of which one is behind a router: until they have a release\n{shown(runs)}")
    return int(not all(each.has_thawed and not each.is_slow for each in runs))


def _parse(name: str) -> Cell:
    pair, _, member = name.partition(" + ")
    holder, _, seeker = pair.partition(" x ")
    return Cell(holder, seeker, member or None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
