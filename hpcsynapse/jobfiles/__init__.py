"""Job files that people wrote, for LoadLeveler, BSC's dialect and sbatch: read with all their oddities, and converted.

`reader.read` gives a `JobFile`, `convert.convert` the same job in another dialect.
"""

DIALECTS = ("slurm", "minotauro", "loadleveler")  # the first is written unless another is asked for
