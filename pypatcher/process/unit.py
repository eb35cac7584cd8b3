"""The text of a systemd unit under which a program can update itself; systemd.service(5), systemd.exec(5).

Pure: from values to text. What the unit must have for updates to work:

| line | why |
| --- | --- |
| ``Type=notify``, ``NotifyAccess=all`` | READY=1 ends a trial; of a onefile another than the main process says it |
| ``Restart=always``, ``StartLimitIntervalSec=0`` | a version on trial that crashes is counted at each start |
| ``RestartForceExitStatus`` and ``PYPATCHER_RESTART_STATUS`` | how a onefile restarts: it leaves with that status |
| ``RestartSec`` | 1 with a guard, which keeps starts 5 s apart: an update waits for no crash; else 5 |
| ``ReadWritePaths`` | the rest of the file system is read-only, the program's own folder is where updates happen |
| ``StateDirectory`` | hints such as DHT nodes; the program may use it as well |

Hardening that would hinder programs on devices is left out: ``PrivateDevices`` (GPIO, serial ports, cameras),
``MemoryDenyWriteExecute`` (cffi), ``ProtectHome`` other than read-only (``ReadWritePaths`` counts in a home too).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pypatcher.errors import SettingError

__all__ = ["RESTART_STATUS", "UnitPlan", "is_unit", "unit_text", "why_lost"]

RESTART_STATUS = 86
"""The exit status by which a onefile asks systemd for a restart (design.md "Restart")."""

_HARDENING = (
    "NoNewPrivileges=yes",
    "PrivateTmp=yes",
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "ProtectControlGroups=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
)
_OF_ITS_OWN = ("/tmp", "/var/tmp")  # noqa: S108 - nothing is written there
_IN_MEMORY = ("/run", "/var/run", "/dev/shm")  # noqa: S108

_MADE_HERE = "kept up to date by pypatcher"


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What the unit is for.

    Attributes:
        program: absolute path of the program's file.
        arguments: what it is started with.
        pypatcher: the command that starts pypatcher, such as ``("/opt/venv/bin/pypatcher",)``.
        previous: ``[TARGET=]K`` arguments, of the owner's keys before.
        keys: ``[TARGET=]K`` arguments; with them the program runs under ``pypatcher run``, or is guarded.
        guarded: the program updates itself, and ``pypatcher guard`` counts its starts before any of it runs.
        user: whose rights it runs with; None is root.
        kind: the unit's ``Type=``.
        options: of ``pypatcher run``, such as ``--mode=at=03:30``.
        environment: ``NAME=VALUE`` for the program, and for the node in it or beside it.
        watchdog: seconds within which the program must say ``WATCHDOG=1``, again and again; None is no such rule.
    """

    program: Path
    arguments: tuple[str, ...]
    pypatcher: tuple[str, ...]
    keys: tuple[str, ...] = ()
    guarded: bool = False
    user: str | None = None
    kind: str = "notify"
    options: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    watchdog: float | None = None
    previous: tuple[str, ...] = ()

    @property
    def supervised(self) -> bool:
        """Does ``pypatcher run`` start the program?"""
        return bool(self.keys) and not self.guarded


def unit_text(plan: UnitPlan) -> str:
    """The unit, with a last newline.

    Raises:
        SettingError: a path or a name cannot stand in a unit, or a guard is asked for without a key, or options of
            ``run`` for a program that is not run by it.
    """
    if plan.guarded and not plan.keys:
        raise SettingError("a guard needs the owner's public key")
    if plan.options and not plan.supervised:
        raise SettingError(
            f"{plan.options[0].partition('=')[0]} is for `pypatcher run` (--public-key without --guard): a program "
            "that updates itself says such things in its own code"
        )
    name = plan.program.name
    sections = {
        "Unit": [
            f"Description={_specifier_free(name)}, {_MADE_HERE}",
            "StartLimitIntervalSec=0",
        ],
        "Service": [
            *_service(plan),
            *[f"Environment={_word(_variable(one))}" for one in plan.environment],
            *([f"WatchdogSec={plan.watchdog:g}"] if plan.watchdog is not None else []),
            "Restart=always",
            f"RestartSec={1 if plan.guarded else 5}",
            f"StateDirectory={_state_name(name)}",
            *([f"User={_user(plan.user)}"] if plan.user is not None else []),
            *_HARDENING,
            f"ReadWritePaths={_word(str(plan.program.parent))}",
        ],
        "Install": ["WantedBy=multi-user.target"],
    }
    return "\n\n".join("\n".join([f"[{title}]", *lines]) for title, lines in sections.items()) + "\n"


def why_lost(path: Path) -> str:
    """Why a unit of ours does not find a file there, or not after a boot; empty if it does."""
    for folder in _OF_ITS_OWN:
        if path.is_relative_to(folder):
            return f"the unit has a {folder} of its own (PrivateTmp=yes), and what is old in the other one is removed"
    for folder in _IN_MEMORY:
        if path.is_relative_to(folder):
            return f"{folder} is in memory, and empty after a boot"
    return ""


def is_unit(text: bytes) -> bool:
    """Whether a file that begins so is a unit of ours: its second line says it."""
    first, second, *_ = (*text.split(b"\n"), b"")
    return first == b"[Unit]" and second.endswith(f", {_MADE_HERE}".encode())


def _service(plan: UnitPlan) -> list[str]:
    options = [f"--public-key={key}" for key in plan.keys] + [f"--previous-key={key}" for key in plan.previous]
    program = [str(plan.program), *plan.arguments]
    lines = [f"Type={plan.kind}", *(["NotifyAccess=all"] if plan.kind == "notify" else [])]
    if plan.supervised:
        # run stops its program by itself; systemd's signal to both at once would only race with it.
        return [
            *lines,
            _exec("ExecStart=", [*plan.pypatcher, "run", *options, *plan.options, "--", *program]),
            "KillMode=mixed",
        ]
    lines += [f"Environment=PYPATCHER_RESTART_STATUS={RESTART_STATUS}", f"RestartForceExitStatus={RESTART_STATUS}"]
    if not plan.guarded:
        return [*lines, _exec("ExecStart=", program)]
    guard = [*plan.pypatcher, "guard", *options, str(plan.program)]
    return [
        *lines,
        _exec("ExecStartPre=-", guard),
        _exec("ExecStart=", program),
        _exec("ExecStop=-", [*guard, "--ended"]),
        _exec("ExecStopPost=-", [*guard, "--ended"]),
    ]


def _exec(setting: str, words: Sequence[str]) -> str:
    # The first word is no subject of variables, and "$$" in it would stay two.
    return setting + " ".join([_word(words[0]), *(_word(word).replace("$", "$$") for word in words[1:])])


def _word(text: str) -> str:
    """One word as systemd reads it: quoted where it must be, specifiers doubled."""
    text = _specifier_free(text)
    if text and not set(text) & set(" \t'\"\\;"):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def _specifier_free(text: str) -> str:
    if not text.isprintable():
        raise SettingError(f"{text!r} has characters that cannot stand in a unit")
    return text.replace("%", "%%")


def _variable(assignment: str) -> str:
    name, equals, _ = assignment.partition("=")
    if not equals or not name.isidentifier() or not name.isascii():
        raise SettingError(f"{assignment!r}: write NAME=VALUE")
    return assignment


def _state_name(name: str) -> str:
    kept = "".join(character if character.isascii() and (character.isalnum() or character in "-_.") else "-"
                   for character in name)  # fmt: skip
    return kept.lstrip(".") or "program"


def _user(user: str) -> str:
    if not user or not set(user) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.$"):
        raise SettingError(f"{user!r} is no user's name")
    return user
