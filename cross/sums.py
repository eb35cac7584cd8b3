"""``SHA256SUMS`` of a folder that goes to devices, and its signature: what was built is what is installed.

``SHA256SUMS`` is what ``sha256sum -c`` reads. ``SHA256SUMS.sig`` is an ed25519 signature of 64 bytes over the domain
word and the file, so that no signature of a release can be taken for one of a wheelhouse, nor the reverse. As a program
it checks both: ``python -m cross.sums FOLDER PUBLIC-KEY``.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from cross.workshop import StepFailedError
from pypatcher.errors import KeyFileError
from pypatcher.keys import KeyPair, OwnerKey, parse_public_key, read_public_file, verify_signature

__all__ = ["DOMAIN", "check_sums", "write_sums"]

DOMAIN = b"pypatcher wheelhouse v1\n"
_SUMS, _SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"


def write_sums(folder: Path, key: KeyPair | None) -> None:
    """Write the sums of all files in ``folder``, signed by ``key`` if there is one."""
    text = _sums(folder)
    (folder / _SUMS).write_bytes(text)
    if key is not None:
        (folder / _SIGNATURE).write_bytes(key.sign(DOMAIN + text))


def check_sums(folder: Path, public: OwnerKey) -> int:
    """Hold a folder against its sums, and these against ``public``; how many files there are.

    Raises:
        StepFailedError: it is unsigned, signed by another, or a file is another, missing or one too many.
    """
    try:
        text, signature = (folder / _SUMS).read_bytes(), (folder / _SIGNATURE).read_bytes()
    except OSError as error:
        raise StepFailedError(f"{folder} is not signed: cannot read {error.filename}: {error.strerror}") from None
    if not verify_signature(public, DOMAIN + text, signature):
        raise StepFailedError(f"{folder}: {_SIGNATURE} is not by this key over this {_SUMS}")
    there = _sums(folder)
    if text != there:
        names = sorted({line.split(b"  ")[1].decode() for line in {*text.splitlines()} ^ {*there.splitlines()}})
        raise StepFailedError(f"{folder}: not as signed: {', '.join(names)}")
    return len(text.splitlines())


def _sums(folder: Path) -> bytes:
    files = sorted(path for path in folder.iterdir() if path.name not in (_SUMS, _SIGNATURE))
    return b"".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n".encode() for path in files)


def main() -> int:
    """Check; 1 with one message if something is wrong."""
    if len(sys.argv) != 3:
        print("usage: python -m cross.sums FOLDER PUBLIC-KEY|KEY.pub", file=sys.stderr)
        return 2
    folder, word = Path(sys.argv[1]), sys.argv[2]
    try:
        public = read_public_file(Path(word))[1] if word.endswith(".pub") else parse_public_key(word)
        print(f"{folder}: {check_sums(folder, public)} files, as their builder signed them")
    except (StepFailedError, KeyFileError) as error:
        print(f"cross.sums: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
