"""A release on its way to ``staged``: what a download becomes (install.md "Stage").

Whether a release is wanted is decided in ``decide``; the file that a download is written to is in ``partials``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pypatcher.errors import CannotReplaceError, SignatureMismatchError, StateError
from pypatcher.install.decide import check_stageable
from pypatcher.install.examine import CANNOT_BE_UPDATED, Verify
from pypatcher.install.files import Files
from pypatcher.install.layout import Entry, Layout
from pypatcher.install.partials import Partial
from pypatcher.install.transaction import Session
from pypatcher.install.trial import ProgramId

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo, VerifiedRelease

__all__ = ["make_ready", "place", "stage"]


def make_ready(files: Files, layout: Layout, partial: Partial, expect: PatchInfo, verify: Verify) -> VerifiedRelease:
    """**Stage** steps 2 and 3: nobody writes to it any more, it is what was announced, like `P`, and durable."""
    files.seal(partial.fd, partial.entry)
    release = verify(partial.fd, expect)
    source = files.open(layout.target)
    try:
        files.copy_attributes(source, partial.fd)
    finally:
        files.close(source)
    files.sync(partial.fd)
    return release


def stage(session: Session, partial: Partial, release: VerifiedRelease) -> None:
    """Give a download that was verified, and synced, the name ``staged``; see `Installation.stage`.

    Where the owner's word forbids it by now it waits, for it may be allowed again.
    """
    if not session.may_stay_staged(release.info, release.sha512):
        session.operations.keep_waiting(partial.entry)
        partial.close()
    elif place(session, partial.entry, release):
        partial.close()


def place(session: Session, entry: Entry, release: VerifiedRelease, *, by_person: bool = False) -> bool:
    """Give a file in the state folder that name, if this device wants it and does not have it there already.

    A person's is spared from then on; one that is refused takes that from no other.

    Raises:
        As `Installation.stage`.
    """
    session.operations.begin()
    state = session.operations.read_state()
    program = session.examine(session.layout.target)
    if program.id is None:
        raise CannotReplaceError(f"{session.layout.program} {CANNOT_BE_UPDATED}: {program.reason}")
    if release.rank > program.rank:
        raise SignatureMismatchError(f"version {release.info.version} is signed by a key that was replaced")
    staged = session.examine(session.layout.staged).id
    offered = ProgramId(release.sha512, release.info.version)
    check_stageable(offered, program.id.version, state, staged)
    is_there = staged is not None and staged.sha512 == offered.sha512
    trial = None if state is None else state.trial
    begun = staged is not None and trial is not None and trial.idle and trial.program.sha512 == staged.sha512
    if staged is not None and begun and not is_there:
        raise StateError(f"version {staged.version} is being activated: the next start finishes that first")
    if by_person:
        session.operations.write_spared(release.sha512)
    if is_there:
        return False
    session.operations.place_partial(entry)
    return True
