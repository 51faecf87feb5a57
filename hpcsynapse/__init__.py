"""hpcsynapse: distributed training runs for batch queues, described once, measured and reported."""

TYPE_CHECKING = False  # nothing is imported here, not even typing, until `job.search_path` has looked
if TYPE_CHECKING:
    from typing import Any

    from hpcsynapse.loops.broadcast import BroadcastEvery
    from hpcsynapse.loops.stopping import should_stop
    from hpcsynapse.runs.directory import RunDirectory
    from hpcsynapse.spec.job import JobSpec
    from hpcsynapse.spec.resources import ResourceRequest
    from hpcsynapse.spec.training import TrainSpec
    from hpcsynapse.submission.submit import submit
    from hpcsynapse.timing import StepRecorder

# Written down: importlib.metadata costs 40 ms on the command-line path.
__version__ = "0.1.0"
__all__ = [
    "BroadcastEvery",
    "JobSpec",
    "ResourceRequest",
    "RunDirectory",
    "StepRecorder",
    "TrainSpec",
    "__version__",
    "should_stop",
    "submit",
]

_LAZY = {
    "BroadcastEvery": "hpcsynapse.loops.broadcast",
    "JobSpec": "hpcsynapse.spec.job",
    "ResourceRequest": "hpcsynapse.spec.resources",
    "RunDirectory": "hpcsynapse.runs.directory",
    "StepRecorder": "hpcsynapse.timing",
    "TrainSpec": "hpcsynapse.spec.training",
    "should_stop": "hpcsynapse.loops.stopping",
    "submit": "hpcsynapse.submission.submit",
}


def __getattr__(name: str) -> "Any":
    if name in _LAZY:
        from importlib import import_module

        module = import_module(_LAZY[name])
        value = globals()[name] = getattr(module, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
