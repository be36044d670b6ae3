"""Modules out of a bundle: imports are served from one open file, each when it is first needed.

Runs before anything else of the package and is part of every bundle, never imported; what it imports itself is loaded
already. The import system is asked once for what a verb needs; what that in turn needs first is made here, in the order
that `bundle` worked out, which takes a tenth of the time and looks for no file.
"""

from __future__ import annotations

import gc
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader
from marshal import loads
from posix import close, dup2, environ, pread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

    Entry = tuple[int, int, bool, tuple[str, ...]]

PACKAGE = "cni_bridge"
ENTRY = "cni_bridge.executable"
_STDERR, _OUT_OF_THE_WAY = 2, 255


class Spec:
    """What importlib finds in a module that is there: that it is made, and room to note what is made below it."""

    _initializing = False
    _uninitialized_submodules: list[str] = []  # noqa: RUF012 - of all modules: imports are nested, and each takes back what it noted


class Module:
    """What stands in sys.modules for one of ours. No types.ModuleType: every import looks for a path and a spec in it.

    A module puts into words what it lacks, 10,000 instructions for nobody to read: 1.2 of the 14 million that an ADD ran.
    """

    __spec__ = Spec

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self.__path__: list[str]


class Bundle:
    """Finder and loader for importlib.

    index: marshalled, by name place and size of the byte code, whether it is a package, what runs before it.

    libraries: paths of the C modules that the interpreter has in files of their own.
    """

    def __init__(self, descriptor: int, index: bytes, libraries: dict[str, str]) -> None:
        self.descriptor = descriptor
        self.index = index
        self.libraries = libraries
        self.modules: dict[str, Entry] = {}

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Find a module (importlib.abc.MetaPathFinder); None leaves it to the finders that follow."""
        if name in self.libraries:
            return ModuleSpec(name, ExtensionFileLoader(name, self.libraries[name]), origin=self.libraries[name])
        if name.startswith(PACKAGE) and name in self._modules():
            return ModuleSpec(name, self)  # type: ignore[arg-type]  # has what importlib.abc.Loader wants, which costs 10 ms to import
        return None

    def create_module(self, spec: ModuleSpec) -> Module:
        """Give the module, which has run already (importlib.abc.Loader)."""
        self.run(spec.name)
        return sys.modules[spec.name]  # type: ignore[return-value]  # as `make` put it there

    def exec_module(self, _module: Module) -> None:
        """Do nothing more."""

    def run(self, name: str) -> None:
        """Make a module, after those that it needs."""
        place, size, is_package, needed = self._modules()[name]
        for other in needed:
            if other not in sys.modules:
                self.run(other)
        make(name, is_package, loads(pread(self.descriptor, size, place)))  # noqa: S302 - what the installation wrote

    def run_all(self, pieces: list[tuple[int, int]]) -> None:
        """Make the modules of some pieces, which are in the right order."""
        for place, size in pieces:
            for name, is_package, code in loads(pread(self.descriptor, size, place)):  # noqa: S302 - as above
                make(name, is_package, code)

    def _modules(self) -> dict[str, Entry]:
        """Read the index when it is first asked for: most requests find everything ahead."""
        if not self.modules:
            self.modules = loads(self.index)  # noqa: S302 - as above
        return self.modules


def make(name: str, is_package: bool, code: CodeType) -> None:  # noqa: FBT001 - as it stands in the bundle
    """Make a module whose needs are made already."""
    module = Module(name)
    sys.modules[name] = module  # type: ignore[assignment]  # see there
    if is_package:
        module.__path__ = []
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
    exec(code, module.__dict__)  # noqa: S102 - as every import does


def serve(descriptor: int, name: str, verbs: dict[bytes, list[tuple[int, int]]], index: bytes, libraries: dict[str, str]) -> None:
    """Call the entry's `run` with the executable's name. verbs: the pieces with all that one will need for certain, or nearly so.

    Without the garbage collector: ten passes find nothing in a process that ends after some milliseconds, and take 0.2 of them.
    """
    gc.disable()
    if descriptor <= _STDERR:  # somebody closed stdin: who reads it must not find the bundle there
        dup2(descriptor, _OUT_OF_THE_WAY, inheritable=False)
        close(descriptor)
        descriptor = _OUT_OF_THE_WAY
    bundle = Bundle(descriptor, index, libraries)
    sys.meta_path.insert(0, bundle)
    pieces = verbs.get(environ.get(b"CNI_COMMAND", b""))
    if pieces:
        bundle.run_all(pieces)
    else:
        bundle.run(ENTRY)
    sys.modules[ENTRY].run(name)
