"""Where Python looks for modules: its own library comes first, the working directory last, whatever PYTHONPATH says.

`PYTHONPATH=$PYTHONPATH:/my/lib` with an unset variable puts the working directory before everything, where any
`json.py` or `encodings/` would take the place of Python's and a folder `hpcsynapse` that of ours. What we start is
therefore deaf to the variable (`-E`); what needs users' modules looks for them behind Python's library. Imports nothing
but what Python itself has loaded by then, so no pathlib.
"""

import os
import sys

# Run a tool where Python does not know this package: the folder that has it is the first argument. The last place of
# all for another Python, whose packages come first; before all packages where it is from PYTHONPATH.
_RUN = "import runpy; runpy.run_module('hpcsynapse.job', None, '__main__', True)"
LAST = f"import sys; sys.path[:] = filter(None, sys.path); sys.path.append(sys.argv.pop(1)); {_RUN}"
_FIRST = (
    "import sys; "
    "sys.path.insert(next((i for i, p in enumerate(sys.path) if '-packages' in p), len(sys.path)), sys.argv.pop(1)); "
    f"{_RUN}"
)


def package_parent() -> str:
    """Return the folder that holds this package."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120


def tool(*arguments: str) -> list[str]:
    """Return the argv that runs a tool of `hpcsynapse.job` under this Python, deaf to everybody else's modules."""
    if package_parent() in _given():
        return [sys.executable, "-EP", "-c", _FIRST, package_parent(), *arguments]
    return [sys.executable, "-EP", "-m", "hpcsynapse.job", *arguments]


def own_modules_first() -> None:
    """Sort the places of this process; the variable stays as it is for the programs that are started.

    What PYTHONNOUSERSITE asks for is done here: `-E` is deaf to it as well.
    """
    library, here, given = os.path.dirname(os.__file__), os.getcwd(), _given()  # noqa: PTH109, PTH120 - see above

    def order(entry: str) -> int:
        if os.path.abspath(entry) == here:  # noqa: PTH100 - see above
            return 3
        if entry.startswith(library) and "-packages" not in entry:
            return 0
        return 1 if entry in given else 2

    personal = getattr(sys.modules.get("site"), "USER_SITE", None)
    if personal and os.environ.get("PYTHONNOUSERSITE"):
        sys.path[:] = [entry for entry in sys.path if not entry.startswith(personal)]
    sys.path.sort(key=order)


def add_modules_of_users() -> None:
    """Let this process see the places of PYTHONPATH, behind Python's library, and the working directory last."""
    sys.path += [entry for entry in (*_given(), os.getcwd()) if entry not in sys.path]  # noqa: PTH109 - see above
    own_modules_first()


def _given() -> list[str]:
    """Return the places that PYTHONPATH names; an empty entry is the working directory."""
    entries = os.environ.get("PYTHONPATH", "")
    return [os.path.abspath(entry) for entry in entries.split(os.pathsep)] if entries else []  # noqa: PTH100
