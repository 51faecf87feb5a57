"""One contract for every queue adapter: argv out, text in. Texts are what the real commands print."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.errors import SchedulerOutputError
from hpcsynapse.schedulers import SCHEDULERS, create
from hpcsynapse.schedulers.slurm import expand_array
from hpcsynapse.spec import SCHEDULERS as NAMES

U = "\x1f"
SUBMITTED = {
    "slurm": [("123\n", "123"), ("123;cluster\n", "123"), ("Welcome to the cluster!\n\n4711\n", "4711")],
    "loadleveler": [
        ('llsubmit: The job "ll1.123" has been submitted.\n', "ll1.123.0"),
        (
            'Welcome!\n  quota: 3 %\n\nllsubmit: Processed command file through Submit Filter: "/opt/f".\n'
            'llsubmit: The job "ll1.site.org.4711" with 2 job steps has been submitted.\nbye\n',
            "ll1.4711.0",
        ),
    ],
    "minotauro": [("Submitted batch job 123\n", "123"), ("*** MinoTauro ***\n\nSubmitted batch job 4711\n", "4711")],
    "local": [("node-1.site:4711:123456\n", "node-1.site:4711:123456")],
}
STATUS = {
    "slurm": (
        f"banner\n1{U}PENDING{U}Priority{U}\n2{U}RUNNING{U}None{U}n[1-2]\n3{U}COMPLETED{U}None{U}n1\n"
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
    "local": ("h:1:2 RUNNING\nother:3:4 ELSEWHERE\n", {"h:1:2": "RUNNING", "other:3:4": "UNKNOWN"}),
}


def test_the_table_holds_exactly_the_queues_there_are() -> None:
    assert set(SCHEDULERS) == {"slurm", "loadleveler", "minotauro", "local"} == set(NAMES) - {"auto"}


@pytest.mark.parametrize("name", SCHEDULERS)
class TestContract:
    def test_names_and_files(self, name: str) -> None:
        adapter = create(name)
        assert adapter.name == name
        assert (Path(__file__).parents[2] / "templates" / adapter.template).is_file()
        assert adapter.job_file and adapter.job_id_variable

    def test_submit_is_argv_with_the_script(self, name: str) -> None:
        argv = create(name).submit_command(Path("/runs/a b/job.sh"))
        assert argv[-1] == "/runs/a b/job.sh"
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
        lists_all = argv == ["mnq"]
        assert lists_all or ("11" in " ".join(argv) and "13" in " ".join(argv))

    def test_status_is_read_and_unknown_states_do_not_fail(self, name: str) -> None:
        text, states = STATUS[name]
        assert {key: job.state for key, job in create(name).parse_status(text).items()} == states
        assert create(name).parse_status("") == {}

    @given(text=st.text())
    def test_any_text_is_survived(self, name: str, text: str) -> None:
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
        ("12", ["12"]), ("12_3", ["12_3"]), ("12_[0-2]", ["12_0", "12_1", "12_2"]),
        ("12_[0-10:5%3]", ["12_0", "12_5", "12_10"]), ("12_[0,3,7-8]", ["12_0", "12_3", "12_7", "12_8"]),
        ("12_[0-5,...]", ["12_[0-5,...]"]),
    ],
)  # fmt: skip
def test_array_ids(text: str, ids: list[str]) -> None:
    assert expand_array(text) == ids


def test_a_queue_that_forgot_is_told_from_one_that_fails() -> None:
    slurm = create("slurm")
    assert slurm.unknown_jobs(1, "slurm_load_jobs error: Invalid job id specified\n")
    assert not slurm.unknown_jobs(1, "slurm_load_jobs error: Unable to contact slurm controller\n")
