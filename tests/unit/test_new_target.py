"""All that differs between targets is in targets/*.toml: one new file, and the whole tree knows the target."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from pypatcher.targets import load_targets
from tests.support.programs import with_section

REPOSITORY = Path(__file__).parents[2]
CODE = ("pypatcher", "cross", "qemu")
RISCV64 = """\
elf_machine = 243
elf_class = 64
byte_order = "little"
float_abi = "none"
gnu_triplet = "riscv64-linux-gnu"
debian_arch = "riscv64"
qemu = "qemu-riscv64-static"
qemu_cpu = "rv64"
wheel_machine = "riscv64"
uname_machine = "riscv64"
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the code with one target more."""
    for name in (*CODE, "targets"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "targets" / "riscv64.toml").write_text(RISCV64)
    return tmp_path


def python(tree: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_file_is_a_new_target_for_keys_and_signatures(tree: Path) -> None:
    made = json.loads(python(tree, "-m", "pypatcher", "gen", "keys", "--all-targets", "--json"))
    assert sorted(key["target"] for key in made["keys"]) == ["aarch64", "armv7", "riscv64", "x86_64"]
    assert 'riscv64="' in made["paste"]
    (tree / "app").write_bytes(with_section(machine=243))
    said = json.loads(python(tree, "-m", "pypatcher", "sign", "app", "--key-file", "keys/riscv64.key", "--json"))
    assert (said["target"], said["fits"]) == ("riscv64", ["riscv64"])


def test_a_new_file_is_a_new_target_for_cross_building_and_emulation(tree: Path) -> None:
    script = """
from cross.audit import platform_tags
from cross.debian import emulator_packages, toolchain_packages
from pypatcher.targets import find_target
from qemu.namespace import binfmt_rule
target = find_target("riscv64")
print(platform_tags(target, 36)[0], emulator_packages(target), toolchain_packages(target))
print(binfmt_rule(target))
"""
    tags, rule = python(tree, "-c", script).splitlines()
    assert "manylinux_2_36_riscv64" in tags
    assert "qemu-riscv64-static" in tags
    assert "gcc-riscv64-linux-gnu" in tags
    assert r"\x7f\x45\x4c\x46\x02\x01\x01" in rule
    assert r"\x02\x00\xf3\x00:" in rule


def test_no_code_names_an_architecture() -> None:
    words = {str(value) for target in load_targets().values() for value in asdict(target).values()}
    names = {word for word in words if any(digit in word for digit in "0123456789") and not word.isdigit()}
    names |= {target.debian_arch for target in load_targets().values()}
    assert "armv7" in names
    found = []
    for folder in CODE:
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and node.value in names:
                    found.append(f"{path.relative_to(REPOSITORY)}:{node.lineno}: {node.value}")
    assert not found
