"""What a restart hands to the new program, and what of it belongs to the old bundle alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.process import known_packagings
from pypatcher.process.origin import Origin
from pypatcher.process.origin import without_bundle as without_variables

FOLDER = "/tmp/_MEI00001a0dN4wvvb"


def without_bundle(environment, folder):
    """What a PyInstaller onefile, unpacked in ``folder``, is started again with."""
    own = [name for packaging in known_packagings() for name in packaging.variables]
    [saved] = [packaging.saved_variables for packaging in known_packagings() if packaging.saved_variables]
    return without_variables(environment, own, dict(saved), folder)


names = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=12)
values = st.text(alphabet="abc/:._ ", max_size=20)


@pytest.mark.parametrize(
    "name",
    [
        "_MEIPASS2",
        "_PYI_ARCHIVE_FILE",
        "_PYI_APPLICATION_HOME_DIR",
        "_PYI_PARENT_PROCESS_LEVEL",
        "NUITKA_ONEFILE_PARENT",
        "NUITKA_ONEFILE_DIRECTORY",
    ],
)
def test_what_the_launcher_says_to_the_application_goes_no_further(name):
    assert without_bundle({name: "x", "HOME": "/root"}, FOLDER) == {"HOME": "/root"}


def test_library_path_is_put_back_as_the_launcher_found_it():
    found = {"LD_LIBRARY_PATH": f"{FOLDER}:/opt/x", "LD_LIBRARY_PATH_ORIG": "/opt/x"}
    assert without_bundle(found, FOLDER) == {"LD_LIBRARY_PATH": "/opt/x"}


def test_library_path_that_only_the_launcher_set_is_dropped():
    assert without_bundle({"LD_LIBRARY_PATH": FOLDER}, FOLDER) == {}


def test_paths_into_the_unpacked_folder_are_dropped_everywhere():
    found = {"TCL_LIBRARY": f"{FOLDER}/_tcl_data", "GI_TYPELIB_PATH": f"/usr/lib:{FOLDER}/gi", "OTHER": f"{FOLDER}2/x"}
    assert without_bundle(found, FOLDER) == {"GI_TYPELIB_PATH": "/usr/lib", "OTHER": f"{FOLDER}2/x"}


@given(st.dictionaries(names, values))
def test_environment_without_a_bundle_is_kept_as_it_is(environment):
    kept = {name: value for name, value in environment.items() if not name.startswith(("_PYI_", "_MEIPASS2"))}
    assert without_bundle(kept, None) == kept


@given(st.dictionaries(names, values))
def test_cleaning_twice_changes_nothing_more(environment):
    once = without_bundle(environment, FOLDER)
    assert without_bundle(once, FOLDER) == once or "LD_LIBRARY_PATH_ORIG" in environment


def test_snapshot_is_of_now_and_not_of_later(monkeypatch, tmp_path):
    monkeypatch.setenv("COLOUR", "blue")
    monkeypatch.chdir(tmp_path)
    origin = Origin.of_this_process()
    monkeypatch.setenv("COLOUR", "red")
    monkeypatch.chdir("/")
    assert origin.environment["COLOUR"] == "blue"
    assert origin.directory == str(tmp_path)


def test_snapshot_knows_umask_and_what_is_ignored():
    old = os.umask(0o027)
    handler = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        origin = Origin.of_this_process()
    finally:
        os.umask(old)
        signal.signal(signal.SIGUSR2, handler)
    assert origin.umask == 0o027
    assert signal.SIGUSR2 in origin.ignored
    assert signal.SIGPIPE not in origin.ignored  # every Python ignores it


def test_snapshot_of_a_directory_that_is_gone_has_none(monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert Origin.of_this_process().directory is None
    monkeypatch.chdir(Path("/"))


def test_environment_is_not_shown_where_an_origin_is_printed(monkeypatch):
    monkeypatch.setenv("API_TOKEN", "s3cret")
    assert "s3cret" not in repr(Origin.of_this_process())
