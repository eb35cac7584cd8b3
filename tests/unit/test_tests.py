"""The tests themselves: helpers and tests are named so that a stranger finds them, and tests/README.md lists them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS / "README.md").read_text(encoding="utf-8")
LONGEST_NAME = 60
"""Of a test, without its ``test_``."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(TESTS.rglob("*.py")):
        yield str(path.relative_to(TESTS)), ast.parse(path.read_text(encoding="utf-8"))


def test_every_module_says_what_it_is() -> None:
    assert [name for name, tree in modules() if not ast.get_docstring(tree)] == []


def test_no_two_helpers_have_one_name() -> None:
    homes: dict[str, list[str]] = {}
    for name, tree in modules():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("Test"):
                homes.setdefault(node.name, []).append(name)
    assert {helper: files for helper, files in homes.items() if len(files) > 1} == {}


def test_a_tests_name_is_a_sentence_and_not_a_paragraph() -> None:
    long = [
        f"{name}::{node.name}"
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and len(node.name.removeprefix("test_")) > LONGEST_NAME
    ]
    assert long == []


def test_why_a_wait_failed_is_asked_when_it_failed() -> None:
    """A text made of a device before the wait shows the device as it was when all was well."""
    early = [
        f"{name}:{node.lineno}"
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and "wait_until" in {ast.unparse(each) for each in (node.func, *node.args)}
        for argument in node.args
        if not isinstance(argument, ast.Lambda) and any(isinstance(part, ast.Call) for part in ast.walk(argument))
    ]
    assert early == []


def test_the_readme_lists_every_folder_and_every_helper() -> None:
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert folders - set(re.findall(r"`(\w+)/`", PAGE)) == set()
    shared = PAGE.partition("## What tests share")[2]
    helpers = {
        path.stem
        for folder in ("support", "nat")
        for path in (TESTS / folder).glob("*.py")
        if not path.name.startswith(("_", "test_", "conftest"))
    }
    assert set(re.findall(r"`(\w+)`", shared)) & helpers == helpers
    listed = re.findall(r"^\| `(\w+)` \|", shared, re.MULTILINE)
    assert [helper for helper in listed if helper not in helpers] == []
