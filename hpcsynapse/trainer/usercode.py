"""Users' folders of code, imported under private names: nothing on `sys.path`, no folder in another's way.

Every folder becomes a package of its own, named by its path. Modules of a folder see a built-in `__import__` that
looks into the folder first, so `import mymodule` and `from .mymodule import x` find the same sibling, at the top of
a file or inside a function at run time; all other modules of the process keep the ordinary one. A folder's own
`__init__.py` is not run. `importlib.import_module("mymodule")` does not go through `__import__` and finds no sibling.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from hpcsynapse.errors import TrainError

PREFIX = "hpcsynapse_user_"
_BUILTINS: dict[str, dict[str, Any]] = {}  # of every package: the ordinary ones with its own __import__


def load(folder: Path, file: str) -> ModuleType:
    """Return the module of one file of a folder, run at most once in this process; what it raises is passed on."""
    return importlib.import_module(f"{_package(folder)}.{file.removesuffix('.py')}")


def attribute(folder: Path, file: str, name: str) -> Any:
    """Return what a file of a folder defines under a name; raises TrainError when there is no such name."""
    if not (folder / file).is_file():
        raise TrainError(f"{folder} holds no {file}, which defines {name}")
    module = load(folder, file)
    if not hasattr(module, name):
        raise TrainError(f"{folder / file} defines no {name}")
    return getattr(module, name)


def where(definition: Any) -> str:
    """Return ` (file:line)` of a class or function, empty where its source is not known."""
    try:
        return f" ({inspect.getsourcefile(definition)}:{inspect.getsourcelines(definition)[1]})"
    except (OSError, TypeError):
        return ""


def _package(folder: Path) -> str:
    """Return the name of the folder's package, made when it is first asked for."""
    path = os.path.realpath(folder)
    name = PREFIX + hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    if name not in sys.modules:
        if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [path]
        _BUILTINS[name] = {**vars(builtins), "__import__": _importer(name, path)}
        sys.modules[name] = importlib.util.module_from_spec(spec)
    return name


def _importer(package: str, folder: str) -> Callable[..., Any]:
    """Return an `__import__` that takes a name of the folder's from the package."""
    own: dict[str, bool] = {}

    def import_(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        top = name.partition(".")[0]
        if level == 0 and top not in own:
            own[top] = _holds(folder, top)
        if level or not own[top]:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or (), 0)
        return module if fromlist else sys.modules[f"{package}.{top}"]

    return import_


def _holds(folder: str, top: str) -> bool:
    """Tell whether a plain import finds a folder's own module, as it would with the folder first on `sys.path`."""
    if top in sys.builtin_module_names:
        return False
    spec = _files(folder).find_spec(top)
    if spec is None or spec.loader is not None:
        return spec is not None
    # A folder without __init__.py is a package only where no ordinary module has its name.
    return top not in sys.modules and importlib.util.find_spec(top) is None


class _Loader(SourceFileLoader):
    """Runs a source file with its package's own `__import__`; reads and leaves no byte code.

    Byte code is told from newer sources by whole seconds, which is not enough between nodes that share a folder.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = _BUILTINS[module.__name__.partition(".")[0]]
        super().exec_module(module)


def _files(folder: str) -> FileFinder:
    return FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, [".py"]))


class _Finder(MetaPathFinder):
    """Finds the modules of users' packages, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(PREFIX):
            return None
        for folder in path or ():
            if spec := _files(folder).find_spec(fullname):
                return spec
        name = fullname.partition(".")[2]
        raise ModuleNotFoundError(f"no module {name!r} in {', '.join(path or ())}", name=fullname)
