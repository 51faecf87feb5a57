"""Users' folders of code, looked at without running any of it: where they lie, and what is missing or malformed."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

STORED = "store:"
# What a folder must define: kind -> (file, class). The names are those of BK.Synapse.
ENTRY_POINTS = {"model": ("bks_model.py", "UserModel"), "loader": ("bks_dataset.py", "UserDataset")}
VALIDATION_CLASS = "UserValDataset"
WEIGHTS = "model.pth"
# Names of arguments of a loader that are folders, beside those of its class.
FOLDER_ARGUMENTS = ("val_path", "val_loader")
MAX_SOURCES = 2000
MAX_SOURCE_BYTES = 10 * 2**20


def is_folder(target: str) -> bool:
    """Tell whether a model or loader is given as a folder: with a slash or a dot in front, or as `store:NAME`."""
    return target.startswith((STORED, ".", "~")) or "/" in target


def code_folder(folder: Path, kind: str) -> Path:
    """Return where the code of a folder lies: in it, or in its `src` as BK.Synapse kept it."""
    file = ENTRY_POINTS[kind][0]
    inner = folder / "src"
    return inner if not (folder / file).is_file() and (inner / file).is_file() else folder


def label(target: str) -> str:
    """Return a short name for a model or loader: that of its folder, or the one given."""
    if not is_folder(target):
        return target
    parts = [part for part in Path(target.removeprefix(STORED)).parts if part not in ("content", "src", "/", ".", "..")]
    return parts[-1] if parts else "folder"


def problems(folder: Path, kind: str) -> Iterator[str]:
    """Yield what would keep a folder from being used as a `model` or `loader`; sources are parsed, never run."""
    if not folder.is_dir():
        yield f"folder {folder} does not exist"
        return
    code = code_folder(folder, kind)
    file, wanted = ENTRY_POINTS[kind]
    if not (code / file).is_file():
        yield f"{folder} holds no {file}, which defines class {wanted}"
        return
    found = [path for path in sources(code) if path != code / file]
    for path in (code / file, *found[:MAX_SOURCES]):
        tree = _parse(path)
        if isinstance(tree, str):
            yield tree
        elif path == code / file and not _binds(tree.body, wanted):
            yield f"{path} defines no class {wanted}"
    if len(found) > MAX_SOURCES:
        yield f"{code} holds more than {MAX_SOURCES} Python files; keep {file} and its own modules in a folder apart"


def sources(folder: Path) -> Iterator[Path]:
    """Yield the Python files below a folder, without hidden folders and virtual environments; links are not followed.

    Ends after a few more than MAX_SOURCES.
    """
    count = 0
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _holds_code(Path(root, name)))
        for name in sorted(files):
            if name.endswith(".py") and Path(root, name).is_file():  # a pipe would never end
                yield Path(root, name)
                count += 1
        if count > MAX_SOURCES + 1:
            return


def _holds_code(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.name != "__pycache__" and not (folder / "pyvenv.cfg").exists()


def _parse(path: Path) -> ast.Module | str:
    """Return the syntax tree of a file that compiles, else what is wrong with it, beginning with file and line."""
    try:
        if path.stat().st_size > MAX_SOURCE_BYTES:
            return f"{path}: more than {MAX_SOURCE_BYTES >> 20} MiB is no Python source"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes(), str(path))
            compile(tree, str(path), "exec", dont_inherit=True)  # finds what the grammar alone allows
        return tree
    except SyntaxError as error:
        return f"{path}:{error.lineno or 1}: {type(error).__name__}: {error.msg}"
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        return f"{path}: {type(error).__name__}: {error}"
    except OSError as error:
        return f"{path}: {error.strerror}"


def _binds(body: Iterable[ast.stmt], name: str) -> bool:
    """Tell whether statements define, import or assign a name; what `import *` brings cannot be told and may."""
    for statement in body:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef)) and statement.name == name:
            return True
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            if {name, "*"} & {alias.asname or alias.name for alias in statement.names}:
                return True
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            named = (node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
            if any(node.id == name and isinstance(node.ctx, ast.Store) for node in named):
                return True
        elif any(_binds(block, name) for block in _blocks(statement)):
            return True
    return False


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the statements inside `if`, `try` and `with`, which run where they stand."""
    if isinstance(statement, (ast.If, ast.Try, ast.With)):
        for part in ("body", "orelse", "finalbody"):
            yield getattr(statement, part, [])
        for handler in getattr(statement, "handlers", []):
            yield handler.body
