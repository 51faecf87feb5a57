"""Queue systems by name, imported on selection; their rows are in `spec.names`, which descriptions need as well."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module

from hpcsynapse.schedulers.base import Scheduler
from hpcsynapse.spec.names import QUEUES

SCHEDULERS = QUEUES


def create(name: str) -> Scheduler:
    """Return the adapter of a queue system."""
    module, _, attribute = SCHEDULERS[name].adapter.partition(":")
    scheduler: Scheduler = getattr(import_module(module), attribute)()
    return scheduler


def queue_of_job(environ: Mapping[str, str]) -> Scheduler | None:
    """Return the queue in one of whose jobs a process with this environment runs; None outside of any."""
    return next((queue for queue in map(create, SCHEDULERS) if any(map(environ.get, queue.job_variables))), None)


def print_hosts(arguments: list[str]) -> int:
    """Print the hosts of this job of a queue, one a line: the tool `hosts QUEUE` of job scripts."""
    print("\n".join(create(arguments[0]).assigned(os.environ)))
    return 0
