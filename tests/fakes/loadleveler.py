"""A LoadLeveler of one machine for tests: what llsubmit, llq and llcancel share, and the starter that runs the steps.

One JSON file a job in FAKE_LL_STATE; the starter alone writes it. FAKE_LL_DELAY seconds pass in each state before R,
a step that has ended is listed for FAKE_LL_KEEP seconds more. All tasks run on this machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcsynapse.jobfiles.model import Step
from hpcsynapse.jobfiles.values import to_macros

HOST = "fakell"
DELAY = float(os.environ.get("FAKE_LL_DELAY", "0.3"))
KEEP = float(os.environ.get("FAKE_LL_KEEP", "0"))
NOTHING = "llq: There is currently no job status to report."
_GRACE = 10.0


def state_folder() -> Path:
    folder = Path(os.environ.get("FAKE_LL_STATE", f"/tmp/fake-loadleveler-{os.getuid()}"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def jobs() -> list[dict[str, Any]]:
    """All jobs, oldest first; a step that ended long enough ago is forgotten."""
    paths = sorted(state_folder().glob("job-*.json"), key=lambda path: int(path.stem[4:]))
    found = [json.loads(path.read_text()) for path in paths]
    for job in found:
        job["steps"] = [step for step in job["steps"] if not step["ended"] or time.time() - step["ended"] < KEEP]
    return found


def save(job: dict[str, Any]) -> None:
    path = state_folder() / f"job-{job['number']}.json"
    path.with_suffix(".new").write_text(json.dumps(job, indent=1))
    path.with_suffix(".new").rename(path)


def new_number() -> int:
    number = 1
    while True:
        with suppress(FileExistsError):
            (state_folder() / f"number-{number}").mkdir()
            return number
        number += 1


def describe(step: Step, index: int, number: int) -> dict[str, Any]:
    """A step as the starter needs it."""
    request = step.request

    def named(value: str | None) -> str:
        text = to_macros(value) if value else "/dev/null"
        known = {
            "jobid": number,
            "stepid": index,
            "process": index,
            "job_name": request.name or f"{HOST}.{number}",
            "step_name": request.step or index,
            "host": HOST,
            "user": os.environ.get("USER", "user"),
        }
        for name, content in known.items():
            text = text.replace(f"$({name})", str(content))
        return text

    nodes = request.nodes or 1
    groups = [len(group) for group in request.geometry] or (
        [request.tasks_per_node] * nodes
        if request.tasks_per_node
        else [(request.tasks or 1) // nodes + (node < (request.tasks or 1) % nodes) for node in range(nodes)]
    )
    return {
        "id": f"{HOST}.{number}.{index}",
        "name": request.step or str(index),
        "job_name": request.name or "",
        "state": "I",
        "ended": 0.0,
        "code": None,
        "pid": 0,
        "dependency": request.dependency,
        "tasks": groups,
        "seconds": request.seconds or 3600,
        "initialdir": request.workdir or ".",
        "output": named(request.output),
        "error": named(request.error),
        "environment": request.environment,
        "class": request.partition or "No_Class",
    }


def start(number: int) -> None:
    """Run a job's steps one after the other, each when what it waits for has ended well."""
    job = json.loads((state_folder() / f"job-{number}.json").read_text())
    codes: dict[str, int] = {}
    for step in job["steps"]:
        if wanted(step["dependency"], codes):
            run_step(job, step)
        else:
            step["state"] = "NR"
        codes[step["name"]] = step["code"] if step["code"] is not None else -1
        step["ended"] = time.time()
        save(job)


def wanted(dependency: str | None, codes: dict[str, int]) -> bool:
    """`(prev == 0) && (other != 0)` and the like."""
    for part in (dependency or "").replace("(", "").replace(")", "").split("&&"):
        name, _, right = part.strip().partition(" ")
        if name and (codes.get(name, -1) == int(right.split()[-1])) != right.startswith("=="):
            return False
    return True


def cancelled(step: dict[str, Any]) -> bool:
    return (state_folder() / f"cancel-{step['id']}").exists()


def run_step(job: dict[str, Any], step: dict[str, Any]) -> None:
    for state in ("I", "ST"):
        step["state"] = state
        save(job)
        limit = time.monotonic() + DELAY
        while time.monotonic() < limit and not cancelled(step):
            time.sleep(0.05)
        if cancelled(step):
            step["state"] = "CA"
            return
    folder = Path(job["cwd"], step["initialdir"])
    with (folder / step["output"]).open("ab") as out, (folder / step["error"]).open("ab") as err:
        child = subprocess.Popen(
            ["/bin/bash", job["script"]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment(step, folder),
            start_new_session=True,
        )
        step["state"], step["pid"] = "R", child.pid
        save(job)
        step["state"] = watch(child, step)
    step["code"] = child.returncode


def watch(child: subprocess.Popen[bytes], step: dict[str, Any]) -> str:
    """Wait for the end; the state is RM behind the limit, CA when cancelled: SIGTERM first, SIGKILL later."""
    limit, ending, kill_at = time.monotonic() + step["seconds"], "", float("inf")
    while child.poll() is None:
        if not ending and (cancelled(step) or time.monotonic() > limit):
            ending = "CA" if cancelled(step) else "RM"
            kill_at = time.monotonic() + _GRACE
            os.kill(child.pid, signal.SIGTERM)
        if time.monotonic() > kill_at:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        time.sleep(0.05)
    return ending or "C"


def environment(step: dict[str, Any], folder: Path) -> dict[str, str]:
    """What LoadLeveler sets; LOADL_PROCESSOR_LIST ends at 128 tasks."""
    hosts = [os.uname().nodename] * sum(step["tasks"])
    file = state_folder() / f"hosts-{step['id']}"
    file.write_text("\n".join(hosts) + "\n")
    own = {
        "LOADL_STEP_ID": step["id"],
        "LOADL_STEP_NAME": step["name"],
        "LOADL_JOB_NAME": step["job_name"],
        "LOADL_TOTAL_TASKS": str(len(hosts)),
        "LOADL_HOSTFILE": str(file),
        "LOADL_STEP_INITDIR": str(folder),
        "LOADL_STEP_CLASS": step["class"],
        "LOADLBATCH": "yes",
    }
    if len(hosts) <= 128:
        own["LOADL_PROCESSOR_LIST"] = " ".join(hosts)
    return {**os.environ, **step["environment"], **own}


if __name__ == "__main__":
    start(int(sys.argv[1]))
