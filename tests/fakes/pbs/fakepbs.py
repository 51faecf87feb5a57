"""A PBS of one machine: what qsub, qstat, qdel, qrerun and pbsdsh do, with the words and codes of the real ones."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import batch

SERVER = "lab1.site.example.org"
TAKES_VALUE, ALONE = "lNqAPmMoeWrJSCkvpauj", "VhIXzf"
HISTORY = os.environ.get("FAKE_PBS_HISTORY", "1") == "1"


def fail(text: str, code: int) -> int:
    print(f"qsub: {text}", file=sys.stderr)
    return code


def words_of(lines: list[str]) -> list[str]:
    """The words of the directives: up to the first command; raises ValueError with what qsub says."""
    found: list[str] = []
    for line in lines:
        text = line.lstrip()
        if text.startswith("#PBS"):
            words = shlex.split(text[4:])
            if any(word.startswith("#") for word in words):
                raise ValueError(f"directive error: {text[4:].strip()}")
            found += words
        elif text and text[0] not in "#:":
            break
    return found


def options(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word[:1] != "-" or len(word) < 2 or word[1] not in TAKES_VALUE + ALONE:
            raise ValueError(f"invalid option -- '{word.lstrip('-')[:1]}'")
        value = "" if word[1] in ALONE else word[2:] or (rest.pop(0) if rest else "")
        found.setdefault(word[1], []).append(value)
    return found


def seconds(text: str) -> int:
    parts = [int(part) for part in text.split(":")]
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))


def qsub(argv: list[str]) -> int:
    script = Path(argv[-1])
    data = script.read_bytes()
    if b"\r\n" in data:
        return fail("script contains cr, lf", 1)
    try:
        given = options(argv[:-1])
        asked = options(words_of(data.decode().splitlines()))
    except ValueError as error:
        return fail(str(error), 1)
    asked = {key: given.get(key, []) + asked.get(key, []) for key in {*given, *asked}}
    resources = dict(part.partition("=")[::2] for one in reversed(asked.get("l", [])) for part in one.split(","))
    name = asked.get("N", [script.name])[-1]
    if not re.fullmatch(r"[\w.+-]{1,230}", name, re.ASCII):
        return fail("illegal -N value", 2)
    if "place" in resources and "select" not in resources:
        return fail('Cannot have "place" without "select"', 7)
    if asked.get("q", ["workq"])[0] not in ("workq", "R12"):
        return fail("Unknown queue", 170)
    unknown = {part.partition("=")[0] for part in resources.get("select", "").split(":")[1:]}
    unknown -= {"ncpus", "mpiprocs", "ngpus", "mem", "gpu_type", "fast"}
    if unknown:
        return fail(f"Unknown resource: {sorted(unknown)[0]}", 187)
    if not re.fullmatch(r"\d+(:\d+){0,2}", resources.get("walltime", "0")):
        return fail("Illegal attribute or resource value Resource_List.walltime", 166)
    number, tasks = batch.new_number(), [""]
    if array := asked.get("J"):
        match = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?(?:%\d+)?", array[-1])
        if not match or int(match[1]) >= int(match[2]):
            return fail("illegal -J value", 2)
        tasks = [f"[{index}]" for index in range(int(match[1]), int(match[2]) + 1, int(match[3] or 1))]
    copy = batch.folder() / f"{number}.SC"
    copy.write_bytes(data)
    for task in tasks:
        begin(number, task, copy, resources, asked)
    print("a hook of the site says hello", file=sys.stderr)
    print(f"{number}{'[]' if array else ''}.{SERVER}")
    return 0


def begin(number: int, task: str, copy: Path, resources: dict[str, str], asked: dict[str, list[str]]) -> None:
    nodes, *chunk = resources.get("select", "1").split(":")
    counts = dict(part.partition("=")[::2] for part in chunk)
    hosts = batch.folder() / f"nodes-{number}"
    names = [host for host in batch.hosts(int(nodes)) for _ in range(int(counts.get("mpiprocs", 1)))]
    hosts.write_text("".join(f"{name}\n" for name in names))
    environment = {
        key: value for key, value in os.environ.items() if "V" in asked or key in ("HOME", "USER", "LOGNAME")
    }
    environment |= {
        "PATH": os.environ["PATH"],
        "PBS_JOBID": f"{number}{task}.{SERVER}",
        "PBS_NODEFILE": str(hosts),
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_O_WORKDIR": str(Path.cwd()),
        "NCPUS": counts.get("ncpus", "1"),
        "OMP_NUM_THREADS": counts.get("ncpus", "1"),
        **({"PBS_ARRAY_INDEX": task.strip("[]"), "PBS_ARRAY_ID": f"{number}[].{SERVER}"} if task else {}),
    }
    ladder = [(signal.SIGTERM, float(os.environ.get("FAKE_PBS_KILL_DELAY", "10"))), (signal.SIGKILL, 0.0)]
    job = batch.Job(
        id=f"{number}{task}",
        script=str(copy),
        environment=environment,
        cwd=os.environ["HOME"],
        umask=0o077,
        seconds=seconds(resources.get("walltime", "3600")),
        cancel=ladder,
        limit=ladder,
        state="held" if "h" in asked else "waiting",
        more={"name": asked.get("N", ["STDIN"])[-1]},
    )
    batch.start(job)


def qstat(argv: list[str]) -> int:
    flags = {word for word in argv if word.startswith("-")}
    if "-B" in flags:
        print(f"Server             Max   Tot   Que   Run\n{SERVER:16}   0     0     0     0")
        return 0
    if "-x" in flags and not HISTORY:
        print("qstat: PBS is not configured to maintain job history", file=sys.stderr)
        return 0
    code = 0
    for word in argv:
        job = None if word.startswith("-") else batch.load(word.partition(".")[0])
        if word.startswith("-"):
            continue
        if job is None or (job.state == "ended" and not HISTORY):
            print(f"qstat: Unknown Job Id {word.partition('.')[0]}.{SERVER}", file=sys.stderr)
            code = 153
        elif job.state == "ended" and "-x" not in flags:
            print(f"qstat: {job.id}.{SERVER} Job has finished, use -x or -H", file=sys.stderr)
            code = 35
        else:
            print(block(job))
    return code


def block(job: batch.Job) -> str:
    state = {"waiting": "Q", "held": "H", "running": "R", "ended": "F"}[job.state]
    lines = [f"Job Id: {job.id}.{SERVER}", f"    Job_Name = {job.more['name']}", f"    job_state = {state}"]
    if job.state == "running" or job.code is not None:
        lines.append(f"    exec_host = {os.uname().nodename}/0*4")
    if job.state == "ended":
        comment = {"timeout": "and exceeded resource walltime", "cancelled": "and terminated by tester"}
        lines.append(f"    comment = Job run at Sat Nov 28 at 15:42 {comment.get(job.why, 'and finished')}")
        lines.append(f"    substate = {91 if job.why == 'cancelled' else 92 if job.code == 0 else 93}")
        if job.code is not None:
            lines.append(f"    Exit_status = {job.code if job.code >= 0 else 256 - job.code}")
    return "\n".join(folded(line) for line in lines) + "\n"


def folded(line: str) -> str:
    """Cut at 79 columns, anywhere, as qstat does."""
    parts = [line[:79]]
    while rest := line[79 + 71 * (len(parts) - 1) :][:71]:
        parts.append(rest)
    return "\n\t".join(parts)


def qdel(argv: list[str]) -> int:
    code = 0
    for word in argv:
        if batch.load(word.partition(".")[0]) is None:
            print(f"qdel: Unknown Job Id {word}", file=sys.stderr)
            code = 153
        batch.cancel(word.partition(".")[0])
    return code


def pbsdsh(argv: list[str]) -> int:
    """A fresh environment, the directory HOME, no input, and exit code 0 whatever happens."""
    program = argv[argv.index("--") + 1 :]
    own = {key: value for key, value in os.environ.items() if key.startswith("PBS_") or key in ("HOME", "USER")}
    own |= batch.own_variables(os.environ) | {"PATH": "/bin:/usr/bin"}
    lines = Path(os.environ["PBS_NODEFILE"]).read_text().split()
    host = lines[int(argv[argv.index("-n") + 1])]
    code = subprocess.run(batch.on_host(host, program, own, os.environ["HOME"]), stdin=subprocess.DEVNULL).returncode
    if code:
        print(f"pbsdsh: task 0x00000001 exit status {code}", file=sys.stderr)
    return 0


def qrerun(argv: list[str]) -> int:
    print(f"qrerun: Unauthorized Request {argv[-1]}", file=sys.stderr)
    return 159


if __name__ == "__main__":
    tools = {"qsub": qsub, "qstat": qstat, "qdel": qdel, "pbsdsh": pbsdsh, "qrerun": qrerun}
    sys.exit(tools[Path(sys.argv[1]).name](sys.argv[2:]))
