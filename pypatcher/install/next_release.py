"""Which release a restart now would bring to `P`: what is staged, or the one before where the owner recalled a trial.

Asks the table of ``decide`` as if nothing else ran. Looks only, and takes no lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypatcher.install.decide import Action, Limits, decide
from pypatcher.install.local_release import LocalRelease
from pypatcher.install.starts import current_caller
from pypatcher.install.transaction import Session

if TYPE_CHECKING:
    from pypatcher.install.examine import Examined
    from pypatcher.install.layout import Entry, Layout

__all__ = ["next_release"]


def next_release(session: Session, limits: Limits) -> LocalRelease | None:
    """The release that would run after a restart and does not run now; None for none, and during most trials."""
    facts, layout = session.facts(current_caller("run", {}), alone=lambda: True), session.layout
    state = facts.state
    refused = () if state is None else state.refused
    staged = facts.staged if facts.staged.id is not None and facts.staged.id.sha512 not in refused else None
    if state is None or state.trial is None:
        return _local(layout, layout.staged, staged) if staged is not None and facts.staged_is_allowed else None
    if decide(facts, limits).action is not Action.GIVE_WAY:
        return None
    newest = max(state.newest, state.trial.program.version)
    if staged is not None and staged.id is not None and staged.id.version > newest and facts.staged_is_allowed:
        return _local(layout, layout.staged, staged)
    return _local(layout, layout.previous, facts.previous)


def _local(layout: Layout, entry: Entry, found: Examined) -> LocalRelease | None:
    if found.id is None or found.info is None:
        return None
    return LocalRelease(layout.path(entry), found.info, found.id.sha512)
