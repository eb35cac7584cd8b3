"""`make walk` runs every command of the pages, as it stands; those that are not run say why."""

from __future__ import annotations

from tests.support.pages import BEFORE, EXAMPLES, LONG, NOT_RUN, PAGES, page_lines


def test_every_page_with_commands_is_one_of_these() -> None:
    walked = {"README.md", "docs/cross-building.md", "docs/troubleshooting.md", *EXAMPLES}
    left = [line for page in PAGES if page not in walked for line in page_lines(page)]
    assert [line for line in left if not line.reason(everything=True)] == []


def test_no_reason_and_no_preparation_is_for_a_command_that_is_gone() -> None:
    lines = [line for page in PAGES for line in page_lines(page)]
    unused = [start for start in (*NOT_RUN, *LONG) if not any(f"{line.text}\n".startswith(start) for line in lines)]
    unused += [
        start for page, start in BEFORE if not any(line.page == page and line.text.startswith(start) for line in lines)
    ]
    assert unused == []
