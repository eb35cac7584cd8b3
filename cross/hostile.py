"""A builder whose shell, home and tools are full of nonsense, to show that none of it gets into what is built.

Every variable and file that distutils, setuptools, pip, gcc, ld, make, autoconf, auditwheel, patchelf, PyInstaller and
Cython read, but for how to reach an index. As a program: ``python3 -I cross/hostile.py FOLDER COMMAND ...`` runs a
command so, with its home in the new FOLDER; ``make reproducible`` builds everything so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["hostile"]

_NONSENSE = "/nonsense/of/the/builder"
_PATHS = """
    CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH OBJC_INCLUDE_PATH LIBRARY_PATH LD_LIBRARY_PATH LD_RUN_PATH COMPILER_PATH
    GCC_EXEC_PREFIX PKG_CONFIG_PATH PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR PKG_CONFIG CONFIG_SITE CDPATH ENV BASH_ENV
    PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE PYTHONPYCACHEPREFIX PYTHONPLATLIBDIR PYTHONBREAKPOINT
    PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT PIP_REQUIREMENT PIP_BUILD_CONSTRAINT PIP_CACHE_DIR PIP_SRC PIP_LOG
    DIST_EXTRA_CONFIG VIRTUAL_ENV CONDA_PREFIX PYINSTALLER_CONFIG_DIR PYI_SEARCH_PATH _MEIPASS2 CYTHON_CACHE_DIR
    XDG_CONFIG_HOME XDG_CACHE_HOME XDG_DATA_HOME XDG_STATE_HOME LOCPATH NLSPATH GCONV_PATH TERMINFO MAKEFILES
    CROSSENV SYSROOT DESTDIR OPENSSL_CONF OPENSSL_DIR SODIUM_INSTALL_DIR AUDITWHEEL_LD_LIBRARY_PATH MAGIC
""".split()  # noqa: SIM905  (a list of 60 lines otherwise)
_COMPILERS = """
    CC CXX CPP LD LDSHARED LDCXXSHARED AR AS NM STRIP RANLIB OBJCOPY OBJDUMP BLDSHARED PYTHON_FOR_BUILD
""".split()  # noqa: SIM905
_FLAGS = """
    CFLAGS CXXFLAGS CPPFLAGS BASECFLAGS CCSHARED ARFLAGS OPT ARCHFLAGS TAR_OPTIONS GZIP XZ_OPT XZ_DEFAULTS
