"""The rooms of the package are those of docs/design.md, "Where the code lives", and imports point down only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pypatcher"
FLOORS = {
    room: int(floor)
    for floor, room in re.findall(r"^\| (\d) \| `(\w+)/` \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
}
LARGEST_ROOM = 0.14
"""Of the package's lines."""
LONGEST_FILE = 360
"""Lines: about 350."""
LONGER = {
    "events.py": "a table in the form of types: every event once, a few lines each",
    "transport/endpoint.py": "the one owner of the sockets: whatever is told from a datagram needs its tables",
    "transport/connection.py": "one object that QUIC's events, its timer and its streams all change",
    "install/installation.py": "the facade of a room: a dozen short calls, each takes the lock and asks the table",
}
"""Files that may be longer, up to 450 lines, and why."""

RELATIVE = {"established"}
"""Folders whose files name each other relatively: they are compiled under another name, too, from the same source."""

MOST_PARAMETERS = 7
"""Of a function, ``self`` apart."""
MORE_PARAMETERS = {
    "fetch_release": "the whole exchange of a client, most of it with defaults",
}
"""Functions that may take more, up to 10, and why; no ``__init__`` may."""


def rooms() -> list[str]:
    return sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())


def modules() -> Iterator[tuple[str, Path]]:
    """Every module, with the room it is in; '' for the single modules."""
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE).parts
        yield inside[0] if len(inside) > 1 else "", path


def imported(path: Path) -> Iterator[str]:
    """The rooms that a module imports from, wherever in it; '' for the single modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or (node.level == 1 and path.parent.name in RELATIVE), f"{path} imports relatively"
            names = [f"{absolute(node, path)}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "pypatcher" and len(parts) > 1:
                yield parts[1] if (PACKAGE / parts[1] / "__init__.py").exists() else ""


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """What it imports from, by its whole name."""
    return f"{module_name(path.parent / '__init__.py')}.{node.module}" if node.level else node.module or ""


def test_the_table_of_the_design_page_names_every_room() -> None:
    assert sorted(FLOORS) == [room for room in rooms() if not room.startswith("__")]


def test_every_file_that_the_design_page_names_is_there() -> None:
    page = (ROOT / "docs" / "design.md").read_text()
    rows = re.findall(
        r"^\| (?:`(\w+/)`|single modules) \| (.*) \|$", page.partition("Which file, for")[2], re.MULTILINE
    )
    assert len(rows) == len(FLOORS) + 1
    named = [PACKAGE / room / name for room, cell in rows for part in cell.split("; ") for name in subjects(part)]
    assert [str(path) for path in named if not (path.with_suffix(".py").exists() or path.is_dir())] == []


def subjects(part: str) -> list[str]:
    """The files that a part of a cell is about: those before its colon, or all of a part without one."""
    return re.findall(r"`([\w/]+)`", part.partition(": ")[0])


def test_imports_point_to_lower_floors() -> None:
    entrances = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}
    upwards = [
        f"{path.relative_to(ROOT)} imports {other or 'a single module'}"
        for room, path in modules()
        for other in imported(path)
        if path not in entrances and FLOORS.get(other, 1) > FLOORS.get(room, 1)
    ]
    assert upwards == []


def test_rooms_of_one_floor_import_in_one_direction() -> None:
    pairs = {(room, other) for room, path in modules() for other in imported(path) if room and other and room != other}
    assert [pair for pair in sorted(pairs) if pair[::-1] in pairs] == []


def test_transport_knows_nothing_of_what_connections_carry() -> None:
    inside = [path for room, path in modules() if room == "transport"]
    assert {other for path in inside for other in imported(path)} == {"", "established", "transport"}
    exchange = re.compile(r"PatchInfo|UploadLimiter|OwnerKey|ReleaseInfo")
    assert [path.name for path in inside if exchange.search(path.read_text())] == []


def test_no_module_imports_itself_through_others() -> None:
    modules_of = {module_name(path): path for _, path in modules()}
    needs = {name: set(imported_modules(path, modules_of)) - {name} for name, path in modules_of.items()}
    while ends := [name for name in needs if not needs[name] or all(name not in needed for needed in needs.values())]:
        needs = {name: needed.difference(ends) for name, needed in needs.items() if name not in ends}
    assert needs == {}, "each of these leads to itself"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """What it imports while it is imported or later; what only type checkers read counts too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and (module := absolute(node, path)) in known:
            names = (f"{module}.{alias.name}" for alias in node.names)
            yield from (name if name in known else module for name in names)


