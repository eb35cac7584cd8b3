"""The program as it runs: which packaging, restart and hand-over, the supervisor of ``run``, systemd notify."""

from pypatcher.process.child import end_like
from pypatcher.process.image import EXIT_OWN_FAILURE
from pypatcher.process.notify import Notifier, is_proxy
from pypatcher.process.packaging import Packaging, Program, detect, known_packagings
from pypatcher.process.packagings.native import native
from pypatcher.process.plan import Restarting
from pypatcher.process.restart import Restarter
from pypatcher.process.supervisor import Hooks, Supervisor

__all__ = [
    "EXIT_OWN_FAILURE",
    "Hooks",
    "Notifier",
    "Packaging",
    "Program",
    "Restarter",
    "Restarting",
    "Supervisor",
    "detect",
    "end_like",
    "is_proxy",
    "known_packagings",
    "native",
]
