"""A progress bar for a transfer, where a person is at a terminal and ``rich`` (the extra ``progress``) is installed.

Reads events; without ``rich`` it is nothing.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from pypatcher.events import Event, EventBus, FetchProgress

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar(bus: EventBus) -> Iterator[None]:
    """Draw the ``fetch.progress`` events of ``bus`` on stderr during the block; nothing where nobody looks."""
    try:
        if not sys.stderr.isatty():
            raise ImportError
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
    except ImportError:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("waiting", total=None)

        def draw(event: Event) -> None:
            if isinstance(event, FetchProgress):
                progress.update(task, description=event.peer, completed=event.received, total=event.size)

        unsubscribe = bus.subscribe(draw)
        try:
            yield
        finally:
            unsubscribe()
