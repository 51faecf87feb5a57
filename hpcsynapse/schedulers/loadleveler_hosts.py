"""The hosts of LoadLeveler's tasks, one for each task in their order.

LOADL_HOSTFILE names a file of them; LOADL_PROCESSOR_LIST holds them too, but only up to 128 tasks ("Using and
Administering", run-time environment variables).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpcsynapse.errors import PlacementError


def task_hosts(environ: Mapping[str, str]) -> list[str]:
    """Return the host of every task; raises PlacementError when neither variable tells all of them."""
    name = environ.get("LOADL_HOSTFILE")
    total = environ.get("LOADL_TOTAL_TASKS", "")
    wanted = int(total) if total.isdigit() else None
    if name:
        try:
            hosts = Path(name).read_text().split()
        except OSError as error:
            raise PlacementError(f"LOADL_HOSTFILE {name}: {error.strerror}") from None
    else:
        hosts = environ.get("LOADL_PROCESSOR_LIST", "").split()
    if not hosts or (wanted is not None and len(hosts) < wanted):
        where = f"LOADL_HOSTFILE {name}" if name else "LOADL_PROCESSOR_LIST, which ends at 128 tasks,"
        asked = f"of {wanted} tasks" if wanted is not None else "of the tasks"
        raise PlacementError(
            f"{where} names {len(hosts)} hosts {asked}; LoadLeveler gives LOADL_HOSTFILE to jobs of type MPICH and "
            "parallel: check job_type"
        )
    return hosts
