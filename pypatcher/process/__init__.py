"""The program as it runs: which packaging, restart and hand-over. (``run`` and systemd notify: their own modules.)"""

from pypatcher.process.origin import Origin
from pypatcher.process.packaging import Packaging, Program, detect, native
from pypatcher.process.plan import Restarting, RestartPlan, plan_restart
from pypatcher.process.restart import Restarter, RestartExit

__all__ = [
    "Origin",
    "Packaging",
    "Program",
    "RestartExit",
    "RestartPlan",
    "Restarter",
    "Restarting",
    "detect",
    "native",
    "plan_restart",
]
