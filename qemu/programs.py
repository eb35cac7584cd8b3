"""The programs of the story: built for a target, signed natively with ``pypatcher embed`` and ``pypatcher sign``."""

from __future__ import annotations

import zipapp
from dataclasses import dataclass
from pathlib import Path

from cross.environment import make_environment
from cross.workshop import REPOSITORY, fresh_folder, run
from qemu.device import Device
from qemu.native import Native

__all__ = ["Owner", "build_c", "build_zipapp"]

HERE = Path(__file__).resolve().parent
_C_EXAMPLE = REPOSITORY / "examples" / "c-app" / "app.c"


@dataclass(frozen=True, slots=True)
class Owner:
    """The keys of one program: one per target, in a folder as ``pypatcher gen --all-targets`` makes it."""

    native: Native
    folder: Path

    @classmethod
    def make(cls, native: Native, folder: Path) -> Owner:
        """Make the keys."""
        native.pypatcher("gen", folder, "--all-targets")
        return cls(native, folder)

    def public(self, target: str) -> str:
        """The public key that devices of ``target`` trust."""
        return (self.folder / f"{target}.key.pub").read_text(encoding="ascii").split()[1]

    def sign(self, program: Path, version: str, key_of: str, *, any_target: bool = False) -> Path:
        """Sign with the key of one target; ``any_target`` forgets what that key is for, as an owner's mistake would."""
        if any_target:
            secret = (self.folder / f"{key_of}.key").read_text(encoding="ascii").strip()
            self.native.pypatcher("sign", program, "--key-env", "OWNER", "--version", version, OWNER=secret)
        else:
            key = self.folder / f"{key_of}.key"
            self.native.pypatcher("sign", program, "--key-file", key, "--version", version)
        return program


def build_c(device: Device, version: str, into: Path, source: Path = _C_EXAMPLE) -> Path:
    """A C program, by default the example's, unsigned."""
    environment = make_environment(device.target)
    program = into / "app"
    into.mkdir(parents=True)
    run(
        f"{device.target.gnu_triplet}-gcc", "-O2", f"-I{REPOSITORY / 'pypatcher' / 'include'}",
        f'-DPYPATCHER_VERSION="{version}"', "-o", program, source,
        environment=environment.variables,
    )  # fmt: skip
    return program


def build_zipapp(device: Device, native: Native, version: str, into: Path) -> Path:
    """The Python program as a zipapp, unsigned; what it imports is in the device's environment."""
    source = fresh_folder(into / "source")
    text = (HERE / "app.py").read_text(encoding="utf-8")
    (source / "__main__.py").write_text(text.replace('"hello"', f'"hello from {version}"'), encoding="utf-8")
    program = into / "app.pyz"
    zipapp.create_archive(source, program, interpreter=device.python)
    program.chmod(0o755)
    native.pypatcher("embed", program, "--version", version)
    return program
