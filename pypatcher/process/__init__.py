"""The program as it runs: its packaging, restart and hand-over, the supervisor of ``run``, systemd's notify protocol.

Not here: what is installed and on trial (``install``), and anything of the network.
"""

from pypatcher.process.child import end_like, how_it_ended
from pypatcher.process.children import who_stays
from pypatcher.process.detection import detect, known_packagings
from pypatcher.process.image import EXIT_OWN_FAILURE
from pypatcher.process.notify import Notifier, is_proxy
from pypatcher.process.packaging import Program, has_lost_its_bundle
from pypatcher.process.packagings.native import native
from pypatcher.process.plan import Restarting
from pypatcher.process.restart import Restarter
from pypatcher.process.supervisor import Hooks, Supervisor
from pypatcher.process.under_run import is_under_run, told_of_run

__all__ = [
    "EXIT_OWN_FAILURE",
    "Hooks",
    "Notifier",
    "Program",
    "Restarter",
    "Restarting",
    "Supervisor",
    "detect",
    "end_like",
    "has_lost_its_bundle",
    "how_it_ended",
    "is_proxy",
    "is_under_run",
    "known_packagings",
    "native",
    "told_of_run",
    "who_stays",
]
