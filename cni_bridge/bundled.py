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
    from types import ModuleType

    Entry = tuple[int, int, bool, tuple[str, ...]]

ENTRY = "cni_bridge.executable"
Module = type(sys)
_STDERR, _OUT_OF_THE_WAY = 2, 255


class Bundle:
    """Finder and loader for importlib. modules: place and size of the byte code, whether it is a package, what runs before it.

    libraries: paths of the C modules that the interpreter has in files of their own.
    """

    def __init__(self, descriptor: int, modules: dict[str, Entry], libraries: dict[str, str]) -> None:
        self.descriptor = descriptor
        self.modules = modules
        self.libraries = libraries

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Find a module (importlib.abc.MetaPathFinder); None leaves it to the finders that follow."""
        if name in self.modules:
            return ModuleSpec(name, self)  # type: ignore[arg-type]  # has what importlib.abc.Loader wants, which costs 10 ms to import
        if name in self.libraries:
            return ModuleSpec(name, ExtensionFileLoader(name, self.libraries[name]), origin=self.libraries[name])
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Give the module, which has run already (importlib.abc.Loader)."""
        self.run(spec.name)
        return sys.modules[spec.name]

    def exec_module(self, _module: ModuleType) -> None:
        """Do nothing more."""

    def run(self, name: str) -> None:
        """Make a module, after those that it needs."""
        place, size, is_package, needed = self.modules[name]
        for other in needed:
            if other not in sys.modules:
                self.run(other)
        sys.modules[name] = module = Module(name)
        parent, _, last = name.rpartition(".")
        if is_package:
            module.__path__ = []
        if parent:
            setattr(sys.modules[parent], last, module)
        exec(loads(pread(self.descriptor, size, place)), module.__dict__)  # noqa: S102, S302 - as every import does, with what the installation wrote


def serve(descriptor: int, name: str, ahead: dict[bytes, tuple[str, ...]], modules: dict[str, Entry], libraries: dict[str, str]) -> None:
    """Call the entry's `run` with the executable's name. ahead: what a verb will import for certain, or nearly so.

    Without the garbage collector: ten passes find nothing in a process that ends after some milliseconds, and take 0.2 of them.
    """
    gc.disable()
    if descriptor <= _STDERR:  # somebody closed stdin: who reads it must not find the bundle there
        dup2(descriptor, _OUT_OF_THE_WAY, inheritable=False)
        close(descriptor)
        descriptor = _OUT_OF_THE_WAY
    bundle = Bundle(descriptor, modules, libraries)
    sys.meta_path.insert(0, bundle)
    bundle.run(ENTRY)
    for module in ahead.get(environ.get(b"CNI_COMMAND", b""), ()):
        if module not in sys.modules:
            bundle.run(module)
    sys.modules[ENTRY].run(name)
