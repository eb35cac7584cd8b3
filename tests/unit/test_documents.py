"""What the documents say, where it can be held against the code or the files."""

from __future__ import annotations

import argparse
import ast
import logging
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from pypatcher import events
from pypatcher.cli.dispatch import full_parser
from pypatcher.events import Event

ROOT = Path(__file__).parents[2]
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "tests" / "README.md")
LEVELS = {logging.INFO: "", logging.WARNING: "!", logging.DEBUG: "-"}


def test_the_design_page_tells_every_event_with_its_level_and_fields() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z._]+\.[a-z_]+|restart)` ?([!-]?) \| ([^|]*)\|", page, re.MULTILINE)
    told = {name: (level, re.sub(r"\(.*\)|\s", "", names)) for name, level, names in rows}
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    kinds.remove(Event)
    assert told == {kind.name: (LEVELS[kind.level], ",".join(field.name for field in fields(kind))) for kind in kinds}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_documents_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_heading_that_the_code_refers_to_is_there() -> None:
    headings = {
        name: re.findall(r"^#+ (.*)$", (ROOT / "docs" / name).read_text(encoding="utf-8").lower(), re.MULTILINE)
        for name in ("design.md", "install.md", "protocol.md")
    }
    missing = [
        (str(path), page, quoted)
        for path in sorted((ROOT / "pypatcher").rglob("*.py"))
        for page, quoted in re.findall(r'(\w+\.md)\s+"([^"]+)"', path.read_text(encoding="utf-8"))
        if not any(heading.startswith(" ".join(quoted.lower().rstrip(".").split())) for heading in headings[page])
    ]
    assert missing == []


def literals() -> list[str]:
    """Every text in the package, an f-string with NUL for what differs."""
    texts = []
    for path in sorted((ROOT / "pypatcher").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[sdgr]", "\0", node.value))
    return texts


def test_every_message_that_a_person_looks_up_is_said_by_the_program() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(messages) > 20
    known = literals()
    patterns = {message: ".*".join(map(re.escape, message.split("…"))) for message in messages}
    assert [
        message
        for message, pattern in patterns.items()
        if not any(re.search(pattern, text, re.DOTALL) for text in known)
    ] == []


def test_every_page_is_on_the_map() -> None:
    table = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages - set(re.findall(r"\]\((\w[\w-]*\.md)\)", table)) == set()


def test_the_readme_links_a_word_of_ours_where_it_is_first_used() -> None:
    """Of the running text: code, tables and headings apart, and the sentence that tells of the glossary."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    prose = "\n".join(line for line in page.splitlines() if not line.startswith(("    ", "|", "#")))
    prose = re.sub(r"\[`(\w+)`\]", r"[\1]", prose)
    prose = re.sub(r"`[^`]*`", "", prose.replace("The words of this page, such as region, slot and trial, are", ""))
    words = set(re.findall(r"docs/glossary\.md#([\w-]+)\)", page))
    assert words >= {"region", "slot", "record", "swarm", "knock", "trial", "staged", "confirmed", "target"}
    unlinked = []
    for word in sorted(words):
        first = re.search(rf"\[?\b{word}\w*", prose, re.IGNORECASE)
        assert first is not None, word
        if not prose.startswith(f"](docs/glossary.md#{word})", first.end()):
            unlinked.append(prose[first.start() : first.end() + 40])
    assert unlinked == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_midst_of_a_sentence_exist(page: Path) -> None:
    """Those in blocks of their own are run by ``tests/interop/test_pages.py`` and ``make walk``."""
    goals = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    [commands] = [action for action in full_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    unknown = []
    for text in re.findall(r"`((?:pypatcher|make) [a-z][^`]*)`", page.read_text(encoding="utf-8").replace("\n", " ")):
        program, name, *words = text.split()
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        if program == "make" and name not in goals:
            unknown.append(text)
        if program == "pypatcher" and name in commands.choices:
            unknown += [text for option in options if option not in commands.choices[name]._option_string_actions]
        elif program == "pypatcher" and text != "pypatcher wheelhouse v1":
            unknown.append(text)
    assert unknown == []


def test_every_dependency_of_a_user_has_its_reason_in_the_readme() -> None:
    """And stands in the design page; what only tests and builds need does not stand among them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["progress"], *extras["completion"], *extras["man"]]
    names = {re.split(r"[<>=]", each)[0] for each in needed}
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| dependency | why |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\w[\w, -]*?)(?: \(extra `\w+`\))? \|", table, re.MULTILINE)
    assert {name for row in rows for name in row.split(", ")} == names
    told = (
        (ROOT / "docs" / "design.md").read_text(encoding="utf-8").partition("Run time: ")[2].partition("Building:")[0]
    )
    known = {re.split(r"[<>=]", each)[0] for group in extras.values() for each in group}
    assert {name for name in known | names if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", told)} == names
