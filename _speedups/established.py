"""Makes one module of pypatcher/established/, which is compiled: the same source, with the types of established.pxd.

    python _speedups/established.py FOLDER

writes ``FOLDER/pypatcher/established/_established_c.py`` and its ``.pxd``, where Cython finds that under the module's
full name (else every class would be compiled as Python's own: half as fast, without a word). Of each file its imports
from the others go, its comments and its docstrings; numbers that are constants are written in where they are used. The
functions of ``octets.py`` have a second form in C, ``octets.pxd``. A name with two meanings is an error.
"""

from __future__ import annotations

import ast
import hashlib
import operator
import shutil
import sys
from pathlib import Path

__all__ = ["MODULE", "MODULES", "digest", "join", "write"]

HERE = Path(__file__).parent
SOURCE = HERE.parent / "pypatcher" / "established"
MODULE = "pypatcher.established._established_c"
MODULES = (
    "range_set", "codec", "protection", "received", "congestion", "streams", "recovery", "flow", "ids", "paths",
    "state", "controls", "incoming", "outgoing", "machine",
)  # fmt: skip
"""In the order of their imports."""

_HEAD = """# cython: language_level=3, annotation_typing=False, auto_pickle=False, binding=False
# cython: nonecheck=True, overflowcheck=True
"""
# The last two: what would be an error in Python, or a larger number, is an error here, and nothing worse.
_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.BitOr: operator.or_, ast.Pow: operator.pow,
}  # fmt: skip


def digest() -> str:
    """Of all that is compiled: whether a compiled module is of these files."""
    files = [
        *(SOURCE / f"{name}.py" for name in MODULES),
        *(HERE / f"{name}.pxd" for name in ("established", "octets")),
    ]
    together = hashlib.sha256()
    for path in [*files, Path(__file__)]:
        together.update(hashlib.sha256(path.read_bytes()).digest())
    return together.hexdigest()


def join() -> str:
    """The text of the one module."""
    octets: set[str] = set()
    body: list[ast.stmt] = []
    outside: dict[str, ast.stmt] = {}
    meanings: dict[str, str] = {}
    numbers: dict[str, float] = {}
    for name in MODULES:
        for node in ast.parse((SOURCE / f"{name}.py").read_text(encoding="utf-8")).body:
            match node:
                case ast.ImportFrom(module="__future__") | ast.Expr():
                    continue
                case ast.ImportFrom(module="octets", level=1, names=names):
                    octets.update(each.name for each in names)
                    continue
                case ast.ImportFrom(level=1):
                    continue
                case ast.ImportFrom() | ast.Import():
                    outside[ast.unparse(node)] = node
                    continue
                case ast.Assign(targets=[ast.Name(id="__all__")]):
                    continue
                case ast.Assign(targets=targets, value=value):
                    known = {each.id: _number(value, numbers) for each in _names(targets, value)}
                    numbers.update({each: number for each, number in known.items() if number is not None})
            for defined in _defined(node):
                text = ast.unparse(node)
                if meanings.setdefault(defined, text) != text:
                    raise SystemExit(f"{name}.py: {defined} means something else in another file of the room")
            body.append(node)
    writer = _Writer(numbers)
    text = [ast.unparse(ast.fix_missing_locations(writer.visit(node))) for node in body]
    head = [
        _HEAD, "from __future__ import annotations\n",
        f"from cython.cimports.octets import {', '.join(sorted(octets))}\n",
        "\n".join(outside), f"\nMODULES = {MODULES!r}\nDIGEST = {digest()!r}\n",
    ]  # fmt: skip
    return "".join(head) + "\n\n".join(text) + "\n"


def write(folder: Path) -> Path:
    """Write the module and its types below ``folder``; the path of the module."""
    package = folder.joinpath(*MODULE.split(".")[:-1])
    package.mkdir(parents=True, exist_ok=True)
    for each in (package, package.parent):
        (each / "__init__.py").touch()
    shutil.copy(HERE / "octets.pxd", folder)
    shutil.copy(HERE / "established.pxd", package / "_established_c.pxd")
    module = package / "_established_c.py"
    module.write_text(join(), encoding="utf-8")
    return module


class _Writer(ast.NodeTransformer):
    """Writes numbers in where they are used, and leaves docstrings out."""

    def __init__(self, numbers: dict[str, float]) -> None:
        self._numbers = numbers

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id in self._numbers:
            return ast.Constant(self._numbers[node.id])
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Pass()
        self.generic_visit(node)
        return node


def _number(node: ast.expr, known: dict[str, float]) -> float | None:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name):
            return known.get(name)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            first, second = _number(left, known), _number(right, known)
            if first is not None and second is not None:
                return _OPERATORS[type(op)](first, second)
    return None


def _names(targets: list[ast.expr], value: ast.expr) -> list[ast.Name]:
    return [each for each in targets if isinstance(each, ast.Name) and not isinstance(value, ast.Tuple)]


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
