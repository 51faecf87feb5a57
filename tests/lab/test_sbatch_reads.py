"""What `convert` says of options and resources against the real sbatch, and init's numbers against the real sinfo."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsynapse.job.hostlist import expand
from hpcsynapse.jobfiles import gres
from hpcsynapse.jobfiles.convert import convert
from hpcsynapse.jobfiles.model import JobFile
from hpcsynapse.jobfiles.reader import read
from hpcsynapse.schedulers import sinfo

pytestmark = pytest.mark.lab
# Refusals of sbatch itself: those of the controller (a partition, a limit) say nothing about how a line was read.
REFUSED = re.compile(r"error: |unrecognized option|is ambiguous|option requires|invalid option")
# Node names and the resources that each claims: kinds that begin with a digit, MIG names, several kinds, thousands.
CLAIMS = {
    "a": ("gpu:2080ti:8", 8),
    "b": ("gpu:1g.10gb:7", 7),
    "d": ("gpu:80gb:4,nic:1k", 4),
    "e": ("gpu:1g.10gb+me:1", 1),
    "c": ("gpu:a100_1g.5gb:3,gpu:a100_2g.10gb:2,gpu:a100:1", 6),
    "f": ("gpu:no_consume:4", 4),
    "g": ("", 0),
    "h": ("gpu", 1),
}

Sbatch = Callable[..., tuple[dict[str, str], str]]


@pytest.fixture(scope="module")
def sbatch(slurm_lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Sbatch:
    """Ask sbatch what it reads from a file: the options that it takes, and why it takes none."""
    path = tmp_path_factory.mktemp("sbatch") / "job.sh"

    def ask(text: str) -> tuple[dict[str, str], str]:
        path.write_text(text)
        said = slurm_lab.attempt("sbatch", "-v", "--test-only", str(path)).stderr
        options = dict(re.findall(r"^sbatch: (\S+) +: (.*?) *$", said, re.MULTILINE))
        refusal = REFUSED.search(said)
        return options, said if refusal else ""

    return ask


def script(*lines: str) -> str:
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in lines), "true", ""])


def minutes(text: str) -> int:
    """Return the minutes of sbatch's own print of a time."""
    if text == "UNLIMITED":
        return 0
    days, _, clock = text.rpartition("-")
    hours, middle, _ = map(int, clock.split(":"))
    return (int(days or 0) * 24 + hours) * 60 + middle


def complaints(file: JobFile) -> list[str]:
    return [str(one) for one in file.complaints if one.level in ("error", "refused")]


TIMES = st.one_of(
    st.sampled_from(["UNLIMITED", "infinite", "-1", "1-", "1d", "30m", "1:2:3:4", ":10", "10:", "1.5", "1-2:3:4:5"]),
    st.lists(st.integers(0, 99), min_size=1, max_size=3).map(lambda parts: ":".join(map(str, parts))),
    st.tuples(st.integers(0, 30), st.lists(st.integers(0, 99), min_size=1, max_size=3)).map(
        lambda both: f"{both[0]}-{':'.join(map(str, both[1]))}"
    ),
)


