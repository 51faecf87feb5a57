"""Queue systems by name, imported on selection."""

from __future__ import annotations

from importlib import import_module

from hpcsynapse.schedulers.base import Scheduler

# name -> module, class, one-line summary
SCHEDULERS: dict[str, tuple[str, str, str]] = {
    "slurm": ("hpcsynapse.schedulers.slurm", "Slurm", "Slurm through sbatch, squeue and scancel"),
    "loadleveler": (
        "hpcsynapse.schedulers.loadleveler",
        "LoadLeveler",
        "IBM LoadLeveler through llsubmit, llq and llcancel",
    ),
    "minotauro": (
        "hpcsynapse.schedulers.minotauro",
        "MinoTauro",
        "BSC's dialect through mnsubmit, mnq and mncancel",
    ),
    "local": ("hpcsynapse.schedulers.local", "Local", "this machine, in the background"),
}


def create(name: str) -> Scheduler:
    """Return the adapter of a queue system."""
    module, attribute, _ = SCHEDULERS[name]
    scheduler: Scheduler = getattr(import_module(module), attribute)()
    return scheduler
