"""``stage`` from a USB stick, and ``rollback`` of a program that is no program any more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pypatcher.artifact import sign_file
from pypatcher.artifact.beside import manifest_path, write_manifest
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.install import Installation, owner_verifies
from pypatcher.keys import KeyPair, OwnerKey, encode_key
from pypatcher.node.device import own_target
from pypatcher.version import Version
from tests.support.devices import compile_app
from tests.unit.cli.conftest import Run

KEY = KeyPair.from_seed(bytes(range(32)))
PUBLIC = encode_key(OwnerKey(KEY.public))
TARGET = own_target(Path(sys.executable), Path(sys.executable))


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("releases")
    built = {version: compile_app(folder / version, version) for version in ("1.0.0", "2.0.0")}
    for path in built.values():
        sign_file(path, KEY, None, TARGET)
    return built


@pytest.fixture
def app(releases: dict[str, Path], tmp_path: Path) -> Path:
    (tmp_path / "opt").mkdir()
    return Path(shutil.copy(releases["1.0.0"], tmp_path / "opt" / "app"))


def installation(app: Path) -> Installation:
    return Installation(app, owner_verifies(OwnerKey(KEY.public), TARGET))


def test_stage_gives_a_running_program_a_release_on_trial(run: Run, releases: dict[str, Path], app: Path) -> None:
    running = installation(app)
    running.settle("run")
    with running.updater_lock(), running.new_partial() as download:
        download.write(b"half a download")
        said = run("stage", releases["2.0.0"], app, "--public-key", PUBLIC)
        assert (said.status, said.out) == (0, f"version 2.0.0 is staged beside {app}\n")
        assert download.path.exists()  # the node's own work goes on
    assert app.read_bytes() == releases["1.0.0"].read_bytes()  # nothing changes under it
    staged = running.release_for_restart()
    assert staged is not None
    assert str(staged.info.version) == "2.0.0"
    settled = running.settle("run")
    assert (str(settled.version), settled.on_trial) == ("2.0.0", True)
    assert not (app.parent / ".app.pypatcher" / "by-hand").exists()


def test_what_is_staged_is_said_to_be_though_nobody_hears_it(releases: dict[str, Path], app: Path) -> None:
    installation(app).settle("run")
    words = [sys.executable, "-m", "pypatcher", "stage", releases["2.0.0"], app, "--public-key", PUBLIC]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0
    assert b"it is done" in done.stderr
    staged = installation(app).release_for_restart()
    assert staged is not None
    assert str(staged.info.version) == "2.0.0"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root helps out another user")
def test_root_stages_in_the_folder_of_a_services_user(run: Run, releases: dict[str, Path], app: Path) -> None:
    for path in (app.parent, app):
        os.chown(path, 4711, 4711)
    installation(app).settle("run")
    said = run("stage", releases["2.0.0"], app, "--public-key", PUBLIC)
    assert (said.status, said.out) == (0, f"version 2.0.0 is staged beside {app}\n")


def test_a_staged_file_that_fails_is_taken_back(run: Run, releases: dict[str, Path], app: Path) -> None:
    device = installation(app)
    device.settle("run")
    assert run("stage", releases["2.0.0"], app).status == 0
    for _ in range(3):
        device.settle("run")
        device.end_start(requested=False)
    assert str(device.settle("run").rolled_back) == "2.0.0"
    again = run("stage", releases["2.0.0"], app)
    assert (again.status, "failed on this device before" in again.err) == (1, True)


def test_stage_refuses_what_the_network_could_not_bring(
    run: Run, releases: dict[str, Path], app: Path, tmp_path: Path
) -> None:
    assert run("guard", "--public-key", PUBLIC, app).status == 0
    assert "is not newer" in run("stage", releases["1.0.0"], app).err
    damaged = tmp_path / "damaged"
    damaged.write_bytes(releases["2.0.0"].read_bytes()[:-1] + b"?")
    other = encode_key(OwnerKey(KeyPair.generate().public))
    assert run("stage", damaged, app).status == 1
    assert run("stage", releases["2.0.0"], app, "--public-key", other).status == 1
    left = {path.name for path in app.parent.glob(".app.pypatcher/*")}
    assert not left & {"staged", "by-hand"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_what_is_staged_is_said_to_be_though_stdout_is_full(releases: dict[str, Path], app: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        words = [sys.executable, "-m", "pypatcher", "stage", releases["2.0.0"], app]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert installation(app).has_pending()
    assert done.returncode == 0
    assert b"it is done" in done.stderr


@pytest.mark.parametrize("damage", ["missing", "damaged", "empty"])
@pytest.mark.parametrize("confirmed", [True, False])
def test_rollback_replaces_a_damaged_or_missing_program(
    run: Run, releases: dict[str, Path], app: Path, damage: str, confirmed: bool
) -> None:
    device = installation(app)
    device.settle("guard")
    run("stage", releases["2.0.0"], app)
    device.settle("guard")
    if confirmed:
        assert device.confirm() is not None
    previous = app.parent / ".app.pypatcher" / "previous"
    assert previous.read_bytes() == releases["1.0.0"].read_bytes()
    app.write_bytes(b"damaged" if damage == "damaged" else b"")
    if damage == "missing":
        app.unlink()
    said = run("rollback", app)
    assert (said.status, said.out) == (0, f"{app} is version 1.0.0 again\n")
    assert app.read_bytes() == releases["1.0.0"].read_bytes()
    status = run("status", app, "--json").json
    assert (status["running"], status["confirmed"], status["trial"]) == ("1.0.0", "1.0.0", None)
    assert device.settle("guard").reason == ""


def test_rollback_without_a_previous_version_says_what_is_wrong(run: Run, app: Path) -> None:
    app.write_bytes(b"damaged")
    said = run("rollback", app)
    assert (said.status, "no previous version" in said.err, "region" in said.err) == (1, True, True)


def test_a_device_that_knows_manifests_adopts_none_without(run: Run, releases: dict[str, Path], app: Path) -> None:
    new = Path(shutil.copy(releases["2.0.0"], app.with_name("new")))
    for file, version in ((app, "1.0.0"), (new, "2.0.0")):
        write_manifest(manifest_path(file), word_of(file, version), replace=True)
    adopt = ("adopt", new, app, "--public-key", PUBLIC)
    assert run("adopt", app, app, "--public-key", PUBLIC).status == 0
    assert (app.parent / ".app.pypatcher" / f"manifest-{PUBLIC[:16]}").exists()
    lacking = manifest_path(new).rename(app.with_name("lacking"))
    refused = run(*adopt)
    assert (refused.status, "--without-manifest" in refused.err) == (1, True)
    assert app.read_bytes() == releases["1.0.0"].read_bytes()
    assert run(*adopt, "--without-manifest").status == 0
    lacking.rename(manifest_path(new))
    assert run(*adopt).status == 0
    assert installation(app).words.read(PUBLIC[:16])[1] == b"%d\n" % word_of(new, "2.0.0").seq


def word_of(file: Path, version: str) -> ManifestFile:
    info = sign_file(file, KEY, Version.parse(version), TARGET)
    return first_word(KEY, info, [TARGET.name], Change())
