"""Where Python looks for modules: its own library comes first, the working directory last, whatever PYTHONPATH says.

`PYTHONPATH=$PYTHONPATH:/my/lib` with an unset variable puts the working directory before everything, where any
`json.py` would take the place of Python's. Imports nothing but what Python itself has loaded by then, so no pathlib.
"""

import os
import sys


def own_modules_first() -> None:
    """Sort the places of this process; the variable stays as it is for the programs that are started."""
    library, here = os.path.dirname(os.__file__), os.getcwd()  # noqa: PTH109, PTH120 - see above

    def order(entry: str) -> int:
        if os.path.abspath(entry) == here:  # noqa: PTH100 - see above
            return 2
        return 0 if entry.startswith(library) and "-packages" not in entry else 1

    sys.path.sort(key=order)
