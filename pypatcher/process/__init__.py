"""The program as it runs: which packaging, restart and hand-over. (``run`` and systemd notify: their own modules.)"""

from pypatcher.process.child import end_like
from pypatcher.process.origin import Origin
from pypatcher.process.packaging import Packaging, Program, detect, native
from pypatcher.process.plan import Restarting, RestartPlan, plan_restart
from pypatcher.process.restart import Restarter, RestartExit
from pypatcher.process.supervisor import Hooks, Supervisor

__all__ = [
    "Hooks",
    "Origin",
    "Packaging",
    "Program",
    "RestartExit",
    "RestartPlan",
    "Restarter",
    "Restarting",
    "Supervisor",
    "detect",
    "end_like",
    "native",
    "plan_restart",
]
