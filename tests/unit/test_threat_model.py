"""docs/threat-model.md names a test for everything that it claims: each is there, and each could fail."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "threat-model.md").read_text(encoding="utf-8")
ROWS = [
    line for line in PAGE.splitlines() if line.startswith("| ") and not re.match(r"\| (who|what happens|---)", line)
]
SHOWN = re.compile(r"`((?:\w+/)*\w+\.py)?(?:::(\w+))?`")
"""``faults/test_floods.py`` or ``faults/test_floods.py::half_open``, or ``::half_open`` of the file named before it."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def functions(path: Path) -> dict[str, Function]:
    """Every function and method of a file, by its name."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name: node for node in nodes if isinstance(node, Function)}


@cache
def helpers() -> dict[str, Function]:
    """Every function and method that the tests share."""
    shared = [*(TESTS / "support").glob("*.py"), *(TESTS / "nat").glob("*.py"), *(TESTS / "fuzz").glob("*.py")]
    return {name: function for path in shared for name, function in functions(path).items()}


def named(text: str) -> list[tuple[str, str]]:
    """The files that a paragraph or row names, each with the words that a test's name has; '' for the whole file."""
    found, file = [], ""
    for name, words in SHOWN.findall(text):
        if name or words:
            file = name or file
            found.append((file, words))
    return found


def found_in(file: str, words: str) -> list[tuple[Path, Function]]:
    path = TESTS / file
    if not file or not path.is_file():
        return []
    return [(path, test) for name, test in functions(path).items() if name.startswith("test_") and words in name]


def can_fail(path: Path, function: Function, depth: int = 3) -> bool:
    """Whether it asserts something, expects an error, or calls something of ours that does."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert | ast.Raise):
            return True
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("raises", "warns", "fail"):
                return True
            inner = functions(path).get(called) or helpers().get(called)
            if inner is not None and inner is not function and depth and can_fail(path, inner, depth - 1):
                return True
    return False


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "-", row[2:60]))
def test_a_row_names_a_test_that_could_fail(row: str) -> None:
    *_, claim, shown = row.strip("| ").split(" | ")
    assert claim
    tests = [found for file, words in named(shown) for found in found_in(file, words)]
    assert tests, f"names no test: {shown}"
    assert any(can_fail(path, test) for path, test in tests), "none of its tests asserts anything"


def test_every_test_that_the_page_names_is_there() -> None:
    blocks = [*ROWS, *(block for block in PAGE.split("\n\n") if not block.startswith("|"))]
    names = [name for block in blocks for name in named(block)]
    assert names
    assert [f"{file}::{words}" for file, words in names if not found_in(file, words)] == []
    assert [f"{file}::{words}" for file, words in names if words and len(found_in(file, words)) > 1] == [], "unclear"


def test_a_test_without_an_assertion_would_be_found() -> None:
    idle = ast.parse("def test_nothing():\n    print('done')").body[0]
    assert isinstance(idle, ast.FunctionDef)
    assert not can_fail(Path(__file__), idle)
    assert can_fail(Path(__file__), functions(Path(__file__))["test_a_row_names_a_test_that_could_fail"])


def test_every_story_of_a_rollout_is_shown_by_a_test() -> None:
    page = (TESTS.parent / "docs" / "rollout.md").read_text(encoding="utf-8")
    stories = [paragraph for paragraph in page.split("\n\n") if paragraph.startswith("**")]
    assert len(stories) >= 12
    shown = {story: [found_in(file, words) for file, words in named(story)] for story in stories}
    assert [story for story, tests in shown.items() if not tests or not all(tests)] == []
