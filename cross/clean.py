"""The environment in which everything for devices is built: what is let in from whoever builds is a short list.

Compilers, linkers, pip, setuptools, auditwheel and PyInstaller read dozens of variables and files, and what they find
there ends in the wheels of devices, in silence. So they see their own empty HOME, umask 022, Debian's PATH, and of the
builder's variables only how to reach an index: index, proxy and CA settings, which are harmless because every download
is held against a hash.

Imports nothing but the standard library, for it also runs as a program, before there is anything else:
``python3 -I cross/clean.py COMMAND ...``, with this Python's path as PYTHON.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["BUILDER_PATH", "PATH", "UMASK", "clean_environment"]

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
UMASK = 0o022
BUILDER_PATH = "PYPATCHER_BUILDER_PATH"
"""The PATH of whoever builds, in which a compiler is looked for and nothing else."""

_HOME = Path(__file__).resolve().parent.parent / ".cache" / "cross" / "home"
_PIP = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "cert", "client-cert",
    "timeout", "default-timeout", "retries",
)  # fmt: skip
_LET_IN = {
    *(f"PIP_{name.upper().replace('-', '_')}" for name in _PIP),
    *(f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")),
    *(f"{scheme}_PROXY" for scheme in ("HTTP", "HTTPS", "ALL", "NO")),
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC",
}  # fmt: skip


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """All that a step of a build sees, ``extra`` included; its HOME is there, and empty at first."""
    _HOME.mkdir(parents=True, exist_ok=True)
    let_in = {name: value for name, value in os.environ.items() if name in _LET_IN}
    return {
        "PATH": PATH,
        "HOME": str(_HOME),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PIP_CONFIG_FILE": os.devnull,  # pip reads no file at all then
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        BUILDER_PATH: os.environ.get(BUILDER_PATH, os.environ.get("PATH", PATH)),
        **_index_settings(),
        **let_in,
        **(extra or {}),
    }


def _index_settings() -> dict[str, str]:
    """How pip's own files say that an index is reached; later files win."""
    name, home = "pip/pip.conf", Path("~").expanduser()
    shared = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    files = [
        *(Path(folder) / name for folder in shared.split(":")),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / name,
    ]
    chosen = os.environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return {}
    netrc = home / ".netrc"  # how an index knows who asks
    found = {"NETRC": str(netrc)} if netrc.is_file() else {}
    for file in [*files, *([Path(chosen)] if chosen else [])]:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (OSError, ValueError, configparser.Error):
            continue  # what pip cannot read either says nothing of an index
        for section in ("global", "install", "download"):
            for key, value in parser.items(section) if parser.has_section(section) else ():
                if key.replace("_", "-") in _PIP:
                    found[f"PIP_{key.upper().replace('-', '_')}"] = " ".join(value.split())
    return found


if __name__ == "__main__":
    os.umask(UMASK)
    try:
        environment = clean_environment({"PYTHON": sys.executable})
    except OSError as error:
        sys.exit(f"nothing can be built in this folder: {error}")
    os.execvpe(sys.argv[1], sys.argv[1:], environment)  # noqa: S606  (there is no shell)
