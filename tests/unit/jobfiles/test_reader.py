"""Real files have oddities: every one is survived, and named with its line and directive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.jobfiles.convert import convert
from hpcsynapse.jobfiles.model import JobFile, Request
from hpcsynapse.jobfiles.reader import DIALECTS, detect, read

DATA = Path(__file__).parents[2] / "data" / "jobfiles"


def said(file: JobFile) -> list[str]:
    return [str(complaint) for complaint in file.complaints]


def given_fields(request: Request) -> dict[str, Any]:
    empty = Request()
    names = Request.__slots__
    return {name: getattr(request, name) for name in names if getattr(request, name) != getattr(empty, name)}


def loadleveler(*lines: str) -> JobFile:
    return read("\n".join([*lines, "# @ queue", ""]).encode(), "loadleveler")


def bsc(*lines: str) -> JobFile:
    full = ["# @ total_tasks = 1", "# @ wall_clock_limit = 60", *lines, ""]
    return read("\n".join(full).encode(), "minotauro")


def test_a_loadleveler_file_of_a_kind_that_is_handed_down() -> None:
    file = read((DATA / "parallel.ll").read_bytes())
    assert (file.dialect, said(file)) == ("loadleveler", [])
    assert given_fields(file.steps[0].request) == {
        "name": "cavity",
        "partition": "parallel",
        "account": "fluid07",
        "nodes": 2,
        "tasks_per_node": 16,
        "cpus": 1,
        "task_memory": 900,
        "seconds": 9000,
        "mail": ("END", "FAIL"),
        "mail_user": "someone@example.org",
        "workdir": "/home/someone/cavity",
        "output": "%x.%j.out",
        "error": "%x.%j.err",
        "copy_environment": True,
        "environment": {"OMP_NUM_THREADS": "1", "MP_SHARED_MEMORY": "yes"},
    }
    assert [line for _, line in file.body][-1] == "mpiexec -n $LOADL_TOTAL_TASKS ./cavity input.dat"


def test_steps_inherit_all_but_their_dependency() -> None:
    file = read((DATA / "steps.ll").read_bytes())
    first, second = (step.request for step in file.steps)
    assert said(file) == []
    assert (first.step, first.seconds, first.partition, first.nodes) == ("prep", 1800, "serial", None)
    assert (second.step, second.dependency, second.partition) == ("run", "(prep == 0)", "large")
    assert (second.geometry, second.nodes, second.all_tasks) == (((0, 1, 2), (3, 4)), 2, 5)
    assert second.features == ("gpu", "ib")
    assert first.environment == second.environment == {"MODEL": "ocean", "LEVELS": "40"}
    assert "MODEL=ocean" not in "\n".join(line for _, line in file.body)


def test_the_file_of_the_thesis() -> None:
    file = read((DATA / "thesis.cmd").read_bytes())
    assert (file.dialect, said(file)) == ("minotauro", [])
    assert given_fields(file.steps[0].request) == {
        "name": "tf",
        "workdir": ".",
        "output": "tf_%j.out",
        "error": "tf_%j.err",
        "nodes": 3,
        "tasks": 3,
        "gpus": 4,
        "cpus": 16,
        "seconds": 900,
        "features": ("k80",),
    }


def test_every_oddity_of_a_bsc_file_is_named_by_line_and_directive() -> None:
    file = read((DATA / "odd.cmd").read_bytes())
    assert said(file) == [
        "line 6: warning: total_tasks: '# all of two nodes' behind '8' is not part of the value",
        "line 7: warning: tasks_per_node: has no '='; read as tasks_per_node = 4",
        "line 9: warning: gpus_per_node: '(K80)' behind '4' is not part of the value",
        "line 10: error: wall_clock_limit: '09:60:00': minutes and seconds go up to 59",
        "line 12: warning: clas: is no keyword of minotauro; did you mean 'class'?",
        "line 13: warning: --reservation=course --mail-user=someone@example.org: an option of sbatch among keywords",
        "line 15: warning: -t 00:20:00: an option of sbatch among keywords",
    ]
    assert given_fields(file.steps[0].request) == {
        "name": "my first job",
        "workdir": ".",
        "output": "out_%j.log",
        "tasks": 8,
        "tasks_per_node": 4,
        "nodes": 2,
        "cpus": 4,
        "gpus": 4,
        "features": ("k80",),
        "reservation": "course",
        "mail_user": "someone@example.org",
        "seconds": 1200,
    }


def test_an_sbatch_script() -> None:
    file = read((DATA / "train.sh").read_bytes())
    assert said(file) == [
        "line 16: warning: sbatch ignores it: only #SBATCH, in capitals and at the very start, counts",
        "line 20: warning: --account=ignored: sbatch ignores it: the first command is in line 18",
    ]
    assert given_fields(file.steps[0].request) == {
        "name": "resnet",
        "nodes": 4,
        "tasks_per_node": 4,
        "gpus": 4,
        "gpu_type": "h100",
        "cpus": 4,
        "seconds": 129600,
        "partition": "gpu",
        "account": "proj-1",
        "output": "logs/%x-%j.out",
        "memory": 0,
        "exclusive": True,
        "mail": ("END", "FAIL"),
        "mail_user": "someone@example.org",
    }
    assert [one.key for one in file.steps[0].without_meaning] == ["hint"]


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_line_ends_marks_and_bytes_of_other_systems(ends: str) -> None:
    text = "#!/bin/bash\n#@ comment = caf\u00e9\n#@ node = 1\n#@ tasks_per_node=1\n#@queue\nrun\n".replace("\n", ends)
    file = read(b"\xef\xbb\xbf" + text.encode())
    assert [(one.line, one.level) for one in file.complaints] == [(1, "refused"), (1, "refused")]
    assert file.steps[0].request.comment == "caf\u00e9"
    assert [line for _, line in file.body] == ["#!/bin/bash", "run"]
    file = read(text.encode("latin-1"))
    assert file.steps[0].request.comment == "caf\u00e9"
    assert any("Latin-1" in one.message and (one.line == 2 or ends == "\r") for one in file.complaints)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["# @ total_tasks = 4"], "line 1: error: node: total_tasks is refused"),
        (["# @ node = 2"], "line 1: error: node: node is refused"),
        (["# @ node = 2", "# @ total_tasks = 8", "# @ tasks_per_node = 4"], "line 3: error: node: node + tasks_per"),
        (["# @ node = 2,4", "# @ total_tasks = 8"], "line 1: error: node: with total_tasks it must be one number"),
        (["# @ task_geometry = {(0,1) (1)}"], "line 1: error: task_geometry: '{(0,1) (1)}': task ids must be unique"),
        (["# @ task_geometry = {0,1}"], "line 1: error: task_geometry: '{0,1}' is no geometry"),
        (["# @ task_geometry = {(0)}", "# @ node = 1"], "line 2: error: node: node + task_geometry is refused"),
        (["# @ node = 4,2", "# @ tasks_per_node = 1"], "line 1: error: node: '4,2': the maximum is below"),
        (["# @ node two", "# @ tasks_per_node = 1"], "line 1: error: node: has no '='"),
        (["# @ wall_clock_limit = 1:70"], "line 1: error: wall_clock_limit: '1:70': minutes and seconds"),
        (["# @ wall_clock_limit = tomorrow"], "line 1: error: wall_clock_limit: 'tomorrow' is not a time"),
        (["# @ wall_clock_limit = 0"], "line 1: error: wall_clock_limit: '0' is no time at all"),
        (["# @ notification = sometimes"], "line 1: error: notification: 'sometimes' is not one of"),
        (["# @ job_type = quantum"], "line 1: error: job_type: 'quantum' is not one of"),
        (["# @ clas = x"], "line 1: error: clas: is no keyword of loadleveler; did you mean 'class'?"),
        (["# @ hello world"], "line 1: error: hello: has no '='"),
        (["# @ output ="], "line 1: error: output: has no value"),
        (["# @ (odd)"], "line 1: error: '(odd)' is not a keyword and a value"),
        (["# @ comment = a \\", "# @ class = b"], "line 1: error: ends with a backslash"),
        (["# @ class = a", "# @ class = b"], "line 2: warning: class: was given in line 1 already"),
        (["# @ requirements = (Memory > 3)"], "line 1: warning: requirements: only (Feature"),
        (["# @ resources = lots"], "line 1: error: resources: 'lots': write ConsumableCpus(n)"),
        (["# @ output = $(home)/x"], "line 1: error: output: $(home) has no pattern elsewhere"),
        (["#SBATCH --nodes=2"], "line 1: warning: --nodes=2: is a comment to LoadLeveler"),
        (["# @ environment = COPY_ALL; what"], "line 1: warning: environment: not understood: what"),
    ],
)
def test_what_loadleveler_would_refuse(lines: list[str], complaint: str) -> None:
    assert any(one.startswith(complaint) for one in said(loadleveler(*lines))), said(loadleveler(*lines))


@pytest.mark.parametrize(
    "lines",
    [
        ["# @ node = 2", "# @ total_tasks = 7"],
        ["# @ total_tasks = 8", "# @ blocking = unlimited"],
        ["# @ total_tasks = 8", "# @ blocking = 4"],
        ["# @ node = 2", "# @ tasks_per_node = 4"],
        ["# @ node = 2,4", "# @ tasks_per_node = 4"],
        ["# @ task_geometry = {(5,2) (1,3) (4,6,0)}"],
        ["# @ job_type = serial"],
        ["#\t@JOB_NAME\t=\tx"],
        ["## @ node = 2", "##@ node = 3", "# #@ node = 4"],
        ["# @ wall_clock_limit = 100"],
        ["# @ wall_clock_limit = 90:00"],
        ["# @ wall_clock_limit = 30:00:00,29:00:00"],
    ],
)
def test_what_loadleveler_accepts(lines: list[str]) -> None:
    assert said(loadleveler(*lines)) == []


def test_statements_behind_the_last_queue_and_a_missing_one() -> None:
    file = read(b"# @ class = a\n# @ queue\n# @ class = b\n")
    assert said(file) == ["line 3: warning: class: is ignored: the last # @ queue is in line 2"]
    assert said(read(b"# @ class = a\n", "loadleveler")) == ["line 1: error: queue: # @ queue is missing: no step ends"]


def test_limits_of_known_nodes() -> None:
    file = bsc("# @ features = m2090", "# @ gpus_per_node = 4", "# @ cpus_per_task = 16")
    assert said(file) == [
        "line 4: error: gpus_per_node: 4 on a node that has 2",
        "line 5: error: cpus_per_task: 16 on a node that has 12",
    ]
    assert [one.where for one in read(b"# @ features = k80\n").complaints] == ["total_tasks", "wall_clock_limit"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("1:02:03", 3723), ("2-3", 183600), ("1-2:30", 95400), ("1-02:03:04", 93784)],
)
def test_times_of_sbatch(text: str, seconds: int) -> None:
    assert read(f"#SBATCH --time={text}\n".encode()).steps[0].request.seconds == seconds


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("--nodes", "nodes: has no value"),
        ("-N two", "nodes: 'two' is not a number"),
        ("stray", "stray: is not an"),
        ("--nodse=2", "nodse: sbatch has no such option"),
        ('--comment="open', "is not closed"),
        ("--time=1:2:3:4", "time: '1:2:3:4' is not a time"),
        ("--gpus=3 --nodes=2", ""),
    ],
)
def test_what_is_wrong_with_options(line: str, complaint: str) -> None:
    assert any(complaint in one for one in said(read(f"#SBATCH {line}\n".encode()))) or not complaint


def test_the_dialect_is_told_from_the_file() -> None:
    assert detect(["# @ node = 1", "# @ queue"]) == "loadleveler"
    assert detect(["# @ gpus_per_node = 1", "# @ queue"]) == "minotauro"
    assert detect(["#@ job_name = x"]) == "minotauro"
    assert detect(["#SBATCH -N 2", "# @ me", "#SBATCH -n 2"]) == "slurm"
    assert detect(["echo"]) == "slurm"


@given(st.binary(max_size=300), st.sampled_from(sorted(DIALECTS)))
def test_any_bytes_are_survived(data: bytes, dialect: str) -> None:
    read(data, dialect)


WORDS = st.sampled_from(
    [
        "output = a$(x)\n",
        "step_name = ../b\n",
        "dependency = (a == 0)\n",
        "# @ queue\n",
        "--mem=0\n",
        "--gpus=2080ti:3\n",
        "--gres=gpu:",
        "--gpus-per-task=",
        "--part=",
        "#PBS -l x\n",
        "#PBS ",
        "#BSUB ",
        "#$ ",
        "-l ",
        "select=2:ncpus=4:mpiprocs=2:ngpus=1:x=y",
        "nodes=2:ppn=4",
        "place=free",
        "-pe mpi-4 8\n",
        "-pe mpi 4-8\n",
        "rt_F=2",
        "h_rt=::5",
        '-R "span[ptile=4] rusage[mem=4GB,x=1]"\n',
        "-gpu num=2:mode=x\n",
        "-J a[1-4]%2\n",
        "-n 8\n",
        "-W ",
        "depend=afterok:1",
        "-o $JOB_ID$HOME^array_index^\n",
        "-v A=1,B\n",
        "-V",
        "UNLIMITED",
        "error = $(output)\n",
        "executable = $(executable)\n",
        "environment = A=1;B=$(x)\n",
        "--export=A=1,B\n",
        "# @ node = 2\n",
        "# @ ",
        "#@",
        "#SBATCH ",
        "node",
        "queue",
        "total_tasks",
        "=",
        " ",
        "\t",
        "\n",
        "\\\n",
        "2",
        "{(0)}",
        "'",
        '"',
        "--nodes",
        "-t",
        "wall_clock_limit",
        "1:00",
        "$(jobid)",
        "%j",
    ]
)


@given(st.lists(WORDS, max_size=40), st.sampled_from(sorted(DIALECTS)))
def test_any_mixture_of_what_files_hold_is_survived_and_converted(words: list[str], dialect: str) -> None:
    file = read("".join(words).encode(), dialect)
    for target in DIALECTS:
        for result in convert(file, target):
            assert "/" not in result.step
            read(result.text.encode(), target)
