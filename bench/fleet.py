"""How fast a release spreads through a fleet, and what that costs each device: real code on virtual time.

python -m bench.fleet --devices 300
python -m bench.fleet --devices 10000 --others 2000 --churn 0.3 --sybils 2000 --junk
python -m bench.fleet --devices 300 --sources slots      # as without the owner's word
python -m bench.fleet --devices 300 --brake 60           # the owner holds it a minute later
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import logging
import os
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.support import still_clock

_DAY = 86_400.0
_MANY = 1_000_000
_STEP = 10.0
_TOLD = 1000
"""Of so many devices on it is told on the way how far they are."""
_SEED = "0"
real_seconds = time.perf_counter


class _Failures(logging.Handler):
    """What parts of nodes ended by: a simulation in which code fails says nothing."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(logging.Formatter().format(record))


async def spread(arguments: argparse.Namespace) -> dict[str, Any]:
    """One release in one fleet."""
    from pypatcher.version import Version
    from tests.support.sim_fleet import SimFleet, SimPlan

    began, version, failures = real_seconds(), Version(2, 0, 0), _Failures()
    logging.getLogger().addHandler(failures)
    arguments.others = arguments.others or max(100, arguments.devices // 5)
    names = [name for name in SimPlan.__dataclass_fields__ if hasattr(arguments, name)]
    plan = SimPlan(**{name: getattr(arguments, name) for name in names})
    fleet = SimFleet(plan)
    await fleet.start()
    await fleet.live(arguments.warm)
    gc.freeze()
    hosts = [fleet.network.host(device.address) for device in fleet.devices]
    keepers = fleet.watch_keepers() if plan.hears_the_owner else []

    def is_enough() -> bool:
        return min(len(fleet.times(what, version, 0.0)) for what in (_knows, _has)) >= arguments.enough * plan.devices

    async def watch(seconds: float) -> dict[str, Any]:
        before = [(host.sent, host.received, host.packets) for host in hosts]
        asked, answered = sum(fleet.keepers.values()), sum(fleet.kept_bytes.values())
        unanswered = fleet.unanswered
        messages = fleet.network.messages
        began, whole = time.monotonic(), real_seconds()
        while (left := began + seconds - time.monotonic()) > 0.0 and not is_enough():
            await fleet.live(min(_STEP, left))
            if plan.devices >= _TOLD:
                known, had = (len(fleet.times(what, version, 0.0)) for what in (_knows, _has))
                told = f"{time.monotonic() - began:.0f} s: {known} know it, {had} have it"
                print(f"{told}, after {real_seconds() - whole:.0f} s", file=sys.stderr, flush=True)
        seconds = time.monotonic() - began
        sent, received, packets = (
            [getattr(host, name) - was[at] for host, was in zip(hosts, before, strict=True)]
            for at, name in enumerate(("sent", "received", "packets"))
        )
        day = _DAY / seconds
        found: dict[str, Any] = {
            "messages": fleet.network.messages - messages,
            "packets sent a device and day": round(statistics.mean(packets) * day),
            "MB a device and day": round(statistics.mean(map(sum, zip(sent, received, strict=True))) * day / 1e6, 1),
        }
        if keepers:
            reads = sum(fleet.keepers.values()) - asked
            found["of 100 reads unanswered"] = round(100 * (fleet.unanswered - unanswered) / max(reads, 1), 1)
            found["reads a second at a keeper"] = reads / seconds / len(keepers)
            found["bytes a second at a keeper"] = (sum(fleet.kept_bytes.values()) - answered) / seconds / len(keepers)
        return found

    if plan.devices >= _TOLD:
        print(f"{plan.devices} devices after {real_seconds() - began:.0f} s", file=sys.stderr, flush=True)
    quiet = await watch(arguments.quiet) if arguments.quiet else {}
    since = time.monotonic()
    await fleet.publish(version)
    brake = await _brake(fleet, version, arguments) if arguments.brake else {}
    busy = {} if brake else await watch(arguments.seconds)
    knows, has = fleet.times(_knows, version, since), fleet.times(_has, version, since)
    digest = hashlib.sha256(repr((knows, has, fleet.network.messages)).encode()).hexdigest()[:16]
    await fleet.stop()
    if failures.said:
        raise RuntimeError(f"{len(failures.said)} failures, the first: {failures.said[0]}")
    found = {**busy, **quiet}
    return {
        "devices": plan.devices,
        "others": plan.others,
        "sybils": plan.sybils,
        "knows": len(knows),
        "has": len(has),
        "knows 50 %": _quantile(knows, 0.5, plan.devices),
        "knows 95 %": _quantile(knows, 0.95, plan.devices),
        "has 50 %": _quantile(has, 0.5, plan.devices),
        "has 95 %": _quantile(has, 0.95, plan.devices),
        "quiet": quiet,
        "spreading": busy,
        "brake": brake,
        # Every device reads one of four positions a look, however many there are: a keeper's load is in proportion.
        f"at a keeper, of {_MANY} devices": {
            name: round(value / plan.devices * _MANY) for name, value in found.items() if name.endswith("at a keeper")
        },
        "messages": fleet.network.messages,
        "seconds": round(time.monotonic() - since),
        "MB of memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000,
        "processor seconds": round(time.process_time()),
        "real seconds": round(real_seconds() - began),
        "digest": digest,
    }


async def _brake(fleet: Any, version: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """A hold while the release spreads: who has it by then, when devices hear the hold, and who takes it after that."""
    await fleet.live(arguments.brake)
    began = time.monotonic()
    seq = await fleet.brake(version)
    await fleet.live(arguments.seconds)
    heard = {device: device.heard[seq] for device in fleet.devices if seq in device.heard}
    times, count = sorted(when - began for when in heard.values()), len(fleet.devices)
    return {
        "had it before": len([when for when in fleet.times(_has, version, began) if when < 0.0]),
        "took it until they heard": sum(
            began <= device.has.get(version, 0.0) <= when for device, when in heard.items()
        ),
        "took it after that": sum(device.has.get(version, 0.0) > when for device, when in heard.items()),
        "heard 50 %": _quantile(times, 0.5, count),
        "heard 95 %": _quantile(times, 0.95, count),
    }


def _knows(device: Any) -> dict[Any, float]:
    times: dict[Any, float] = device.knows
    return times


def _has(device: Any) -> dict[Any, float]:
    times: dict[Any, float] = device.has
    return times


def _quantile(times: Sequence[float], share: float, count: int) -> float | None:
    """Seconds after which that share of all has it; None: it never came to that."""
    needed = int(share * count)
    return round(times[needed - 1], 1) if len(times) >= needed > 0 else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument(
        "--others", type=int, help="public nodes of the DHT beside them (default: a fifth, at least 100)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--churn", type=float, default=0.0, help="share of the devices that restart within an hour")
    parser.add_argument("--loss", type=float, default=0.01)
    parser.add_argument("--sybils", type=int, default=0)
    parser.add_argument("--says", default="nothing", choices=("nothing", "old", "junk"), help="what Sybils keep")
    parser.add_argument("--junk", action="store_true", help="every minute slot is filled with junk")
    parser.add_argument("--sources", default=(), type=lambda text: tuple(text.split(",")))
    parser.add_argument(
        "--like", type=int, default=0, help="keepers of the pointer are as busy as with so many devices"
    )
    parser.add_argument("--warm", type=float, default=60.0, help="seconds before anything is measured")
    parser.add_argument("--quiet", type=float, default=300.0, help="seconds without a release, measured")
    parser.add_argument("--seconds", type=float, default=600.0, help="seconds after the release")
    parser.add_argument("--brake", type=float, default=0.0, help="hold the release so many seconds after it is out")
    parser.add_argument("--enough", type=float, default=2.0, help="end once this share has the release, such as 0.95")
    return parser


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != _SEED:
        # The order of sets of texts is part of a run.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "bench.fleet", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": _SEED},
        )
    still_clock.stand_still()
    from tests.support.sim_loop import run_simulated
    from tests.support.sim_memory import remember

    remember()
    gc.set_threshold(100_000, 50, 1000)
    print(json.dumps(run_simulated(spread(_parser().parse_args())), indent=1))
