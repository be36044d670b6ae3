"""The project's own rules for code, where no other tool checks them: size, names, reasons, imports of the core.

Lines are lines of code: neither blank ones nor documentation (any statement that is nothing but a string) count.
"""

from __future__ import annotations

import ast
import re
import statistics
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
MODULES: Final = sorted(path for package in ("uproxy", "cni_bridge") for path in (ROOT / package).rglob("*.py"))
FOLDERS: Final = ("uproxy", "cni_bridge", "tests", "bench", "examples", "scripts")
PYTHON: Final = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

MEDIAN_LINES: Final = 8
NINETIETH_PERCENTILE_LINES: Final = 30
LONGEST_FUNCTION_LINES: Final = 60
LONGEST_MODULE_LINES: Final = 300
LONGEST_MODULE_DOCSTRING_LINES: Final = 12
LONGEST_SCRIPT_LINES: Final = 40

# Values, tables and arithmetic. Anything else may be named by the core's annotations only.
CORE_IMPORTS: Final = {
    "__future__", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq", "ipaddress", "itertools",
    "math", "msgspec", "operator", "re", "types", "typing",
}  # fmt: skip
VAGUE_NAMES: Final = re.compile(r"(^|_)(util|utils|helper|helpers|manager|managers|misc|common)(_|$)", re.IGNORECASE)
BARE_SUPPRESSION: Final = re.compile(r"#\s*(noqa(: [A-Z0-9, ]+)?|type: ignore(\[[\w, -]+\])?|fmt: off)\s*$")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines_of_code(path: Path) -> set[int]:
    """Give the numbers of the lines that count."""
    documentation = {
        number
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    return {number for number, line in lines if line.strip() and number not in documentation}


def functions_of(path: Path) -> Iterator[tuple[str, int]]:
    """Give each function's place and length."""
    code = lines_of_code(path)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, Function):
            length = sum(node.lineno <= number <= (node.end_lineno or node.lineno) for number in code)
            yield f"{name_of(path)}:{node.lineno} {node.name}", length


def imported_at_run_time(tree: ast.Module) -> Iterator[str]:
    """Give the modules that are imported, but for those that only annotations need."""
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    for_types = {inner for node in blocks if ast.unparse(node.test) == "TYPE_CHECKING" for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in for_types:
            yield node.module or ""
        elif isinstance(node, ast.Import) and node not in for_types:
            yield from (alias.name for alias in node.names)


def test_functions_are_short() -> None:
    functions = {name: lines for path in MODULES for name, lines in functions_of(path)}
    longest = [f"{name}: {lines} lines" for name, lines in functions.items() if lines > NINETIETH_PERCENTILE_LINES]
    assert statistics.median(functions.values()) <= MEDIAN_LINES
    assert sorted(functions.values())[len(functions) * 9 // 10] <= NINETIETH_PERCENTILE_LINES, longest


def test_no_function_is_too_long() -> None:
    functions = {name: lines for path in PYTHON for name, lines in functions_of(path)}
    assert {name: lines for name, lines in functions.items() if lines > LONGEST_FUNCTION_LINES} == {}


def test_no_module_is_too_long() -> None:
    lengths = {name_of(path): len(lines_of_code(path)) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE_LINES} == {}


def test_no_shell_script_is_too_long() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "scripts").glob("*.sh")}
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_SCRIPT_LINES} == {}


def test_every_module_says_in_a_few_lines_what_it_is() -> None:
    docstrings = {name_of(path): ast.get_docstring(tree_of(path)) or "" for path in PYTHON}
    lengths = {name: sum(bool(line.strip()) for line in text.splitlines()) for name, text in docstrings.items()}
    assert {name: lines for name, lines in lengths.items() if not 1 <= lines <= LONGEST_MODULE_DOCSTRING_LINES} == {}


def test_nothing_has_a_name_that_says_nothing() -> None:
    defined = (node.name for path in PYTHON for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef | Function))
    names = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name) for name in (*defined, *(path.stem for path in PYTHON))}
    assert {name for name in names if VAGUE_NAMES.search(name)} == set()


def test_the_core_imports_values_tables_and_arithmetic_only() -> None:
    core = [path for path in MODULES if "core" in path.relative_to(ROOT).parts]
    imported = {(name_of(path), module) for path in core for module in imported_at_run_time(tree_of(path))}
    assert imported
    foreign = {found for found in imported if not f"{found[1]}.".startswith("uproxy.core.")}
    assert {found for found in foreign if found[1].split(".")[0] not in CORE_IMPORTS} == set()


def test_no_test_has_the_name_of_another_one_in_its_file() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        names = Counter(node.name for node in tree_of(path).body if isinstance(node, Function))
        assert [name for name, times in names.items() if times > 1] == [], path


def test_suppressions_give_their_reason_on_the_line() -> None:
    lines = ((path, number, line) for path in PYTHON for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1))
    assert [f"{name_of(path)}:{number}" for path, number, line in lines if BARE_SUPPRESSION.search(line)] == []
