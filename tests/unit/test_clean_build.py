"""What is built for devices: nothing of the builder's shell gets in, nothing half made is taken, no odd wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cross import clean, workshop
from cross.audit import audit_wheel
from cross.clean import clean_environment
from cross.debian import find_compiler
from cross.environment import BuildEnvironment, build_variables
from cross.hostile import hostile
from cross.pins import PINS, read_pins
from cross.sums import DOMAIN, check_sums, write_sums
from cross.workshop import StepFailedError, check_place, make_once, place, run
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.targets import Target, find_target, load_targets

REPOSITORY = Path(__file__).parents[2]
LINKED = {"PATH", "HOME", "LC_ALL", "TZ", "PIP_CONFIG_FILE", "PIP_DISABLE_PIP_VERSION_CHECK", clean.BUILDER_PATH}


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that says nothing of how an index is reached."""
    for name in list(os.environ):
        if name.upper().startswith(("PIP_", "SSL_", "CURL_", "REQUESTS_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("no_index")
def test_a_hostile_shell_changes_nothing_that_a_step_sees(tmp_path: Path) -> None:
    before = clean_environment()
    with hostile(tmp_path / "home"):
        seen = dict(line.split("=", 1) for line in run("env").splitlines())
        assert run("sh", "-c", "umask").strip() == "0022"
    assert {name: seen[name] for name in before if name != clean.BUILDER_PATH} == {
        name: value for name, value in before.items() if name != clean.BUILDER_PATH
    }
    assert set(seen) - LINKED - {"PWD", "SHLVL", "_"} == set()
    assert seen["HOME"].startswith(str(REPOSITORY))


def test_only_how_an_index_is_reached_is_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text("[global]\nindex-url = https://mirror.example/simple\nno-binary = :all:\ntarget = /x\n")
    (tmp_path / ".netrc").touch()
    for name in ("NETRC", "PIP_CONFIG_FILE", "PIP_INDEX_URL", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    seen = clean_environment()
    assert seen["PIP_INDEX_URL"] == "https://mirror.example/simple"
    assert seen["NETRC"] == str(tmp_path / ".netrc")
    assert seen["https_proxy"] == "http://proxy.example:3128"
    assert {"PIP_NO_BINARY", "PIP_TARGET"} & set(seen) == set()
    monkeypatch.setenv("PIP_INDEX_URL", "https://other.example/simple")
    assert clean_environment()["PIP_INDEX_URL"] == "https://other.example/simple"


def test_a_compiler_anywhere_in_path_is_the_one_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = find_target("armv7")
    compiler = tmp_path / f"{target.gnu_triplet}-gcc"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.delenv(clean.BUILDER_PATH, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_compiler(target) == compiler
    # and in a step of a step, whose own PATH is Debian's
    monkeypatch.setenv(clean.BUILDER_PATH, clean_environment()[clean.BUILDER_PATH])
    monkeypatch.setenv("PATH", clean.PATH)
    assert find_compiler(target) == compiler


def test_a_python_built_by_hand_leaves_its_folder_in_no_wheel(tmp_path: Path) -> None:
    """As pyenv's, whose own configuration has a search path for whatever is linked."""
    (tmp_path / "by_hand.py").write_text(
        "import importlib\n"
        f"build_time_vars = dict(importlib.import_module({_config_name()!r}).build_time_vars)\n"
        "for name in ('LDSHARED', 'BLDSHARED', 'LDCXXSHARED', 'LDFLAGS'):\n"
        "    build_time_vars[name] = str(build_time_vars.get(name, '')) + ' -Wl,-rpath,/by/hand/lib'\n"
    )
    (tmp_path / "setup.py").write_text(
        "from setuptools import Extension, setup\nsetup(name='some', ext_modules=[Extension('some', ['some.c'])])\n"
    )
    (tmp_path / "some.c").write_text("int PyInit_some;\n")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    python = {"PYTHONPATH": str(tmp_path), "_PYTHON_SYSCONFIGDATA_NAME": "by_hand"}
    built = tmp_path / f"some{sysconfig.get_config_var('EXT_SUFFIX')}"
    for variables, there in (({}, True), (build_variables(tmp_path, tmp_path, None), False)):
        run(*command, cwd=tmp_path, environment=python | {"PATH": os.environ["PATH"]} | variables)
        assert (b"/by/hand/lib" in built.read_bytes()) is there


def _config_name() -> str:
    return f"_sysconfigdata_{sys.abiflags}_{sys.platform}_{sysconfig.get_config_var('MULTIARCH')}"


@pytest.mark.parametrize("ending", [KeyboardInterrupt, StepFailedError], ids=["interrupted", "refused"])
@pytest.mark.parametrize("movable", [True, False], ids=["aside", "in place"])
def test_what_was_not_finished_is_made_again(tmp_path: Path, ending: type[BaseException], *, movable: bool) -> None:
    folder = tmp_path / "made"

    def half(work: Path) -> None:
        (work / "half").touch()
        raise ending("in the midst")

    def whole(work: Path) -> None:
        (work / "whole").touch()

    with pytest.raises(ending):
        make_once(folder, "1", half, movable=movable)
    assert make_once(folder, "1", whole, movable=movable) == folder
    assert (folder / "whole").exists()
    assert not (folder / "half").exists()
    make_once(folder, "1", half, movable=movable)  # whole: not made again
    with pytest.raises(ending):
        make_once(folder, "2", half, movable=movable)
    assert (folder / "whole").exists() is movable  # what is made aside leaves the old one until it is whole


def test_what_knows_its_folder_is_made_anew_in_a_copy(tmp_path: Path) -> None:
    made = []
    one, two = tmp_path / "one", tmp_path / "two"
    make_once(one, "1", made.append, movable=False)
    subprocess.run(["cp", "-a", one, two], check=True)
    make_once(two, "1", made.append, movable=False)
    make_once(two, "1", made.append, movable=False)
    assert made == [one, two]


def test_a_stamp_linked_to_another_leaves_the_other_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    make_once(one, "1", lambda work: None)
    make_once(two, "2", lambda work: (work / ".made").hardlink_to(one / ".made"))
    make_once(one, "1", lambda work: pytest.fail("it was whole"))


def test_a_file_is_placed_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "new").write_bytes(b"old")

    def torn(source: Path, to: Path) -> None:
        Path(to).write_bytes(b"n")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(workshop.shutil, "copy2", torn)
        place(tmp_path / "new", tmp_path / "dist")
    assert (tmp_path / "dist" / "new").read_bytes() == b"old"
    assert place(tmp_path / "new", tmp_path / "dist").read_bytes() == b"new"


@pytest.mark.parametrize(("folder", "named"), [("my devices", "a space"), ("a:b", "':'"), ("it's", '"\'"')])
def test_a_path_that_compilers_do_not_bear_is_said(folder: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "REPOSITORY", Path("/home") / folder)
    with pytest.raises(StepFailedError) as raised:
        check_place()
    assert named in str(raised.value).splitlines()[0]


def environment_for(target: Target) -> BuildEnvironment:
    return BuildEnvironment(target, Path(sys.executable), {}, "", Path("/usr/lib") / target.gnu_triplet)


@pytest.fixture
def native() -> BuildEnvironment:
    triplet = sysconfig.get_config_var("MULTIARCH")
    return environment_for(next(target for target in load_targets().values() if target.gnu_triplet == triplet))


def compiled(tmp_path: Path, *flags: str, source: str = "int answer(void) { return 42; }") -> bytes:
    (tmp_path / "module.c").write_text(source)
    command = ["gcc", "-shared", "-fPIC", "-o", tmp_path / "module.so", tmp_path / "module.c", *flags]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return (tmp_path / "module.so").read_bytes()


def wheel_of(folder: Path, machine: str, module: bytes, *, tag: str = "", told: str = "", mode: int = 0o100644) -> Path:
    tag = tag or f"cp311-abi3-manylinux_2_34_{machine}"
    folder.mkdir()
    wheel = folder / f"some-1.0-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        text = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {told or tag}\n"
        metadata = b"Metadata-Version: 2.1\nName: some\nVersion: 1.0\n"
        about = "some-1.0.dist-info"
        members = {"some/module.so": module, f"{about}/WHEEL": text.encode(), f"{about}/METADATA": metadata}
        for name, data in members.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (mode if name.endswith(".so") else 0o100644) << 16
            archive.writestr(entry, data)
    return wheel


REFUSED = {
    "a search path": (["-Wl,-rpath,/opt/builder/lib"], "lets the loader search /opt/builder/lib"),
    "a relative one": (["-Wl,-rpath,lib"], "lets the loader search lib"),
    "one out of the wheel": (["-Wl,-rpath,$ORIGIN/../../.."], "lets the loader search"),
    "an executable stack": (["-Wl,-z,execstack"], "wants an executable stack"),
    "text that is written": (["-nostdlib", "-Wl,-N"], "has a segment that is writable and executable"),
    "small pages": (["-Wl,-z,max-page-size=2048"], "is aligned to 2048 bytes"),
    "a library": (["-Wl,--no-as-needed", "-L.", "-l:libother.so"], "needs libother.so"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_binary_that_a_devices_loader_would_mislike_is_refused(
    fault: str, tmp_path: Path, native: BuildEnvironment
) -> None:
    flags, reason = REFUSED[fault]
    subprocess.run(["gcc", "-shared", "-o", "libother.so", "-x", "c", "/dev/null"], cwd=tmp_path, check=True)
    machine = native.target.wheel_machine
    audit_wheel(wheel_of(tmp_path / "good", machine, compiled(tmp_path)), native)
    with pytest.raises(StepFailedError, match=f"some/module.so {reason}".replace("$", r"\$")):
        audit_wheel(wheel_of(tmp_path / "bad", machine, compiled(tmp_path, *flags)), native)


def test_a_binary_for_another_processor_or_newer_is_refused(tmp_path: Path, native: BuildEnvironment) -> None:
    other = next(target for target in load_targets().values() if target != native.target)
    with pytest.raises(StepFailedError, match=f"not for target {other.name}"):
        module = compiled(tmp_path, source='#include <stdio.h>\nint answer(void) { return puts("42"); }')
        audit_wheel(
            wheel_of(tmp_path / "other", other.wheel_machine, module),
            BuildEnvironment(other, native.python, {}, "", native.libraries),
        )
    newer = re.sub(rb"GLIBC_2\.[\d.]+", lambda found: b"GLIBC_2." + b"9" * (len(found[0]) - 8), module)
    assert newer != module
    with pytest.raises(StepFailedError, match=r"GLIBC_2\.9+ of libc\.so\.6"):
        audit_wheel(wheel_of(tmp_path / "newer", native.target.wheel_machine, newer), native)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tag": "cp311-abi3-linux_armv6l"}, "its tag is linux_armv6l"),
        ({"tag": "cp311-abi3-manylinux_2_34_MACHINE.linux_armv6l"}, "its tag is linux_armv6l"),
        ({"tag": "cp311-abi3-manylinux_2_99_MACHINE"}, "its tag is manylinux_2_99"),
        ({"tag": "cp27-cp27mu-manylinux_2_34_MACHINE"}, "not for Python 3"),
        ({"told": "cp311-abi3-linux_armv6l"}, "its metadata has other tags"),
        ({"mode": 0o100600}, "has mode 0600"),
        ({"mode": 0o104755}, "has mode 4755"),
        ({"mode": 0o100666}, "has mode 0666"),
        ({"mode": 0o120777}, "is no file"),
    ],
    ids=str,
)
def test_a_wheel_that_claims_or_holds_too_much_is_refused(
    change: dict[str, str], reason: str, tmp_path: Path, native: BuildEnvironment
) -> None:
    machine = native.target.wheel_machine
    words = {name: value.replace("MACHINE", machine) if name == "tag" else value for name, value in change.items()}
    with pytest.raises(StepFailedError, match=reason):
        audit_wheel(wheel_of(tmp_path / "bad", machine, compiled(tmp_path), **words), native)


KEY = KeyPair.from_seed(bytes(32))


def test_a_wheelhouse_is_what_its_builder_signed(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"a")
    (tmp_path / "b.whl").write_bytes(b"b")
    public = OwnerKey(KEY.public)
    write_sums(tmp_path, None)
    with pytest.raises(StepFailedError, match="is not signed"):
        check_sums(tmp_path, public)
    write_sums(tmp_path, KEY)
    assert check_sums(tmp_path, public) == 2
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path, check=True)
    with pytest.raises(StepFailedError, match="not by this key"):
        check_sums(tmp_path, OwnerKey(KeyPair.from_seed(bytes([1] * 32)).public))
    (tmp_path / "b.whl").write_bytes(b"c")
    with pytest.raises(StepFailedError, match=r"not as signed: b\.whl"):
        check_sums(tmp_path, public)
    (tmp_path / "b.whl").write_bytes(b"b")
    (tmp_path / "c.whl").write_bytes(b"c")
    with pytest.raises(StepFailedError, match=r"not as signed: c\.whl"):
        check_sums(tmp_path, public)
    (tmp_path / "c.whl").unlink()
    sums = (tmp_path / "SHA256SUMS").read_bytes()
    (tmp_path / "SHA256SUMS.sig").write_bytes(KEY.sign(sums))  # of another domain
    with pytest.raises(StepFailedError, match="not by this key"):
        check_sums(tmp_path, public)
    assert DOMAIN.endswith(b"\n")


def test_every_pinned_package_has_a_version_and_hashes() -> None:
    for file in PINS.glob("*.txt"):
        assert read_pins(file), file


def test_what_the_project_asks_for_is_pinned() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lists = {
        "wheelhouse": project["dependencies"],
        "develop": [*project["dependencies"], *extras["test"], *extras["lint"], *extras["progress"]],
        "demo": [*project["dependencies"], *extras["progress"]],
        "fuzz": [*project["dependencies"], *extras["fuzz"]],
        "packagings": [*project["dependencies"], *extras["packagings"]],
    }
    for name, wanted in lists.items():
        pinned = {pin.name: pin.version for pin in read_pins(PINS / f"{name}.txt")}
        for requirement in map(Requirement, wanted):
            version = pinned.get(canonicalize_name(requirement.name), "")
            assert version and requirement.specifier.contains(version), f"{requirement}: run `make pins`"


def test_requirements_of_a_program_are_read_with_their_comments(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# made by uv\nsome==1.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n    # via -r in\n")
    [pin] = read_pins(file)
    assert (pin.name, pin.version) == ("some", "1.0")
    assert "sha256:00" in pin.text
    assert "sha256:11" in pin.text


@pytest.mark.parametrize(("line", "said"), [("some>=1.0", "needs a version"), ("-r other.txt", "is no package")])
def test_requirements_without_hashes_are_refused_in_words(line: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"{line}\n")
    with pytest.raises(StepFailedError, match=said):
        read_pins(file)
