"""``pypatcher adopt``: a person's release at `P`, put there as an update would be (INSTALL.md "By hand").

To every crash between two of these steps it is what INSTALL.md's table knows as a person's rename: before the rename
nothing has changed but ``previous``, after it the next start finds a program that a person put there. `P` is not on the
way back that a trial needs: a confirmed `P` alone becomes ``previous``.
"""

from __future__ import annotations

import errno
import secrets

from pypatcher.errors import CannotReplaceError
from pypatcher.install.found import Verify
from pypatcher.install.settling import Session
from pypatcher.install.trial import ProgramId
from pypatcher.version import Version

__all__ = ["adopt"]

_MODE_OF_NEW = 0o755


def adopt(session: Session, source: int, verify: Verify) -> Version:
    """Copy, verify, keep the way back, rename, write it down; see `Installation.adopt`.

    The caller holds ``lock`` and, alone, ``instances``.
    """
    files, layout, operations = session.files, session.layout, session.operations
    operations.begin()
    operations.remove_stale_partials()
    entry = layout.partial(secrets.token_hex(8))
    fd = files.create(entry)
    try:
        files.copy(source, fd)
        _take_attributes(session, source, fd)
        release = verify(fd)
        files.sync(fd)
    except BaseException:
        files.unlink(entry)
        raise
    finally:
        files.close(fd)
    adopted = ProgramId(release.sha512, release.info.version)
    state, program = operations.read_state(), session.examine(layout.target)
    if program.id is not None and program.stat is not None and program.id.sha512 != adopted.sha512:
        confirmed = state is None or (state.trial is None and state.confirmed.sha512 == program.id.sha512)
        if confirmed:
            operations.keep_previous(program.stat)
    operations.rename_to_program(entry)
    operations.adopt(adopted, state)
    staged = session.examine(layout.staged).id
    if staged is None or staged.version <= adopted.version:
        operations.drop_staged()
    return adopted.version


def _take_attributes(session: Session, source: int, fd: int) -> None:
    """Owner, attributes and mode are those of the program that was there, else those of the file that is adopted."""
    files = session.files
    try:
        old = files.open(session.layout.target)
    except FileNotFoundError:
        files.copy_attributes(source, fd)
        return
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CannotReplaceError(f"{session.layout.program} is a symbolic link: remove it") from None
        raise
    try:
        files.copy_attributes(old, fd)
    finally:
        files.close(old)
