"""BSC's commands on top of a real Slurm, as they are on MinoTauro: what mnsubmit, mnq and mncancel share.

Which jobs were submitted is kept as JSON in FAKE_BSC_STATE, as the file each was made of.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path


def state_folder() -> Path:
    folder = Path(os.environ.get("FAKE_BSC_STATE", f"/tmp/fake-bsc-{os.getuid()}"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def record(job_id: str, script: Path, converted: str) -> None:
    text = json.dumps({"id": job_id, "script": str(script.resolve()), "converted": converted}, indent=1)
    (state_folder() / f"job-{job_id}.json").write_text(text)


def own_jobs() -> set[str]:
    return {path.stem[4:] for path in state_folder().glob("job-*.json")}


def slurm(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)
