"""What is a single-file program, and what is not; the packaged ones are tried in tests/packagings."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pypatcher.errors import NotSingleFileError
from pypatcher.process import Program, has_lost_its_bundle, native
from pypatcher.process.origin import Origin
from pypatcher.process.packagings import pyinstaller

REPOSITORY = Path(__file__).resolve().parents[3]

ASK = """
import sys
sys.path.append({repository!r})
from pypatcher.errors import NotSingleFileError
from pypatcher.process import detect
try:
    program = detect()
    print(program.packaging.name, program.path, *program.argv)
except NotSingleFileError as error:
    print("refused:", error)
"""


def ask(folder: Path, *command: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def code() -> str:
    return ASK.format(repository=str(REPOSITORY))


@pytest.fixture
def archive(tmp_path: Path, code: str) -> Path:
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as made:
        made.writestr("__main__.py", code)
        made.writestr("inside.py", code)
    return tmp_path / "app.pyz"


def test_script_is_refused_with_a_reason(tmp_path, code):
    (tmp_path / "script.py").write_text(code)
    assert ask(tmp_path, "script.py").startswith("refused: this is no single-file program")


def test_command_line_code_and_folders_are_refused(tmp_path, code):
    (tmp_path / "__main__.py").write_text(code)
    assert ask(tmp_path, "-c", code).startswith("refused:")
    assert ask(tmp_path.parent, str(tmp_path)).startswith("refused:")


def test_zipapp_is_known_by_its_resolved_path_and_keeps_its_arguments(archive):
    (archive.parent / "link").symlink_to(archive)
    told = ask(archive.parent, "-B", "-X", "dev", "link", "--option", "link")
    assert told == f"zipapp {archive} {sys.executable} -B -X dev link --option link"


def test_module_run_out_of_an_archive_is_refused(archive):
    assert "was not started by its path" in ask(archive.parent, "-m", "inside", PYTHONPATH=str(archive))


def test_variables_of_another_bundle_make_no_bundle_of_a_zipapp(archive):
    assert ask(archive.parent, "app.pyz", NUITKA_ONEFILE_PARENT="1", _PYI_PARENT_PROCESS_LEVEL="0").startswith("zipapp")


def test_native_program_is_found_by_path_and_by_name():
    assert native("/bin/sh", ("-c", "true")).argv == ("/bin/sh", "-c", "true")
    found = native("sh", ())
    assert found.packaging.name == "ELF"
    assert found.path == Path("/bin/sh").resolve()
    assert found.argv == ("sh",)


def test_native_program_may_be_missing_but_not_a_folder(tmp_path):
    assert native(tmp_path / "gone", ()).path == tmp_path / "gone"
    with pytest.raises(NotSingleFileError, match="not a regular file"):
        native(tmp_path, ())
    with pytest.raises(NotSingleFileError, match="not in PATH"):
        native("no-such-program", ())


def test_zipapp_that_left_its_folder_is_started_by_its_whole_path(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "app", "w") as archive:
        archive.writestr("__main__.py", "import os\nos.chdir('/')\n" + ASK.format(repository=str(REPOSITORY)))
    program = tmp_path / "app"
    assert ask(tmp_path, "./app", "argument") == f"zipapp {program} {sys.executable} {program} argument"


GREENLETS = """
import sys, types
module = types.ModuleType({name!r})
module.{asked} = lambda what: what in ("threading", "thread")
sys.modules[{name!r}] = module
"""


@pytest.mark.parametrize(
    ("name", "asked"), [("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched")]
)
def test_process_whose_threads_are_greenlets_is_refused(tmp_path: Path, name: str, asked: str) -> None:
    script = GREENLETS.format(name=name, asked=asked) + ASK.format(repository=str(REPOSITORY))
    with zipfile.ZipFile(tmp_path / "app", "w") as archive:
        archive.writestr("__main__.py", script)
    said = ask(tmp_path, "app")
    assert said.startswith("refused: ")
    assert "has replaced the threads" in said


@pytest.mark.parametrize(
    ("launcher", "unpacked", "lost"), [(None, False, True), (None, True, False), (1, False, False)]
)
def test_a_onefile_whose_launcher_deleted_its_bundle_is_known(
    tmp_path: Path, launcher: int | None, unpacked: bool, lost: bool
) -> None:
    """A launcher that was killed deletes nothing, and one that is there has not ended."""
    bundle = tmp_path / "_MEI1"
    if unpacked:
        bundle.mkdir()
    path = tmp_path / "app"
    program = Program(
        path, pyinstaller.PACKAGING, path, (), Origin.of_this_process(), launcher=launcher, unpacked=bundle
    )
    assert has_lost_its_bundle(program) is lost