def test_every_module_says_what_does_not_live_there() -> None:
    boundary = re.compile(
        r"\b(not|no|nothing|never|none|only|alone|elsewhere|without|pure|neither|nowhere|decides?)\b", re.I
    )
    silent = [
        str(path.relative_to(ROOT))
        for _, path in modules()
        if not boundary.search(ast.get_docstring(ast.parse(path.read_text())) or "")
    ]
    assert silent == []


def test_what_lives_elsewhere_lives_there() -> None:
    """The modules that a first docstring names behind "Not here" are there."""
    lost = []
    for _, path in modules():
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        elsewhere = " ".join(re.findall(r"\(([^)]*)\)", docstring.partition("Not here: ")[2].partition("\n\n")[0]))
        for named in re.findall(r"``([a-z_0-9.]+)``", elsewhere):
            places = [base.joinpath(*named.split(".")) for base in (PACKAGE, path.parent, path.parent.parent)]
            if not any(place.is_dir() or place.with_name(f"{place.name}.py").exists() for place in places):
                lost.append(f"{path.relative_to(ROOT)} names {named}")
    assert lost == []


def test_a_long_file_says_why() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for _, path in modules()}
    long = {name: length for name, length in lengths.items() if length > LONGEST_FILE}
    assert {name: length for name, length in long.items() if name not in LONGER or length > 450} == {}
    assert [name for name in LONGER if name not in long] == [], "these are short enough, or gone"


def test_no_room_holds_too_much() -> None:
    lines: dict[str, int] = {}
    for room, path in modules():
        lines[room] = lines.get(room, 0) + len(path.read_text().splitlines())
    whole = sum(lines.values())
    assert {room: count / whole for room, count in lines.items() if count > LARGEST_ROOM * whole} == {}


def test_nothing_is_made_from_more_than_seven_values() -> None:
    many = {
        function.name: count
        for _, path in modules()
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and (count := len(parameters(function))) > MOST_PARAMETERS
    }
    assert {name: count for name, count in many.items() if name not in MORE_PARAMETERS or count > 10} == {}
    assert [name for name in MORE_PARAMETERS if name not in many] == [], "these take few enough, or are gone"


def test_a_room_exports_nothing_that_nobody_takes() -> None:
    taken = set()
    for path in (*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                taken |= {(node.module, alias.name) for alias in node.names}
    unused = [
        f"{path.parent.name}: {name.value}"
        for _, path in modules()
        if path.name == "__init__.py" and path.parent != PACKAGE and path.parent.name != "__pyinstaller"
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.List)
        and ast.unparse(node.targets[0]) == "__all__"
        for name in node.value.elts
        if isinstance(name, ast.Constant) and (module_name(path), name.value) not in taken
    ]
    assert unused == []


CALLED_BACK = {
    "drop": "of an upload whose place another one gets: it has to end at once, whoever serves it",
}
"""What a module that says that it is pure may be given to call, and why; whatever else happens, it returns."""


def test_what_is_pure_returns_what_happens_and_calls_nobody() -> None:
    called = {}
    for _, path in modules():
        module = ast.parse(path.read_text())
        if not re.search(r"\b(Pure|Sans-IO)\b|; sans-IO", ast.get_docstring(module) or ""):
            continue
        for each in ast.walk(module):
            if isinstance(each, ast.arg) and each.annotation is not None:
                kind = ast.unparse(each.annotation)
                if re.search(r"Callable\[.*, (None|object)\]|\bEmit\b", kind):
                    called[each.arg] = str(path.relative_to(PACKAGE))
    assert {name: place for name, place in called.items() if name not in CALLED_BACK} == {}
    assert [name for name in CALLED_BACK if name not in called] == [], "this is called no more"


SHARED_NAMES = {
    "Patch": "the public API's is the inner one, and can read the running program",
    "Version": "the same",
    "add_arguments": "of a command",
    "run": "a command",
    "decode": "of a codec, named by its module: bencode.decode",
    "encode": "the same",
}
"""Names of classes and functions that stand in several modules, and why."""


def test_one_name_means_one_thing() -> None:
    """Of public classes, type aliases and functions at the top of a module."""
    places: dict[str, list[str]] = {}
    for _, path in modules():
        for name in named_at_the_top(ast.parse(path.read_text())):
            places.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in shared.items() if name not in SHARED_NAMES} == {}
    assert [name for name in SHARED_NAMES if name not in shared] == [], "these are told apart by now, or gone"


def named_at_the_top(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
            names = [ast.unparse(node.target)]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    found = function.args
    names = [each.arg for each in (*found.posonlyargs, *found.args, *found.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names
