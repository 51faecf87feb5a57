"""An LSF of one machine: what bsub, bjobs, bkill, bhist and blaunch do, with the words and codes of the manual."""

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

FLAGS = ("-x", "-B", "-N", "-r", "-rn", "-H")
ALL = (signal.SIGINT, 10.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 0.0)


def refuse(text: str) -> int:
    print(f"{text} Job not submitted.", file=sys.stderr)
    return 255


def bsub(argv: list[str]) -> int:
    """Reads directives from standard input alone, from the whole of it."""
    text = sys.stdin.read()
    words = [word for line in text.splitlines() if line.startswith("#BSUB") for word in shlex.split(line[5:])]
    asked: dict[str, str] = {}
    rest = [*words, *argv]
    while rest:
        word = rest.pop(0)
        value = "" if word in FLAGS else rest.pop(0)
        asked[word] = f"{asked['-R']} {value}" if word == "-R" and "-R" in asked else value  # several must all hold
    if asked.get("-q", "normal") != "normal":
        return refuse(f"{asked['-q']}: No such queue.")
    if not re.fullmatch(r"(\d+:)?\d+", asked.get("-W", "60")):
        return refuse(f"{asked['-W']}: Bad RUNLIMIT specification.")
    if "-R" in asked and asked["-R"].count("[") != asked["-R"].count("]"):
        return refuse("Bad resource requirement syntax.")
    number = batch.new_number()
    copy = batch.folder() / f"{number}.spooled"
    copy.write_text(text)
    name = re.fullmatch(r"([^[]*)(?:\[(\d+)-(\d+)\](?:%\d+)?)?", asked.get("-J", "NONAME"))
    assert name
    for index in range(int(name[2]), int(name[3]) + 1) if name[2] else [0]:
        begin(number, index, copy, asked)
    print("*** INFO *** welcome to the fake LSF, Job <1> is an example ***", file=sys.stderr)
    print(f"Job <{number}> is submitted to default queue <normal>.")
    return 0


def begin(number: int, index: int, copy: Path, asked: dict[str, str]) -> None:
    slots = int(asked.get("-n", "1"))
    each = int((re.search(r"ptile=(\d+)", asked.get("-R", "")) or [0, slots])[1])
    names = batch.hosts(slots // each)
    hosts = batch.folder() / f"hosts-{number}"
    hosts.write_text("".join(f"{name}\n" * each for name in names))
    environment = dict(os.environ) | {
        "LSB_JOBID": str(number),
        "LSB_JOBINDEX": str(index),
        "LSB_DJOB_HOSTFILE": str(hosts),
        "LSB_MCPU_HOSTS": " ".join(f"{name} {each}" for name in names),
        "LS_SUBCWD": str(Path.cwd()),
    }
    hours, _, minutes = asked.get("-W", "60").rpartition(":")
    limit = float(os.environ.get("FAKE_LSF_LIMIT") or 60 * (int(hours or 0) * 60 + int(minutes)))
    parallel = slots > 1 and os.environ.get("FAKE_LSF_SEQUENTIAL", "1") != "1"
    kill = [ALL[-1]] if parallel else list(ALL)
    job = batch.Job(
        id=f"{number}[{index}]" if index else str(number),
        script=str(copy),
        environment=environment,
        cwd=str(Path.cwd()),
        seconds=limit,
        cancel=kill,
        limit=[(signal.SIGUSR2, 600.0), *kill],
        state="held" if "-H" in asked else "waiting",
        more={"name": asked.get("-J", "")},
    )
    batch.start(job)


def bjobs(argv: list[str]) -> int:
    ids = [word for word in argv if re.match(r"\d", word)]
    records, code = [], 0
    for word in ids:
        if job := batch.load(word):
            records.append(record(job))
        else:
            records.append({"JOBID": word, "ERROR": f"Job <{word}> is not found"})
            print(f"Job <{word}> is not found", file=sys.stderr)
            code = 255
    if all("ERROR" in one for one in records):
        return code
    print(json.dumps({"COMMAND": "bjobs", "JOBS": len(records), "RECORDS": records}, indent=2))
    return 0


def record(job: batch.Job) -> dict[str, str]:
    number, _, index = job.id.rstrip("]").partition("[")
    ran = job.code is not None
    stat = {"waiting": "PEND", "held": "PSUSP", "running": "RUN"}.get(
        job.state, "EXIT" if job.code or not ran else "DONE"
    )
    why = {
        "timeout": "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
        "cancelled": "TERM_OWNER: job killed by owner",
    }.get(job.why, "")
    code = 128 - job.code if job.code is not None and job.code < 0 else job.code
    return {
        "JOBID": number,
        "JOBINDEX": index or "0",
        "STAT": stat,
        "EXIT_CODE": str(code) if stat == "EXIT" and ran else "",
        "EXIT_REASON": why if stat == "EXIT" else "",
        "PEND_REASON": "New job is waiting for scheduling;" if stat == "PEND" else "",
        "EXEC_HOST": f"4*{os.uname().nodename}" if job.state == "running" or ran else "",
    }


def bkill(argv: list[str]) -> int:
    assert argv and argv[-1] != "0", "kills all jobs"
    job = batch.load(argv[-1])
    if job is None or job.state == "ended":
        known = "Job has already finished" if job else "No matching job found"
        print(f"Job <{argv[-1]}>: {known}", file=sys.stderr)
        return 255
    batch.cancel(argv[-1])
    print(f"Job <{argv[-1]}> is being terminated")
    return 0


def bhist(argv: list[str]) -> int:
    print("No matching job found", file=sys.stderr)
    return 255


def blaunch(argv: list[str]) -> int:
    """As ssh: the words behind the host are given to a shell there, with the caller's environment."""
    words = list(argv)
    while words[0].startswith("-"):  # hydra says -n: no input
        words.pop(0)
    program = ["bash", "-c", " ".join(words[1:])]
    return subprocess.run(batch.on_host(words[0], program, os.environ, str(Path.cwd()))).returncode


if __name__ == "__main__":
    tools = {"bsub": bsub, "bjobs": bjobs, "bkill": bkill, "bhist": bhist, "blaunch": blaunch}
    sys.exit(tools[Path(sys.argv[1]).name](sys.argv[2:]))
