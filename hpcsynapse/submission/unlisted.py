"""How long a queue has no longer listed a job: some write down how jobs ended only a while after they have."""

from __future__ import annotations

import time
from contextlib import suppress

from hpcsynapse.files import read_json, write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.schedulers import SCHEDULERS, create


def record_may_come(run: RunDirectory, scheduler: str, job_id: str) -> bool:
    """Tell whether a job that its queue does not know may have ended so recently that its record is not written yet.

    The first look at it is noted in the run directory; in somebody else's nothing can be, and the answer is no.
    """
    lag = create(scheduler).record_lag if scheduler in SCHEDULERS else 0.0
    if not lag or not job_id:
        return False
    noted = read_json(run.unlisted) or {}
    if noted.get("job_id") != job_id:
        with suppress(OSError):
            write_json(run.unlisted, {"job_id": job_id, "time": time.time()})
            return True
        return False
    since = noted.get("time")
    return isinstance(since, (int, float)) and 0 <= time.time() - since < lag
