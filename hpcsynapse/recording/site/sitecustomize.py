"""Run by every Python of a rank as it starts: first the sitecustomize that it would have run, then the recording."""

# Any Python may come by here, of a system's own tools too: nothing that one of them could not read.
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
sys.path[:] = [_entry for _entry in sys.path if os.path.abspath(_entry or ".") != _here]  # noqa: PTH100
_own = sys.modules.pop("sitecustomize", None)
try:
    __import__("sitecustomize")
except ImportError as _error:
    if getattr(_error, "name", "sitecustomize") != "sitecustomize":
        raise
    if _own is not None:
        sys.modules["sitecustomize"] = _own
finally:
    if (
        os.environ.get("HPCSYNAPSE_RECORD") == "auto"
        and sys.version_info >= (3, 8)
        and "_hpcsynapse_recording" not in sys.modules
    ):
        try:
            from importlib import import_module as _import_module
            from importlib import util as _util

            _folder = os.path.dirname(_here)  # noqa: PTH120
            _spec = _util.spec_from_file_location(
                "_hpcsynapse_recording",
                os.path.join(_folder, "__init__.py"),  # noqa: PTH118
                submodule_search_locations=[_folder],
            )
            sys.modules["_hpcsynapse_recording"] = _util.module_from_spec(_spec)
            _spec.loader.exec_module(sys.modules["_hpcsynapse_recording"])
            _import_module("_hpcsynapse_recording.start").start()
        except Exception as _fault:  # a recording must not disturb a program
            sys.stderr.write("hpcsynapse: steps are not recorded: %r\n" % (_fault,))  # noqa: UP031
