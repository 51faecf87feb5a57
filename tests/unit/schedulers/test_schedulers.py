"""One contract for every queue adapter: argv out, text in. Texts are what the real commands print."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import invented_queue
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import mutations

from hpcsynapse.errors import SchedulerOutputError
from hpcsynapse.schedulers import SCHEDULERS, create
from hpcsynapse.schedulers.base import QueueState
from hpcsynapse.schedulers.pbs_answers import END as PBS_END
from hpcsynapse.schedulers.slurm import expand_array
from hpcsynapse.spec.names import SCHEDULERS as NAMES
from hpcsynapse.templating import builtin_templates

U = "\x1f"
SUBMITTED = {
    "slurm": [
        ("123\n", "123"),
        ("123;cluster\n", "123;cluster"),
        ("Welcome to the cluster!\n\n4711\n", "4711"),
        ("4711  \r\n", "4711"),
        ("Submitted batch job 9000003\n", "9000003"),
        ("2026\nSubmitted batch job 77\n2027\n", "77"),
        ("Submitted batch job 12 on cluster slaking\n", "12;slaking"),
    ],
    "loadleveler": [
        ('llsubmit: The job "ll1.123" has been submitted.\n', "ll1.123.0"),
        (
            'Welcome!\n  quota: 3 %\n\nllsubmit: Processed command file through Submit Filter: "/opt/f".\n'
            'llsubmit: The job "ll1.site.org.4711" with 2 job steps has been submitted.\nbye\n',
            "ll1.4711.0",
        ),
    ],
    "minotauro": [("Submitted batch job 123\n", "123"), ("*** MinoTauro ***\n\nSubmitted batch job 4711\n", "4711")],
    "gridengine": [
        ("17\n", "17"),
        ("19.1-5:2\n", "19"),
        ("warning: job never runs in this queue\n33\n", "33"),
        ('Your job 33 ("a,b") has been submitted\n', "33"),
        ('Your job-array 18.1-5:2 ("arr") has been submitted\n', "18"),
    ],
    "pbs": [
        ("123.lab1\n", "123"),
        ("Welcome!\n123[].polaris-pbs-01.hsn.cm.polaris.alcf.anl.gov\n", "123[]"),
        ("4711\r\n", "4711"),
    ],
    "torque": [("123.server\n", "123")],
    "lsf": [
        ("Job <123> is submitted to queue <normal>.\n", "123"),
        ("*** INFO *** Job <1>\nJob <4711> is submitted to default queue <normal>.\n", "4711"),
    ],
    "flux": [("\u01922n8dWE\n", "f2n8dWE"), ("welcome\nf55VWSHM\n", "f55VWSHM")],
    "invented": invented_queue.SUBMITTED,
    "hosts": [("n1.site:4711:123456\n", "n1.site:4711:123456")],
    "local": [("node-1.site:4711:123456\n", "node-1.site:4711:123456")],
}
STATUS = {
    "slurm": (
        f"banner\nJOBID{U}STATE{U}REASON{U}NODELIST\n1{U}PENDING{U}Priority{U}\n2{U}RUNNING{U}None{U}n[1-2]\n3{U}COMPLETED{U}None{U}n1\n"
        f"4{U}CANCELLED by 1000{U}None{U}n1\n5{U}NODE_FAIL{U}None{U}n1\n6{U}NEW_STATE{U}None{U}n1\n"
        f"7{U}TIMEOUT{U}TimeLimit{U}n1\n",
        {
            "1": "QUEUED",
            "2": "RUNNING",
            "3": "COMPLETED",
            "4": "CANCELLED",
            "5": "FAILED",
            "6": "UNKNOWN",
            "7": "FAILED",
        },
    ),
    "loadleveler": (
        "banner\nll1.1.0!I\nll1.site.org.2.0!R\nll1.3.1!ST\nll1.4.0!C\nll1.5.0!CA\nll1.6.0!X\nll1.7.0!ZZ\nll1.8.0!H\n"
        "llq: There is currently no job status to report.\n",
        {
            "ll1.1.0": "QUEUED",
            "ll1.2.0": "RUNNING",
            "ll1.3.1": "RUNNING",
            "ll1.4.0": "COMPLETED",
            "ll1.5.0": "CANCELLED",
            "ll1.6.0": "FAILED",
            "ll1.7.0": "UNKNOWN",
            "ll1.8.0": "QUEUED",
        },
    ),
    "minotauro": (
        "*** banner ***\nJOBID  NAME        USER  STATE      TIME  TIMELIMIT  CPUS  NODES  NODELIST(REASON)\n"
        "1      tf          me    PENDING    0:00  15:00      48    3      (Priority)\n"
        "2      my long job me    RUNNING    1:00  15:00      48    3      nvb[1-3]\n"
        "3      tf          me    COMPLETED  1:00  15:00      48    3      nvb[1-3]\n"
        "4_1    tf          me    TO         1:00  15:00      48    3      nvb[1-3]\n"
        "5      tf          me    NEW_STATE  1:00  15:00      48    3      nvb[1-3]\n",
        {"1": "QUEUED", "2": "RUNNING", "3": "COMPLETED", "4_1": "FAILED", "5": "UNKNOWN"},
    ),
    "gridengine": (
        '<?xml version=\'1.0\'?>\n<job_info  xmlns:xsd="x">\n<queue_info>\n<job_list state="running">'
        "<JB_job_number>16</JB_job_number><state>r</state><queue_name>all.q@lab1</queue_name></job_list>\n</queue_info>\n"
        "<job_info><job_list><JB_job_number>12</JB_job_number><state>hqw</state></job_list>"
        "<job_list><JB_job_number>13</JB_job_number><state>?</state></job_list></job_info>\n</job_info>\n",
        {"16": "RUNNING", "12": "QUEUED", "13": "UNKNOWN"},
    ),
    "pbs": (
        "Job Id: 1.lab1\n    job_state = Q\n\nJob Id: 2[1].lab1\n    job_state = R\n\n"
        "Job Id: 3.lab1\n    job_state = ?\n\n"
        f"{PBS_END}\n",
        {"1": "QUEUED", "2[1]": "RUNNING", "3": "UNKNOWN"},
    ),
    "torque": (f"Job Id: 1.lab1\n    job_state = C\n    exit_status = 1\n\n{PBS_END}\n", {"1": "FAILED"}),
    "lsf": (
        '{"COMMAND":"bjobs","JOBS":3,"RECORDS":[{"JOBID":"1","STAT":"PEND"},{"JOBID":"2","JOBINDEX":"4","STAT":"RUN"},'
        '{"JOBID":"3","STAT":"?"},{"JOBID":"4","ERROR":"Job <4> is not found"}]}',
        {"1": "QUEUED", "2[4]": "RUNNING", "3": "UNKNOWN"},
    ),
    "flux": (
        '{"jobs": [{"jobid": "\\u01921", "status": "SCHED"}, {"jobid": "f2", "status": "RUN"},'
        ' {"jobid": "f3", "status": "?"}]}',
        {"f1": "QUEUED", "f2": "RUNNING", "f3": "UNKNOWN"},
    ),
    "invented": invented_queue.STATUS,
    "hosts": (
        "n1:1:2 RUNNING\nn1:3:4 WAITING waits for free GPUs\nn2:5:6 NO_ANSWER host n2: ssh: timed out\n",
        {"n1:1:2": "RUNNING", "n1:3:4": "QUEUED", "n2:5:6": "UNKNOWN"},
    ),
    "local": ("h:1:2 RUNNING\nother:3:4 ELSEWHERE\n", {"h:1:2": "RUNNING", "other:3:4": "UNKNOWN"}),
}


# Queues whose answers have an end of their own; lines without one are whole where the command has succeeded.
WITH_AN_END = {"gridengine", "pbs", "torque", "lsf", "flux"}


def test_the_table_holds_exactly_the_queues_there_are() -> None:
    names = {"slurm", "loadleveler", "minotauro", "local", "gridengine", "pbs", "torque", "lsf", "flux", "hosts"}
    assert set(SCHEDULERS) == names == set(NAMES) - {"auto"}


@pytest.fixture(scope="class")
def invented() -> Iterator[None]:
    """The row of a queue that is not in the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCHEDULERS, "invented", invented_queue.ROW)
        yield


