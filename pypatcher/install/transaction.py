"""One transaction on an installation: its files, under ``lock``, and what this process knows of them.

Whatever changes an installation does so through a `Session`. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pypatcher.install.examine import Examined, Examiner, vouched
from pypatcher.install.facts import DiskFacts, may_stay_staged
from pypatcher.install.files import Files
from pypatcher.install.instances import Instance, Instances
from pypatcher.install.layout import Entry, Layout
from pypatcher.install.locks import transaction
from pypatcher.install.operations import Operations
from pypatcher.install.orders import ReadOrders, no_orders
from pypatcher.install.starts import Caller
from pypatcher.install.state_folder import OpenFolders, StateFolder

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo

__all__ = ["Session", "transaction_files"]


class Session:
    """One transaction: the files, and what this process knows of them."""

    def __init__(
        self,
        files: Files,
        layout: Layout,
        examiner: Examiner,
        instances: Instances,
        lives: Callable[[int, int], bool],
        *,
        read_orders: ReadOrders = no_orders,
    ) -> None:
        self.files = files
        self.layout = layout
        self.operations = Operations(files, layout)
        self._examiner = examiner
        self._instances = instances
        self._lives = lives
        self._read_orders = read_orders

    def may_stay_staged(self, info: PatchInfo, sha512: bytes) -> bool:
        """Whether the word that is stored now lets that release be activated."""
        return may_stay_staged(self.operations, self._read_orders(self.operations.read_word), info, sha512)

    def examine(self, entry: Entry) -> Examined:
        """What is found at an entry of the disk."""
        return self._examiner.examine(self.files, entry)

    def examine_known(self, entry: Entry) -> Examined:
        """The same; what ``trial.json`` knows by its hash is good, whichever key we ask by."""
        return vouched(self.examine(entry), self.operations.read_state())

    def remember(self, entry: Entry) -> None:
        """See `Examiner.remember`."""
        self._examiner.remember(self.files, entry)

    def facts(self, caller: Caller, alone: Callable[[], bool] | None = None) -> DiskFacts:
        """What is on disk now; ``alone`` where that is not to be found out by a lock."""
        return DiskFacts(
            self.files,
            self.layout,
            self._examiner,
            caller,
            lives=self._lives,
            alone=alone or self.alone,
            read_orders=self._read_orders,
        )

    def alone(self) -> bool:
        """See `Instances.alone`."""
        return self._instances.alone(self.files)

    def share(self, *, stays: bool) -> None:
        """See `Instances.share`; one that stays is an instance for the others."""
        self._instances.share(self.files)
        if stays:
            self._instances.set_ready(self.files, ready=False)

    def others(self) -> tuple[Instance, ...]:
        """See `Instances.others`."""
        return self._instances.others(self.files)

    def release(self) -> None:
        """See `Instances.release`."""
        self._instances.release(self.files)


@contextmanager
def transaction_files(folders: OpenFolders, layout: Layout) -> Iterator[Files]:
    """The files of a transaction; the state folder is made where there is none.

    Raises:
        CannotReplaceError: the state folder cannot be used, or another process did not let go of ``lock``.
        OSError: a folder cannot be opened.
    """
    with folders(layout, StateFolder.MADE) as files, transaction(files, layout):
        yield files