@settings(max_examples=60)
@given(TIMES)
def test_times(sbatch: Sbatch, text: str) -> None:
    options, refusal = sbatch(script(f"--time={text}"))
    file = read(script(f"--time={text}").encode())
    assert bool(complaints(file)) == bool(refusal), (text, complaints(file), refusal)
    if not refusal:
        assert -(-(file.steps[0].request.seconds or 0) // 60) == minutes(options["time"]), text


@pytest.mark.parametrize(
    "text", ["0", "500", "1G", "1gb", "1GB", "1k", "1025k", "2T", "1.5G", "1Gi", "m", "1 G", "-1", "1b", " 1", "1kB"]
)
def test_sizes(sbatch: Sbatch, text: str) -> None:
    options, refusal = sbatch(script(f'--mem="{text}"'))
    file = read(script(f'--mem="{text}"').encode())
    assert bool(complaints(file)) == bool(refusal), refusal
    if not refusal:
        unit = {"G": 1024, "T": 1024**2}.get(options["mem"][-1], 1)
        assert file.steps[0].request.memory == int(options["mem"].rstrip("GT?")) * unit


@pytest.mark.parametrize(
    "line",
    [
        "--nodes=1k", "--nodes=1-2", "--nodes=2-1", "--nodes=1-2k", "--nodes=2,3", "--nodes=", "--nodes=' 2'", "-N=2",
        "-N 1 -n4 -c2", "-HN1", "-sn2", "-N1n2", "--ntasks=1k", "--ntasks=0", "--part=debug", "--par=x", "--p=x",
        "--nod=1", "--time-=1", "--test", "--mail=a", "--exc", "--nodse=2", "--hold --requeue", "--exclusive=user",
        "--gres=gpu:", "--mail-type=begin,END", "--mail-type=none", "--mail-type=sometimes", "nodes=2",
        "--mail-type=TIME_LIMIT_90",
        "--comment='a b' -n 2", "--comment=a b", "--output=x --error y", "--gpus-per-task=1", "--gpus-per-task=1 -n2",
        "--gres=gpu::2", "--gres=gpu=2", "--gres=gpu:2(S:0)", "--gres=gpu:1:x", "--gres=gpu:1,gpu:1", "--gres=none",
        "\u2013nodes=2", "--nodes=2 # two", "--mincpus 4 --tmp=1G", "--export=NIL", "--begin=now+1hour",
        "--gres=gpu:h100",
    ],
)  # fmt: skip  # a table
def test_options(sbatch: Sbatch, line: str) -> None:
    options, refusal = sbatch(script(line))
    request = read(script(line).encode())
    assert bool(complaints(request)) == bool(refusal), (complaints(request), refusal)
    if refusal:
        return
    asked = request.steps[0].request
    if "nodes" in options:
        nodes = f"{asked.nodes}-{asked.max_nodes}" if asked.max_nodes else str(asked.nodes)
        assert nodes == options["nodes"]
    for name, field in (("ntasks", "tasks"), ("cpus-per-task", "cpus"), ("partition", "partition")):
        assert options.get(name, "None") == str(getattr(asked, field))
    if "mail-type" in options:
        assert ",".join(asked.mail) == options["mail-type"]


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/bash\r\n#SBATCH -N2\r\ntrue\r\n",
        "#SBATCH -N2\ntrue\n",
        "\ufeff#!/bin/bash\n#SBATCH -N2\ntrue\n",
        "#!/bin/bash\n#SBATCH\u00a0-N2\ntrue\n",
        "#!/bin/bash\n#sbatch -N2\n #SBATCH -N3\n# SBATCH -N4\ntrue\n",
        "#!/bin/bash\ntrue\n#SBATCH -N2\n",
        "#!/bin/bash\n#SBATCH\t-N2\n\n# x\n#SBATCH -n2\ntrue\n",
    ],
    ids=["dos", "no first line", "mark", "no-break space", "nearly", "behind a command", "fine"],
)
def test_files(sbatch: Sbatch, text: str) -> None:
    options, refusal = sbatch(text)
    file = read(text.encode())
    assert file.unusable == bool(refusal), (complaints(file), refusal)
    if not refusal:
        assert options.get("nodes", "None") == str(file.steps[0].request.nodes)


GPUS = (
    "--gres=gpu:h100:2",
    "--gres=gpu:2,nic:1",
    "--gpus=3",
    "--gpus-per-node=2",
    "--gpus-per-node=h100:1",
    "--gpus-per-task=1",
    "--gpus=h100:3",
    "--gres=nic:1",
)
POOL = (
    "--nodes=2", "-N1-3", "--ntasks=4", "-n6", "--ntasks-per-node=2", "-c2", "--time=00:90:00", "--time=5",
    "--time=UNLIMITED", "--mem=0", "--mem=3G", "--mem=100", "--mem-per-cpu=1G", "--mail-type=begin",
    "--mail-type=END,fail",
    "--mail-user=a@b.c", "--export=NONE", "--export=HOME,A=1", "--exclusive", "--exclusive=user", "--no-requeue",
    "--partition=debug", "-p short", "--constraint=x&y", "--exclude=n[1-2],m3", "--job-name='a b'",
    "--comment='a#b'", "--output=%x-%j.out", "--error='e %A'", "--dependency=afterok:1", "--array=1-3%2", "--hold",
    "--signal=USR1@60", "--begin=2030-01-01T00:00:00", "--licenses=a:2", "--nice=3", "--hint=nomultithread", "-q x",
    "--open-mode=append", "--chdir=/tmp", "--reservation=r", "-A acc", "--gres-flags=enforce-binding", "--tmp=1G",
)  # fmt: skip  # a table


@settings(max_examples=60)
@given(st.lists(st.sampled_from(POOL), max_size=7, unique=True), st.sampled_from(GPUS))
def test_converting_for_sbatch_itself_changes_nothing_that_it_reads(
    sbatch: Sbatch, lines: list[str], gpus: str
) -> None:
    text = script(*lines, gpus)
    before, refusal = sbatch(text)
    if refusal.find("Invalid") > 0 or complaints(read(text.encode())):
        return
    (converted,) = convert(read(text.encode()), "slurm")
    assert sbatch(converted.text)[0] == before, converted.text


def test_events_of_several_lines_add_up(sbatch: Sbatch) -> None:
    for lines in (["begin", "end"], ["begin,end", "NONE"], ["NONE", "fail"], ["fail", "fail"]):
        text = script(*(f"--mail-type={line}" for line in lines))
        assert ",".join(read(text.encode()).steps[0].request.mail) == sbatch(text)[0]["mail-type"]


