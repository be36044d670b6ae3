"""One file for each executable: the byte code of all that it may need, instead of thirty files in five folders.

Owns what a bundle holds and how one is started (`bundled` is what then runs); knows nothing of where executables are
installed. Byte code is for the interpreter that wrote it: `write` is called under the one that will run it, and a start
compares magic numbers. Layout: magic number, marshalled (code of `bundled`, its arguments), padding, modules one by one,
and once more in pieces with all that one verb needs.
"""

from __future__ import annotations

import ast
import importlib.util
import marshal
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cni_bridge import executable as entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

ROOT: Final = Path(__file__).parent
PACKAGE: Final = ROOT.name
LIBRARIES: Final = ("_ctypes", "_json", "_signal", "_socket", "_struct", "errno", "fcntl", "time")
"""C modules that a request may load. Where the interpreter does not contain one, it is a file that need not be searched for."""
AHEAD: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "bridge": {
        "ADD": ("bridge.verbs", "protocol.skeleton", "bridge.attach", "host_local.verbs", "host_local.taking"),
        "DEL": ("bridge.verbs", "protocol.skeleton", "bridge.detach", "host_local.verbs", "host_local.releasing"),
    },
    "host-local": {
        "ADD": ("host_local.verbs", "protocol.skeleton", "host_local.taking"),
        "DEL": ("host_local.verbs", "protocol.skeleton", "host_local.releasing"),
    },
}
"""What functions of an executable import late, but in nearly every request of that verb: asked for ahead it costs a tenth."""
MODULES_PER_PIECE: Final = 12
HEAD_BYTES: Final = 16384
_OPTIMIZED: Final = 2
_START: Final = """\
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import loads
from posix import open, read
bundle = open({path!r}, {flags})
head = read(bundle, {head_bytes})
if head[:4] == MAGIC_NUMBER:
    code, names, arguments = loads(head[4:])
    exec(code, names)
    names["serve"](bundle, *arguments)
"""


def start(path: Path) -> str:
    """Give the lines of Python that serve a request from a bundle and end the process.

    They go on to the line after them if the bundle was written by an interpreter with other byte code, and raise OSError
    if it is not there.
    """
    return _START.format(path=str(path), flags=os.O_RDONLY | os.O_CLOEXEC, head_bytes=HEAD_BYTES)


def write(executable: str, folder: Path) -> Path:
    """Write the bundle of an executable ("host-local") into a folder, atomically; give its path. Raises OSError."""
    path = folder / f"{executable}.bundle"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content(executable))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def content(executable: str) -> bytes:
    """Give the bundle of an executable for the running interpreter."""
    modules = _reached_from(entry.__name__, entry.VERBS[executable])
    pieces: list[bytes] = []
    index = {sys.intern(name): _entry(pieces, modules, name) for name in modules}
    verbs = {verb.encode(): _ahead(pieces, modules, names) for verb, names in AHEAD.get(executable, {}).items()}
    names = {"__name__": f"{PACKAGE}.bundled"}
    start_arguments = (Module(names["__name__"]).code(), names, (executable, verbs, marshal.dumps(index), _libraries()))
    head = importlib.util.MAGIC_NUMBER + marshal.dumps(start_arguments)
    if len(head) > HEAD_BYTES:
        raise ValueError(f"{executable}: the head of the bundle has {len(head)} bytes")
    return b"".join([head.ljust(HEAD_BYTES, b"\0"), *pieces])


def _append(pieces: list[bytes], value: CodeType | list[tuple[str, bool, CodeType]]) -> tuple[int, int]:
    """Add something to what follows the head; give its place in the file and its size."""
    place = HEAD_BYTES + sum(map(len, pieces))
    pieces.append(marshal.dumps(value))
    return place, len(pieces[-1])


def _entry(pieces: list[bytes], modules: dict[str, Module], name: str) -> tuple[int, int, bool, tuple[str, ...]]:
    module = modules[name]
    needed = tuple(sys.intern(one) for one in dict.fromkeys(module.needed()) if one in modules)
    return (*_append(pieces, module.code()), module.is_package, needed)


def _ahead(pieces: list[bytes], modules: dict[str, Module], names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Add what a verb needs in the order in which it must run, some modules in each piece; give places and sizes.

    Modules in one piece share the names that they have in common. A piece is small enough for malloc to read it to where the next one goes.
    """
    order: list[str] = []
    for name in (entry.__name__, *(f"{PACKAGE}.{one}" for one in names)):
        _run_before(modules, name, order)
    made = [(sys.intern(name), modules[name].is_package, modules[name].code()) for name in order]
    return [_append(pieces, made[first : first + MODULES_PER_PIECE]) for first in range(0, len(made), MODULES_PER_PIECE)]


def _run_before(modules: dict[str, Module], name: str, order: list[str]) -> None:
    """Append a module, after those that must run before it."""
    for needed in dict.fromkeys(modules[name].needed()):
        if needed in modules and needed not in order:
            _run_before(modules, needed, order)
    order.append(name)


class Module:
    """One module of this package, by its name, parsed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = _path(name)
        self.is_package = self.path.name == "__init__.py"
        self._tree: ast.Module = _Lean().visit(ast.parse(self.path.read_bytes(), str(self.path)))

    def code(self) -> CodeType:
        """Give the code, without docstrings."""
        return compile(self._tree, str(self.path), "exec", dont_inherit=True, optimize=_OPTIMIZED)

    def needed(self) -> Iterator[str]:
        """Name the modules that must run before this one."""
        parents = self.name.split(".")[:-1]
        yield from (".".join(parents[: length + 1]) for length in range(len(parents)))
        for line in self._tree.body:
            yield from _imported(line)

    def mentioned(self) -> Iterator[str]:
        """Name the modules that this one may ever import."""
        yield from self.needed()
        for node in ast.walk(self._tree):
            yield from _imported(node)


class _Lean(ast.NodeTransformer):
    """Leaves out what only type checkers read: annotations, what is imported and defined for them, and their import from __future__."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.Assign | ast.Pass:
        made = ast.Assign([node.target], node.value) if node.value else ast.Pass()
        return ast.fix_missing_locations(ast.copy_location(made, node))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        return None if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        is_for_checkers = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return (node.orelse or ast.copy_location(ast.Pass(), node)) if is_for_checkers else node


def _imported(node: ast.AST) -> Iterator[str]:
    """Name what an import statement may load: in `from package import name` the name may be a module or not."""
    if isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)


def _reached_from(*entries: str) -> dict[str, Module]:
    """Give these and all modules of this package that they may import, by name."""
    found: dict[str, Module] = {}
    waiting = [*entries]
    while waiting:
        name = waiting.pop()
        if name not in found and _path(name).is_file():
            found[name] = Module(name)
            waiting += found[name].mentioned()
    return found


def _path(name: str) -> Path:
    """Give the file of a module of this package; one that is not there for any other name."""
    package, *parts = name.split(".")
    path = ROOT.joinpath(*parts) if package == PACKAGE else Path(os.devnull)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _libraries() -> dict[str, str]:
    """Give the paths of the C modules that are files."""
    specs = {name: importlib.util.find_spec(name) for name in LIBRARIES}
    return {name: spec.origin for name, spec in specs.items() if spec and spec.has_location and spec.origin}