@pytest.mark.usefixtures("invented")
@pytest.mark.parametrize("name", [*SCHEDULERS, "invented"])
class TestContract:
    def test_names_and_files(self, name: str) -> None:
        adapter = create(name)
        assert adapter.name == name
        places = (builtin_templates(), Path(invented_queue.__file__).parent / "templates")
        assert any((place / adapter.template).is_file() for place in places)
        assert adapter.job_file and adapter.job_id_variable

    def test_submit_is_argv_with_the_script(self, name: str) -> None:
        adapter = create(name)
        argv = adapter.submit_command(Path("/runs/a b/job.sh"))
        assert (argv[-1] == "/runs/a b/job.sh") is not adapter.reads_stdin
        assert all(isinstance(word, str) and word for word in argv)

    def test_job_id_is_found_in_real_output(self, name: str) -> None:
        for text, job_id in SUBMITTED[name]:
            assert create(name).parse_job_id(text) == job_id

    @pytest.mark.parametrize("text", ["", "error\n", "sbatch: error: x\n", "12a\n"])
    def test_output_without_an_id_is_an_error_with_the_text(self, name: str, text: str) -> None:
        with pytest.raises(SchedulerOutputError) as caught:
            create(name).parse_job_id(text)
        assert caught.value.stdout == text

    def test_one_command_asks_for_all_jobs(self, name: str) -> None:
        argv = create(name).status_command(["11", "12", "13"])
        lists_all = argv == ["mnq"] or argv[:3] == ["qstat", "-xml", "-u"]
        assert lists_all or ("11" in " ".join(argv) and "13" in " ".join(argv))

    def test_status_is_read_and_unknown_states_do_not_fail(self, name: str) -> None:
        text, states = STATUS[name]
        assert {key: job.state for key, job in create(name).parse_status(text).items()} == states

    @given(text=st.text())
    def test_any_text_is_survived(self, name: str, text: str) -> None:
        with suppress(SchedulerOutputError):
            create(name).parse_status(text)

    @pytest.mark.slow
    def test_twenty_thousand_broken_answers_are_survived(self, name: str) -> None:
        for text in mutations([STATUS[name][0]], 20_000, random.Random(19)):
            with suppress(SchedulerOutputError):
                found = create(name).parse_status(text)
                assert all(job.state in QueueState for job in found.values())

    def test_an_answer_that_is_cut_anywhere_does_not_say_that_jobs_are_gone(self, name: str) -> None:
        if name not in WITH_AN_END:
            return
        text = STATUS[name][0].rstrip()
        for end in range(len(text)):
            with pytest.raises(SchedulerOutputError):
                create(name).parse_status(text[:end])

    @pytest.mark.parametrize("text", ["rubbish\n", "<html>502 Bad Gateway</html>", "1 2 3 4\n", "JOB\n"])
    def test_what_is_not_the_queues_answer_does_not_say_that_jobs_are_gone(self, name: str, text: str) -> None:
        with pytest.raises(SchedulerOutputError):
            create(name).parse_status(text)

    def test_cancel_names_the_job(self, name: str) -> None:
        assert create(name).cancel_command("42")[-1] == "42"


