"""Job files that people wrote for one of six queues: read with all their oddities, and converted.

`reader.read` gives a `JobFile`, `convert.convert` the same job in another dialect.
"""

DIALECTS = (
    "slurm",
    "pbs",
    "lsf",
    "gridengine",
    "minotauro",
    "loadleveler",
)  # the first is written unless another is asked for