# 22.05 prints nothing for a name that goes on behind its bracket, and reads a blank inside brackets as a zero.
RANGE = st.tuples(st.integers(0, 120), st.integers(0, 3), st.integers(1, 4)).map(
    lambda one: f"{one[0]:0{one[2]}d}" + (f"-{one[0] + one[1]:0{one[2]}d}" if one[1] else "")
)
BRACKET = st.lists(RANGE, min_size=1, max_size=3).map(lambda ranges: f"[{','.join(ranges)}]")
HOST = st.one_of(
    st.from_regex(r"[a-z][a-z0-9-]{0,6}", fullmatch=True),
    st.lists(st.tuples(st.sampled_from(["n", "rack", "n-", "a-b"]), BRACKET), min_size=1, max_size=4).map(
        lambda parts: "".join(text + bracket for text, bracket in parts)
    ),
)


@settings(max_examples=80)
@given(st.lists(st.tuples(HOST, st.sampled_from([",", " ", ", ", "\t"])), min_size=1, max_size=3))
def test_node_lists(slurm_lab: Any, parts: list[tuple[str, str]]) -> None:
    text = "".join(host + separator for host, separator in parts)
    assert expand(text) == slurm_lab.run("scontrol", "show", "hostnames", text).split()


@pytest.mark.parametrize("text", ["n[3-1]", "n[]", "n[a-b]", "n[1-2-3]", "n[[1]]", "n[0-99999999999]", "n[,1]"])
def test_node_lists_that_slurm_refuses(slurm_lab: Any, text: str) -> None:
    assert "Invalid hostlist" in slurm_lab.attempt("scontrol", "show", "hostnames", text).stderr
    with pytest.raises(Exception, match="node list"):
        expand(text)


@pytest.fixture(scope="module")
def claims(slurm_lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A controller alone, whose nodes are all switched off and claim odd resources; yields the way to it."""
    folder = tmp_path_factory.mktemp("claims")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = "\n".join(
        f"NodeName={name}[1-2] CPUs=64 RealMemory=100000 State=CLOUD" + (f" Gres={text}" if text else "")
        for name, (text, _) in CLAIMS.items()
    )
    (folder / "state").mkdir()
    (folder / "gres.conf").write_text("AutoDetect=off\n")
    (folder / "slurm.conf").write_text(
        f"ClusterName=claims\nSlurmctldHost={socket.gethostname()}(127.0.0.1)\nSlurmctldPort={port}\nSlurmUser=root\n"
        f"AuthType=auth/munge\nAuthInfo=socket={slurm_lab.conf.parent}/munge.sock\nCredType=cred/munge\n"
        f"StateSaveLocation={folder}/state\nSlurmctldPidFile={folder}/pid\nProctrackType=proctrack/linuxproc\n"
        "SwitchType=switch/none\nTaskPlugin=task/none\nAccountingStorageType=accounting_storage/none\n"
        "SelectType=select/cons_tres\nSelectTypeParameters=CR_Core_Memory\nGresTypes=gpu,nic\nPrivateData=cloud\n"
        f"SuspendProgram=/bin/true\nResumeProgram=/bin/true\nSuspendTime=-1\n{nodes}\n"
        "PartitionName=all Nodes=ALL Default=YES State=UP\nPartitionName=day Nodes=a[1-2] MaxTime=1-12:30:00\n"
        "PartitionName=off Nodes=b[1-2] MaxTime=90 State=DOWN\n"
    )
    env = {**slurm_lab.env, "SLURM_CONF": str(folder / "slurm.conf")}
    with (folder / "log").open("w") as log:
        controller = subprocess.Popen(
            ["slurmctld", "-D", "-c"], env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 60
        while "idle" not in subprocess.run(["sinfo", "-h"], env=env, capture_output=True, text=True).stdout:
            assert controller.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield env
    finally:
        os.killpg(controller.pid, signal.SIGTERM)
        controller.wait(30)


def test_claims_of_nodes(claims: dict[str, str]) -> None:
    done = subprocess.run(sinfo.COMMAND, env=claims, capture_output=True, text=True, check=True)
    rows = sinfo.parse(done.stdout)
    assert len(rows) == len(done.stdout.splitlines()) == 2 * len(CLAIMS) + 4
    assert {row.node: row.gpus for row in rows} == {
        f"{name}{number}": gpus for name, (_, gpus) in CLAIMS.items() for number in (1, 2)
    }
    assert {row.partition: (row.default, row.up, row.limit and row.limit.total_seconds()) for row in rows} == {
        "all": (True, True, None),
        "day": (False, True, 131400),
        "off": (False, False, 5400),
    }
    assert sinfo.partitions(rows)[0] == "all"


@pytest.mark.parametrize("name", ["a", "b", "c", "d", "e"])
def test_claims_can_be_asked_for(claims: dict[str, str], name: str, tmp_path: Path) -> None:
    """What a converted file asks for is granted where those resources are, as the original would be."""
    text = script(f"--gres={CLAIMS[name][0]}")
    (converted,) = convert(read(text.encode()), "slurm")
    assert gres.total(gres.parse_request(CLAIMS[name][0])) == CLAIMS[name][1]
    for content in (text, converted.text):
        (tmp_path / "job.sh").write_text(content)
        done = subprocess.run(
            ["sbatch", "--test-only", str(tmp_path / "job.sh")], env=claims, capture_output=True, text=True
        )
        assert f"on nodes {name}1 in partition all" in done.stderr, done.stderr