def test_loadleveler_says_that_nothing_is_left() -> None:
    loadleveler = create("loadleveler")
    message = "llq: There is currently no job status to report.\n"
    assert loadleveler.parse_status(message) == {}
    assert loadleveler.unknown_jobs(1, message)
    assert not loadleveler.unknown_jobs(1, "llq: 2512-301 An error occurred while receiving data\n")


def test_a_dependency_is_said_where_the_queue_reads_it() -> None:
    assert create("minotauro").submit_options("afterok:7:8") == ["-dep", "afterok:7:8"]
    assert create("slurm").submit_options("afterok:7:8") == []


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("12", ["12"]),
        ("12_3", ["12_3"]),
        ("12_[0-2]", ["12_0", "12_1", "12_2"]),
        ("12_[0-10:5%3]", ["12_0", "12_5", "12_10"]),
        ("12_[0,3,7-8]", ["12_0", "12_3", "12_7", "12_8"]),
        ("12_[0-5,...]", ["12_[0-5,...]"]),
        ("12_[,]", ["12_[,]"]),
        ("12_[0-99999999999]", ["12_[0-99999999999]"]),
        ("12_[5-1]", []),
    ],
)
def test_array_ids(text: str, ids: list[str]) -> None:
    assert expand_array(text) == ids


