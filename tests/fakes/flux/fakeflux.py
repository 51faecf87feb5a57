"""A Flux of one machine: batch, jobs, cancel, hostlist, exec and uptime, with the words and codes of flux-core 0.88."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import batch

LONG = ("job-name", "requires", "dependency", "env", "output", "signal", "cwd")
SENTINEL = re.compile(r"[ \t]*([^\w\s]+ *(?:flux|FLUX):)(.*)")
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "": 60}
KILL = [(signal.SIGTERM, 0.0), (signal.SIGHUP, 30.0), (signal.SIGKILL, 0.0)]


def refuse(text: str) -> int:
    print(f"flux-batch: ERROR: {text}", file=sys.stderr)
    return 1


def directives(script: str) -> list[str]:
    """The words of the one block; raises ValueError with what flux says of another sentinel, or another block."""
    words: list[str] = []
    sentinel, last = "", 0
    for number, line in enumerate(script.splitlines(), 1):
        if match := SENTINEL.fullmatch(line):
            if sentinel and match[1] != sentinel:
                raise ValueError(f"line {number}: sentinel changed from '{sentinel}' to '{match[1]}'")
            if last and number != last + 1:
                raise ValueError(f"line {number}: orphan '{match[1]}' detected")
            sentinel, last = match[1], number
            words += shlex.split(match[2], comments=True)
    return words


def do_batch(argv: list[str]) -> int:
    script = Path(argv[-1]).read_text()
    asked: dict[str, list[str]] = {}
    try:
        rest = directives(script) + [word for word in argv[:-1] if word != "--dry-run"]
        while rest:
            word = rest.pop(0)
            name, given, value = word.lstrip("-").partition("=")
            if name not in (*LONG, "N", "n", "c", "g", "t", "q", "B", "x"):
                raise ValueError(f"argument parsing failed: unrecognized arguments: {word}")
            asked.setdefault(name, []).append(value if given or name == "x" else rest.pop(0))
    except ValueError as error:
        return refuse(str(error))
    if not {"N", "n"} & set(asked):
        return refuse("Number of slots to allocate must be specified")
    if asked.get("q", ["batch"])[-1] != "batch":
        return refuse(f"Invalid queue '{asked['q'][-1]}' specified")
    limit = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)", asked.get("t", ["0"])[-1])
    if not limit:
        return refuse("invalid Flux standard duration")
    if not float(limit[1]):
        return refuse("requested duration (unlimited) exceeds policy limit of 2h for queue batch")
    if "--dry-run" in argv:
        print(json.dumps({"attributes": {"system": {"duration": float(limit[1]) * UNITS[limit[2]]}}}))
        return 0
    after = [one.partition(":")[2] for one in asked.get("dependency", [])]
    if unknown := [one for one in after if batch.load(one[1:]) is None]:
        return refuse(f"dependency: afterany: id {unknown[0]}: job not found")
    number = batch.new_number()
    job_id = "3NxJAv" + str(number).replace("0", "z")  # base58 has no 0
    copy = batch.folder() / f"{job_id}.script"
    copy.write_text(script)
    environment = dict(os.environ) | {"FLUX_ENCLOSING_ID": f"f{job_id}", "FLUX_URI": "local:///nowhere"}
    environment["FAKE_FLUX_HOSTS"] = " ".join(batch.hosts(int(asked["N"][-1])))
    impossible = int(asked.get("g", ["0"])[-1]) > 4
    job = batch.Job(
        id=job_id,
        script="/bin/false" if impossible else str(copy),
        environment=environment,
        cwd=str(Path.cwd()),
        seconds=float(limit[1]) * UNITS[limit[2]],
        cancel=list(KILL),
        limit=[(signal.SIGALRM, 0.0), (signal.SIGHUP, 30.0), (signal.SIGKILL, 0.0)],
        more={"name": argv[-1], "after": " ".join(one[1:] for one in after)},
    )
    batch.start(job)
    print(f"{'f' if os.environ.get('LC_ALL') == 'C' else chr(0x192)}{job_id}")
    return 0


def do_jobs(argv: list[str]) -> int:
    found = []
    for word in argv:
        if word.startswith("-"):
            continue
        if job := batch.load(word[1:]):
            found.append(described(job))
        else:
            print(f"flux-jobs: ERROR: JobID {word} unknown", file=sys.stderr)
    if not found:
        return 1
    print(json.dumps(found[0] if len(found) == 1 else {"jobs": found}))
    return 0


def described(job: batch.Job) -> dict[str, object]:
    """Keys without a value are missing."""
    ended = {"timeout": "TIMEOUT", "cancelled": "CANCELED"}.get(job.why, "FAILED" if job.code else "COMPLETED")
    status = {"waiting": "SCHED", "held": "SCHED", "running": "RUN"}.get(job.state, ended)
    found: dict[str, object] = {"jobid": f"\u0192{job.id}", "id": 90546634752, "status": status, "urgency": 16}
    if job.state == "running" or job.code is not None:
        found["nodelist"] = os.uname().nodename
    if job.state == "ended":
        code = -128 if job.code is None else 128 - job.code if job.code < 0 else job.code
        kind = {"timeout": "timeout", "cancelled": "cancel"}.get(job.why)
        found |= {
            "returncode": code,
            "exception": {"occurred": bool(kind), **({"type": kind, "note": ""} if kind else {})},
        }
    return found


def do_cancel(argv: list[str]) -> int:
    job = batch.load(argv[-1][1:])
    if job is None or job.state == "ended":
        print(f"flux-cancel: ERROR: {argv[-1]}: {'job is inactive' if job else 'unknown job id'}", file=sys.stderr)
        return 1
    batch.cancel(job.id)
    return 0


def do_exec(argv: list[str]) -> int:
    """`-r RANK PROGRAM...` on the broker of that number, as hosts are listed."""
    host = os.environ["FAKE_FLUX_HOSTS"].split()[int(argv[1])]
    return subprocess.run(batch.on_host(host, argv[2:], os.environ, str(Path.cwd()))).returncode


if __name__ == "__main__":
    verb, rest = sys.argv[1], sys.argv[2:]
    if verb in ("hostlist", "uptime"):
        print(os.environ["FAKE_FLUX_HOSTS"] if verb == "hostlist" else " 12:00:00 run 1h, owner me, depth 0, size 1")
        sys.exit(0)
    sys.exit({"batch": do_batch, "jobs": do_jobs, "cancel": do_cancel, "exec": do_exec}[verb](rest))
