"""Table `functions`: every function and method of the installed datasette and sqlite_utils, by symbex."""

from __future__ import annotations

import ast
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

from symbex.lib import code_for_node, find_symbol_nodes, function_definition, read_file

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("datasette", "sqlite_utils")

TABLE = """
create table functions (
    id text primary key,
    package text not null,
    file text not null,
    line integer not null,
    symbol text not null,
    kind text not null,
    signature text not null,
    docstring text not null,
    code text not null
)
"""

Row = tuple[str, str, str, int, str, str, str, str, str]


def rows() -> Iterator[Row]:
    """Yield the rows of the table, in an order that does not depend on the machine."""
    for package in PACKAGES:
        root = package_folder(package)
        for path in sorted(root.rglob("*.py")):
            yield from file_rows(package, path, path.relative_to(root.parent).as_posix())


def package_folder(package: str) -> Path:
    """Return the folder that an installed package is in."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the package {package} is not installed here: pip install -r requirements/demo.txt")
    return Path(spec.origin).parent


def file_rows(package: str, path: Path, file: str) -> Iterator[Row]:
    """Yield one row for each function and method of one file; *file* is its path as the table shows it."""
    source = read_file(path)
    seen: Counter[str] = Counter()
    for node, owner in find_symbol_nodes(source, file, ["*", "*.*"]):
        if isinstance(node, ast.ClassDef):
            continue
        code, line = code_for_node(source, node, owner, False, False)
        symbol = f"{owner}.{node.name}" if owner else node.name
        seen[symbol] += 1
        yield (
            f"{file}:{symbol}" + ordinal(seen[symbol]),
            package,
            file,
            line,
            symbol,
            kind(node, owner),
            function_definition(node).removesuffix(":"),
            ast.get_docstring(node) or "",
            dedent(code),
        )


def ordinal(count: int) -> str:
    """Return what tells a symbol's second definition (an overload, a property's setter) from its first."""
    return "" if count == 1 else f"-{count}"


def kind(node: ast.AST, owner: str | None) -> str:
    """Return `function`, `method`, `async function` or `async method`."""
    word = "method" if owner else "function"
    return f"async {word}" if isinstance(node, ast.AsyncFunctionDef) else word