HEAD = f"JOBID{U}STATE{U}REASON{U}NODELIST\n"


@pytest.mark.parametrize(
    "rows",
    [
        "9",
        f"12_3{U}RUNNING{U}No",
        f"12_3{U}RUNNING{U}None{U}n1\n12_4{U}PEN",
        f"12_[0-5,...]{U}PENDING{U}x{U}\n",
        f"12_[1-999999999999]{U}PENDING{U}x{U}\n",
        f"12_[,]{U}PENDING{U}x{U}\n",
        f"\N{ARABIC-INDIC DIGIT ONE}2{U}FAILED{U}x{U}\n",
        f"{U}FAILED{U}x{U}\n",
    ],
)
def test_an_answer_that_is_cut_does_not_say_that_jobs_are_gone(rows: str) -> None:
    with pytest.raises(SchedulerOutputError, match="not understood"):
        create("slurm").parse_status(HEAD + rows)


def test_words_of_a_site_below_the_rows_are_passed_over() -> None:
    text = f"{HEAD}12{U}RUNNING{U}None{U}n1\nYour project ends on Friday\n"
    assert list(create("slurm").parse_status(text)) == ["12"]


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        ("\nsbatch: Submitted batch job 77123 on cluster daint-2  \n", "77123;daint-2"),
        ("[12:01] Submitted batch job 77124.\nThank you\n", "77124"),
    ],
)
def test_the_sentence_of_a_wrapper_is_found_wherever_it_stands(text: str, job_id: str) -> None:
    assert create("slurm").parse_job_id(text) == job_id


def test_a_queue_that_forgot_is_told_from_one_that_fails() -> None:
    slurm = create("slurm")
    assert slurm.unknown_jobs(1, "slurm_load_jobs error: Invalid job id specified\n")
    assert not slurm.unknown_jobs(1, "slurm_load_jobs error: Unable to contact slurm controller\n")


def test_a_number_that_may_be_the_year_is_not_taken_for_the_job() -> None:
    with pytest.raises(SchedulerOutputError, match="several numbers"):
        create("slurm").parse_job_id("4711\n2026\n")


def test_jobs_of_another_cluster_are_asked_for_and_ended_there() -> None:
    slurm = create("slurm")
    assert slurm.batches(["1", "2;other", "3"]) == [["1", "3"], ["2;other"]]
    assert "--clusters=other" in slurm.status_command(["2;other"]) and "--jobs=2" in slurm.status_command(["2;other"])
    assert not any(word.startswith("--clusters") for word in slurm.status_command(["1", "3"]))
    assert slurm.cancel_command("2;other") == ["scancel", "--clusters=other", "2"]
    text = f"CLUSTER: other\nJOBID{U}STATE{U}REASON{U}NODELIST\n2{U}RUNNING{U}None{U}n1\n"
    assert list(slurm.parse_status(text)) == ["2;other"]
    assert slurm.array_task_id("2;other", 5) == "2_5;other"


def test_what_squeue_says_of_job_files() -> None:
    slurm = create("slurm")
    assert slurm.parse_found(f"hello\nJOBID{U}COMMAND{U}NAME\n7{U}/runs/a b/job.sh{U}a b\n8_1{U}/x{U}y\n") == [
        ("7", "/runs/a b/job.sh", "a b"),
        ("8_1", "/x", "y"),
    ]
    with pytest.raises(SchedulerOutputError):
        slurm.parse_found("7 /runs/job.sh\n")


@pytest.mark.parametrize(
    ("message", "unclear"),
    [
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", True),
        ("sbatch did not answer within 120 s", True),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", True),
        ("sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received", True),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination", False),
        ("sbatch: error: invalid partition specified: gpu", False),
        ("sbatch: unrecognized option '--gpus-per-nod=4'", False),
    ],
)
def test_a_refusal_is_told_from_a_failure_on_the_way(message: str, unclear: bool) -> None:
    assert create("slurm").maybe_taken(message) is unclear