""".split()  # noqa: SIM905
_VALUES = {
    **dict.fromkeys(_COMPILERS, "nonsense-cc"),
    **dict.fromkeys(_FLAGS, "-DNONSENSE -fnonsense"),
    "LDFLAGS": f"-Wl,-rpath,{_NONSENSE} -Wl,-z,execstack",
    "LDEMULATION": "elf_nonsense",
    "GNUTARGET": "nonsense",
    "SOURCE_DATE_EPOCH": "1700000000",
    "ZERO_AR_DATE": "0",
    "DEPENDENCIES_OUTPUT": "/dev/full",
    "SUNPRO_DEPENDENCIES": "/dev/full",
    "GCC_COLORS": "nonsense",
    "GCC_COMPARE_DEBUG": "1",
    "AUDITWHEEL_PLAT": "manylinux_2_5_nonsense",
    "AUDITWHEEL_ARCH": "nonsense",
    "AUDITWHEEL_POLICY": "nonsense",
    "AUDITWHEEL_ZIP_COMPRESSION_LEVEL": "0",
    "PATCHELF_DEBUG": "1",
    "DISTUTILS_DEBUG": "1",
    "DISTUTILS_USE_SDK": "1",
    "SETUPTOOLS_USE_DISTUTILS": "nonsense",
    "SETUPTOOLS_SCM_PRETEND_VERSION": "66.6",
    "SETUPTOOLS_EXT_SUFFIX": ".nonsense.so",
    "_PYTHON_HOST_PLATFORM": "linux-armv6l",
    "_PYTHON_SYSCONFIGDATA_NAME": "nonsense",
    "_PYTHON_PROJECT_BASE": "/nonsense",
    "MACOSX_DEPLOYMENT_TARGET": "66.6",
    "PIP_NO_BINARY": ":all:",
    "PIP_ONLY_BINARY": "nonsense",
    "PIP_PLATFORM": "linux_armv6l",
    "PIP_PYTHON_VERSION": "2.7",
    "PIP_ABI": "nonsense",
    "PIP_IMPLEMENTATION": "pp",
    "PIP_PRE": "1",
    "PIP_USER": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_CLEAN": "1",
    "PIP_REQUIRE_VIRTUALENV": "nonsense",
    "PIP_PREFER_BINARY": "nonsense",
    "PIP_CONFIG_SETTINGS": "--build-option=--plat-name=linux_armv6l",
    "PIP_GLOBAL_OPTION": "--nonsense",
    "PIP_USE_PEP517": "nonsense",
    "PIP_QUIET": "nonsense",
    "PIP_VERBOSE": "3",
    "CYTHON_LIMITED_API": "0",
    "CYTHON_FORCE_REGEN": "1",
    "CYTHON_TRACE": "1",
    "PYI_PLATFORM": "Nonsense-66bit",
    "PYI_WHEEL_TAG": "linux_armv6l",
    "PYINSTALLER_COMPILE_BOOTLOADER": "1",
    "PYINSTALLER_RESET_ENVIRONMENT": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONHASHSEED": "66",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "latin-1:strict",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONINTMAXSTRDIGITS": "640",
    "PYTHONSAFEPATH": "",
    "PYTHONDEVMODE": "1",
    "PYPATCHER_NO_EXTENSIONS": "1",
    "PYPATCHER_STATE": _NONSENSE,
    "LC_ALL": "tr_TR.NONSENSE",
    "LANG": "nonsense",
    "LANGUAGE": "nonsense",
    "TZ": "Pacific/Kiritimati",
    "POSIXLY_CORRECT": "1",
    "SHELLOPTS": "noexec",
    "QEMU_CPU": "nonsense",
    "QEMU_LD_PREFIX": _NONSENSE,
    "QEMU_STRACE": "1",
    "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1",
    "LIBSODIUM_MAKE_ARGS": "nonsense",
    "SODIUM_INSTALL": "system",
    "host_alias": "armv6l-linux-gnueabi",
    "build_alias": "nonsense",
    "CONDA_BUILD": "1",
    "TARGET": "nonsense",
    "KEY": "nonsense",
    "DEBIAN": "66",
    "APP": "nonsense",
}  # fmt: skip
_DISTUTILS = f"""\
[global]
verbose = 3
[build]
build_base = {_NONSENSE}
[build_ext]
define = NONSENSE
rpath = {_NONSENSE}
library_dirs = {_NONSENSE}
include_dirs = {_NONSENSE}
[bdist_wheel]
plat_name = linux_armv6l
python_tag = cp27
[install]
prefix = {_NONSENSE}
"""
_PIP = f"""\
[global]
no-binary = :all:
constraint = {_NONSENSE}
pre = true
[install]
target = {_NONSENSE}
user = true
[wheel]
build-option = --plat-name=linux_armv6l
[download]
platform = linux_armv6l
"""
_FILES = {
    ".pydistutils.cfg": _DISTUTILS,
    "pydistutils.cfg": _DISTUTILS,
    "setup.cfg": _DISTUTILS,
    ".config/pip/pip.conf": _PIP,
    ".pip/pip.conf": _PIP,
    ".pypirc": "nonsense",
    ".inputrc": "nonsense",
    ".profile": "exit 66\n",
    ".bashrc": "exit 66\n",
    ".config/pyinstaller/nonsense": "nonsense",
    ".local/lib/python{python}/site-packages/usercustomize.py": "raise SystemExit('usercustomize is read')\n",
    ".local/lib/python{python}/site-packages/nonsense.pth": "import nonsense_of_the_builder\n",
    ".local/share/pypatcher/nonsense": "nonsense",
}
_TOOLS = """
    gcc g++ cc c++ cpp ld as ar strip nm objcopy objdump readelf ldd pkg-config patchelf auditwheel abi3audit cython pip
    pip3 tar gzip xz unzip m4 autoconf automake libtool git dpkg-deb busybox ldconfig chroot locale
""".split()  # noqa: SIM905


def _variables(folder: Path) -> dict[str, str]:
    """What such a builder's shell has; its home is made in ``folder``."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    for name, text in _FILES.items():
        file = folder / name.format(python=python)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name in _TOOLS:
        (tools / name).write_text(f"#!/bin/sh\necho 'the nonsense {name} of the builder is called' >&2\nexit 66\n")
        (tools / name).chmod(0o755)
    return {
        **dict.fromkeys(_PATHS, _NONSENSE),
        **_VALUES,
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "DIST_EXTRA_CONFIG": str(folder / "setup.cfg"),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PATH": f"{tools}:{os.environ.get('PATH', os.defpath)}",
    }


@contextmanager
def hostile(folder: Path) -> Iterator[None]:
    """This process's environment and umask are such a builder's meanwhile."""
    before, mask = dict(os.environ), os.umask(0o077)
    try:
        os.environ.update(_variables(folder))
        yield
    finally:
        os.umask(mask)
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    home = Path(sys.argv[1]).absolute()
    home.mkdir(parents=True, exist_ok=True)
    os.environ.update(_variables(home))
    os.umask(0o077)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  (there is no shell)
