"""Farms, and lists written by hand, run by processes of this machine and by a fake of Greasy: the same records."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from greasy_cases import FAKE_GREASY, NASTY, Greasy, tasks
from hypothesis import HealthCheck, given, settings

from hpcsynapse.errors import HpcSynapseError, SpecError
from hpcsynapse.greasy.check import check_text
from hpcsynapse.greasy.farm import Farm, from_toml, parse_grid, tasks_of, write_farm
from hpcsynapse.greasy.run import run_list
from hpcsynapse.greasy.work import RunRequest

pytestmark = pytest.mark.slow  # lists that are run, with their processes

HAND = """# lines that Greasy itself would get wrong under srun
VAR=7; echo $VAR > seven
[# 2 #] cat seven
false

[# 4 #] echo never
[@ sub @] pwd
[# 3, 7 #] kill -9 $$
test -f again || { touch again; exit 9; }
"""
BACKENDS = {
    "local": ("--by", "local", "--workers", "2"),
    "greasy": (
        "--by",
        "greasy",
        "--greasy",
        str(FAKE_GREASY),
        "--hosts",
        "localhost,localhost",
        "--engine",
        "basic-ssh",
    ),
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_end_is_reported_as_what_it_is(greasy: Greasy, workdir: Path, backend: str) -> None:
    (workdir / "hand").write_text(HAND)
    (workdir / "sub").mkdir()
    done = greasy("run", "hand", "--json", "--retries", "1", *BACKENDS[backend])
    assert done.returncode == 1
    found = tasks(done)
    assert {line: one["state"] for line, one in found.items()} == {
        2: "ok",
        3: "ok",
        4: "failed",
        6: "cancelled",
        7: "ok",
        8: "killed",
        9: "ok",
    }, done.stderr
    assert (found[8]["signal"], found[8]["exit_code"], found[4]["exit_code"]) == ("KILL", 137, 1)
    assert (found[9]["attempts"], found[4]["attempts"]) == (2, 2)
    assert found[8]["command"] == "kill -9 $$"
    assert (workdir / "hand.d" / "logs" / "task_3.log").read_text() == "7\n"
    # The list's own relative folder is found from where the run was started.
    assert (workdir / "hand.d" / "logs" / "task_7.log").read_text() == f"{workdir / 'sub'}\n"
    summary = greasy("summary", "hand").stdout
    assert "7 tasks: 4 ok, 1 failed, 1 killed, 1 cancelled" in summary
    rows = list(csv.DictReader(greasy("summary", "hand.d", "--csv").stdout.splitlines()))
    assert [row["state"] for row in rows if row["line"] == "4"] == ["failed"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_resume_runs_only_what_has_not_succeeded(greasy: Greasy, workdir: Path, backend: str) -> None:
    count = "echo x >> count-{0}; test {0} != 2 || test -f allowed"
    lines = [count.format(1), count.format(2), "[# 1-2 #] " + count.format(3), count.format(4)]
    (workdir / "list").write_text("\n".join(lines) + "\n")
    assert greasy("run", "list", *BACKENDS[backend]).returncode == 1
    (workdir / "allowed").touch()
    done = greasy("run", "list", "--resume", "--json", *BACKENDS[backend])
    assert (done.returncode, {one["state"] for one in tasks(done).values()}) == (0, {"ok"})
    assert [(workdir / f"count-{number}").read_text().count("x") for number in (1, 2, 3, 4)] == [1, 2, 1, 1]
    assert greasy("run", "list", "--resume", *BACKENDS[backend]).returncode == 0
    (workdir / "list").write_text("\n".join([*lines[:3], "echo changed >> count-4"]) + "\n")
    assert greasy("run", "list", "--resume", *BACKENDS[backend]).returncode == 0
    assert (workdir / "count-4").read_text() == "x\nchanged\n"  # a line that has changed since is not done
    assert (workdir / "count-1").read_text() == "x\n"


def test_what_greasy_is_given_and_what_it_leaves(greasy: Greasy, workdir: Path) -> None:
    (workdir / "list").write_text("true\nfalse\n[# 2 #] true\nkill -9 $(cut -d' ' -f4 /proc/$PPID/stat) $PPID\n")
    options = ("--by", "greasy", "--greasy", str(FAKE_GREASY), "--hosts", "localhost,localhost", "--workers", "2")
    done = greasy(
        "run",
        "list",
        "--json",
        "--retries",
        "1",
        "--engine",
        "basic-ssh",
        *options,
        FAKE_GREASY_CALLS=str(workdir / "calls"),
    )
    given = json.loads((workdir / "calls").read_text())
    assert given == {
        "GREASY_ENGINE": "basic",
        "GREASY_BASICREMOTEMETHOD": "ssh",
        "GREASY_NWORKERS": "4",
        "GREASY_MAXRETRIES": "1",
        "GREASY_NODELIST": "localhost,localhost,localhost,localhost",
        "GREASY_STRICTCHECK": "yes",
        "GREASY_LOGFILE": "greasy.log",
        "GREASY_LOGLEVEL": "3",
    }
    # The killed script is "completed" for Greasy; that it left no end is what counts.
    assert {line: one["state"] for line, one in tasks(done).items()} == {
        1: "ok",
        2: "failed",
        3: "cancelled",
        4: "lost",
    }
    log = greasy("summary", "list.d/greasy.log", "--json", "--rst", "list.d/run.greasy-undefined.rst")
    told = json.loads(log.stdout)
    assert told["counts"] == {"tasks": 4, "ok": 2, "failed": 1, "cancelled": 1, "invalid": 0}
    assert [one["state"] for one in told["tasks"]] == ["ok", "failed", "cancelled", "ok"]
    assert told["tasks"][1]["attempts"] == 2
    # A restart file is a list whose lines still record under their first names.
    done = greasy("run", "list.d/run.greasy-undefined.rst", "--json", "--by", "local")
    assert [one["state"] for one in tasks(done).values()] == ["failed", "cancelled"]


def test_mpi_engine_and_lists_with_roles_under_greasy(greasy: Greasy, workdir: Path) -> None:
    assert greasy("build", "--hosts", "localhost,localhost", "--", "true").returncode == 0
    done = greasy(
        "run",
        "greasy/tasks.greasy",
        "--json",
        "--engine",
        "mpi",
        *BACKENDS["greasy"][:-2],
        FAKE_GREASY_CALLS=str(workdir / "calls"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((workdir / "calls").read_text())["GREASY_ENGINE"] == "mpi"
    assert greasy("run", "greasy/tasks.greasy", "--retries", "1", *BACKENDS["greasy"]).returncode == 2


def test_a_greasy_that_does_nothing_is_no_success(greasy: Greasy, workdir: Path) -> None:
    (workdir / "greasy").write_text("#!/bin/sh\necho 'Usage: greasy <taskfile.txt>'\nexit 0\n")
    (workdir / "greasy").chmod(0o755)
    (workdir / "list").write_text("true\n")
    done = greasy("run", "list", "--by", "greasy", "--greasy", "./greasy", "--hosts", "localhost")
    assert done.returncode == 1
    assert "1 task: 1 not-run" in done.stdout


def test_a_script_that_is_killed_is_reported_and_tried_again(workdir: Path) -> None:
    (workdir / "list").write_text("kill -9 $PPID\ntrue\n")
    said: list[str] = []
    done = run_list(workdir / "list", RunRequest(by="local", workers=1, retries=1), said.append)
    assert [(one.state, one.signal, one.attempts) for one in done.outcomes] == [("killed", "KILL", 2), ("ok", None, 1)]
    assert "retry 1 of 1" in said[0]


def test_order_is_that_of_the_file_and_no_more_run_than_there_are_workers(greasy: Greasy, workdir: Path) -> None:
    (workdir / "list").write_text("".join(f"echo {n} >> order; sleep 0.05; echo -{n} >> order\n" for n in range(1, 7)))
    assert greasy("run", "list", "--workers", "1").returncode == 0
    assert (workdir / "order").read_text().split() == [text for n in range(1, 7) for text in (str(n), f"-{n}")]


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < limit, f"{path} has not come"
        time.sleep(0.02)


# Saves for a second when it is told to end, and notes that it has.
SAVING = """trap 'sleep 1; echo saved > saved-$1; exit 0' TERM
echo started > started-$1
while :; do sleep 0.1; done
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_task_that_is_told_to_end_may_save(workdir: Path, backend: str) -> None:
    (workdir / "saving.sh").write_text(SAVING)
    (workdir / "list").write_text("bash saving.sh 1\nbash saving.sh 2 && true\n")
    child = subprocess.Popen(
        [sys.executable, "-m", "hpcsynapse", "greasy", "run", "list", "--json", *BACKENDS[backend]],
        stdout=subprocess.PIPE,
    )
    for number in (1, 2):
        wait_for(workdir / f"started-{number}")
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=40)
    assert child.returncode == 143
    assert [(one["state"], one["exit_code"]) for one in json.loads(out)["tasks"]] == [("killed", 143)] * 2
    assert (workdir / "saved-1").exists() and (workdir / "saved-2").exists()


def with_grace(script: Path, seconds: int) -> None:
    """Shorten the grace of a task script."""
    text = script.read_text()
    assert "\nhpcs_grace=10 " in text
    script.write_text(text.replace("\nhpcs_grace=10 ", f"\nhpcs_grace={seconds} "))


@pytest.mark.slow
def test_what_exceeds_its_limit_is_dead_before_it_is_recorded(workdir: Path) -> None:
    (workdir / "stubborn.sh").write_text("trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done\n")
    write_farm(workdir / "farm", Farm(command=("sh", "-c", "bash stubborn.sh; true"), grid={}), str(workdir), limit=1)
    with_grace(workdir / "farm" / "task.sh", 1)
    done = subprocess.run(["bash", str(workdir / "farm" / "task.sh"), "1"], timeout=30)
    assert done.returncode == 124
    with suppress(OSError):
        assert Path("/proc", (workdir / "pid").read_text().strip(), "stat").read_text().split()[2] == "Z"
    record = json.loads((workdir / "farm" / "results" / "task_1.json").read_text())
    assert (record["exit_code"], record["reason"]) == (124, "not done within 1 s")
    assert record["end"] - record["start"] > 1.9


def test_a_line_never_runs_twice_at_a_time(greasy: Greasy, workdir: Path) -> None:
    (workdir / "list").write_text("true\necho x >> starts; touch started; while [ ! -e go ]; do sleep 0.05; done\n")
    first = subprocess.Popen(
        [sys.executable, "-m", "hpcsynapse", "greasy", "run", "list", "--workers", "1"], stdout=subprocess.DEVNULL
    )
    wait_for(workdir / "started")
    first.kill()
    first.wait()
    assert [one["state"] for one in tasks(greasy("summary", "list", "--json")).values()] == ["ok", "running"]
    done = greasy("run", "list", "--resume")
    assert done.returncode == 2
    assert "line 2 of an earlier run is still at work" in done.stderr
    with_grace(workdir / "list.d" / "task.sh", 1)
    assert subprocess.run(["bash", "list.d/task.sh", "2"], timeout=30).returncode == 75
    (workdir / "go").touch()
    wait_for_end(workdir / "list.d" / "results" / "task_2.json")
    assert (workdir / "starts").read_text() == "x\n"


def wait_for_end(record: Path) -> None:
    limit = time.monotonic() + 30
    while json.loads(record.read_text())["state"] != "ended":
        assert time.monotonic() < limit, f"{record} tells of no end"
        time.sleep(0.02)


REMOTE = ("--by", "greasy", "--greasy", str(FAKE_GREASY), "--hosts", "elsewhere1,elsewhere2", "--engine", "basic-ssh")


def start_elsewhere(workdir: Path) -> subprocess.Popen[str]:
    """Start tasks out of reach of the signals that end Greasy and ssh."""
    (workdir / "saving.sh").write_text(SAVING)
    (workdir / "list").write_text("bash saving.sh 1\nbash saving.sh 2\n")
    environ = {**os.environ, "PATH": f"{FAKE_GREASY.parent}:{os.environ['PATH']}"}
    with (workdir / "said").open("w") as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "hpcsynapse", "greasy", "run", "list", "--json", *REMOTE],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
    for number in (1, 2):
        wait_for(workdir / f"started-{number}")
    return child


@pytest.mark.slow
def test_an_interrupted_greasy_leaves_nothing_at_work(greasy: Greasy, workdir: Path) -> None:
    child = start_elsewhere(workdir)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert [(one["state"], one["exit_code"]) for one in json.loads(out)["tasks"]] == [("killed", 143)] * 2
    assert (workdir / "saved-1").exists() and (workdir / "saved-2").exists()


@pytest.mark.slow
def test_the_run_goes_on_while_tasks_do_that_have_lost_their_greasy(greasy: Greasy, workdir: Path) -> None:
    child = start_elsewhere(workdir)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            ours = path.read_bytes().split(b"\0")[1:3] == [str(FAKE_GREASY).encode(), b"run.greasy"]
            if ours and (path.parent / "cwd").resolve() == workdir / "list.d":
                os.kill(int(path.parent.name), signal.SIGKILL)
    limit = time.monotonic() + 30
    while "waiting for 2 tasks that still run" not in (said := (workdir / "said").read_text()):
        assert time.monotonic() < limit, said
        time.sleep(0.05)
    assert "Greasy ended with SIGKILL" in said or "exit code 137" in said  # the wrapper, or the shell that became it
    assert "another greasy run is at work" in greasy("run", "list", "--resume", *REMOTE).stderr
    for number in (1, 2):
        os.kill(json.loads((workdir / "list.d" / "results" / f"task_{number}.json").read_text())["pid"], signal.SIGTERM)
    out, _ = child.communicate(timeout=60)
    assert [one["state"] for one in json.loads(out)["tasks"]] == ["killed", "killed"]


@pytest.mark.parametrize("name", ["a=b", "a b", "x*y"])
def test_a_folder_that_greasy_would_cut_is_no_trouble(greasy: Greasy, workdir: Path, name: str) -> None:
    (workdir / name).mkdir()
    (workdir / name / "list").write_text("true\nfalse\n")
    assert greasy("run", f"{name}/list", *BACKENDS["greasy"]).returncode == 1
    assert (workdir / name / "list.d" / "greasy.log").is_file()
    assert "2 tasks: 1 ok, 1 failed" in greasy("summary", f"{name}/list.d/greasy.log").stdout
    assert sorted(path.name for path in workdir.iterdir()) == [name]


@pytest.mark.parametrize("by", [("local",), ("greasy", "--greasy", str(FAKE_GREASY))])
def test_more_node_scripts_than_nodes_are_refused_at_once(greasy: Greasy, workdir: Path, by: tuple[str, ...]) -> None:
    assert greasy("build", "--hosts", "localhost,localhost,localhost", "--", "touch", "ran").returncode == 0
    done = greasy("run", "greasy/tasks.greasy", "--hosts", "localhost,localhost", "--by", *by)
    assert done.returncode == 2
    assert "3 node scripts, but places for 2 of them" in done.stderr
    assert not (workdir / "ran").exists()


def test_what_waits_for_a_failure_is_cancelled_once_the_run_is_over(greasy: Greasy, workdir: Path) -> None:
    (workdir / "list").write_text("false\n[# 1 #] true\n[# 2 #] true\n")
    assert greasy("run", "list").returncode == 1
    found = tasks(greasy("summary", "list", "--json"))
    assert [(one["state"], one["reason"]) for one in found.values()] == [
        ("failed", ""),
        ("cancelled", "line 1 did not succeed"),
        ("cancelled", "line 2 did not succeed"),
    ]


def test_a_list_that_is_not_in_order_is_refused_before_anything_runs(greasy: Greasy, workdir: Path) -> None:
    (workdir / "list").write_text("touch ran\n[# 2 #] true\n")
    done = greasy("run", "list")
    assert done.returncode == 2 and "line 2" in done.stderr and not (workdir / "ran").exists()
    for options in (["--by", "srun"], ["--by", "greasy"], ["--by", "greasy", "--greasy", "/no/greasy"]):
        (workdir / "list").write_text("true\n")
        assert greasy("run", "list", *options).returncode == 2


def test_two_runs_of_one_list_do_not_mix(greasy: Greasy, workdir: Path) -> None:
    (workdir / "list").write_text("touch started; while [ ! -e go ]; do sleep 0.05; done\n")
    first = subprocess.Popen([sys.executable, "-m", "hpcsynapse", "greasy", "run", "list"], stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 20
    while not (workdir / "started").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    done = greasy("run", "list")
    (workdir / "go").touch()
    assert (done.returncode, first.wait(timeout=30)) == (2, 0)
    assert "another greasy run" in done.stderr


@pytest.mark.slow
def test_sigterm_ends_all_tasks_and_is_recorded(workdir: Path) -> None:
    (workdir / "list").write_text("sleep 55 & sleep 55\nsleep 55\ntrue\n")
    child = subprocess.Popen(
        [sys.executable, "-m", "hpcsynapse", "greasy", "run", "list", "--workers", "2", "--json"],
        stdout=subprocess.PIPE,
    )
    results = workdir / "list.d" / "results"
    limit = time.monotonic() + 20
    while len(list(results.glob("*.json"))) < 2 and time.monotonic() < limit:
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=40)
    assert child.returncode == 143
    assert [(one["state"], one["exit_code"]) for one in json.loads(out)["tasks"]] == [
        ("killed", 143),
        ("killed", 143),
        ("not-run", None),
    ]


@pytest.mark.slow
def test_a_limit_and_a_missing_folder(greasy: Greasy, workdir: Path) -> None:
    (workdir / "list").write_text("sleep 55\n[@ /no/such/folder @] true\n")
    done = greasy("run", "list", "--limit", "1", "--json")
    assert [(one["state"], one["exit_code"]) for one in tasks(done).values()] == [("failed", 124), ("failed", 126)]


def farm(**more: Any) -> Farm:
    grid = {"lr": ("0.1", "0.01"), "batch": ("32", "64")}
    return Farm(**{"command": ("python", "t.py", "--lr={lr}", "{batch}", "{}", "$x"), "grid": grid, **more})


def test_a_grid_in_its_order_with_chain_and_last_task() -> None:
    found, points = tasks_of(farm(then=("echo", "all done"), chain="lr"))
    assert [task.command for task in found.tasks] == [
        "python t.py --lr=0.1 32 '{}' '$x'",
        "python t.py --lr=0.1 64 '{}' '$x'",
        "python t.py --lr=0.01 32 '{}' '$x'",
        "python t.py --lr=0.01 64 '{}' '$x'",
        "echo 'all done'",
    ]
    assert [task.after for task in found.tasks] == [(), (), (1,), (2,), (1, 2, 3, 4)]
    assert points[2] == ("0.01", "32")
    assert [task.after for task in tasks_of(farm(chain="batch"))[0].tasks] == [(), (1,), (), (3,)]
    assert check_text(found.text().replace("'$x'", ""), "any") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"command": ("a", "{bath}")}, "did you mean 'batch'"),
        ({"command": ()}, "which program"),
        ({"chain": "x"}, "--chain x"),
        ({"grid": {"a": ()}}, "--grid a"),
        ({"grid": {"a b": ("1",)}}, "letters"),
        ({"grid": {"a": ("1", "1")}, "command": ("a",)}, "once"),
        ({"command": ("a\nb",)}, "control character"),
    ],
)
def test_farms_that_cannot_be_meant(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        farm(**change)


def test_grids_as_options_and_as_toml(tmp_path: Path) -> None:
    assert parse_grid(['a=1,"2,5",x', "b="]) == {"a": ("1", "2,5", "x"), "b": ()}
    for wrong in (["a"], ["a=1", "a=2"], ["a=1\n2"]):
        with pytest.raises(SpecError):
            parse_grid(wrong)
    (tmp_path / "farm.toml").write_text(
        'command = ["p", "{lr}"]\nthen = ["q"]\nchain = "lr"\n[grid]\nlr = [0.1, "x"]\n'
    )
    assert from_toml(tmp_path / "farm.toml") == Farm(
        command=("p", "{lr}"), then=("q",), chain="lr", grid={"lr": ("0.1", "x")}
    )
    (tmp_path / "farm.toml").write_text('comand = ["p"]\n')
    with pytest.raises(SpecError, match="did you mean 'command'"):
        from_toml(tmp_path / "farm.toml")


def test_a_farm_by_the_command_line(greasy: Greasy, workdir: Path) -> None:
    done = greasy(
        "farm",
        "--grid",
        "lr=0.1,0.01",
        "--grid",
        "n=1,2",
        "--then",
        "echo 'the end'",
        "--",
        "sh",
        "-c",
        "echo {lr} {n} $HPCSYNAPSE_TASK",
    )
    assert done.stdout == f"{workdir / 'farm' / 'tasks.greasy'}  5 tasks\n", done.stderr
    assert len(list((workdir / "farm").iterdir())) == 6
    assert greasy("check", "farm/tasks.greasy").returncode == 0
    done = greasy("run", "farm/tasks.greasy")
    assert done.returncode == 0
    assert done.stdout == f"5 tasks: 5 ok  (by local, records and logs in {workdir / 'farm'})\n"
    logs = [(workdir / "farm" / "logs" / f"task_{line}.log").read_text() for line in range(1, 6)]
    assert logs == ["0.1 1 1\n", "0.1 2 2\n", "0.01 1 3\n", "0.01 2 4\n", "the end\n"]
    assert (workdir / "farm" / "parameters.csv").read_text().splitlines()[:2] == ["line,lr,n", "1,0.1,1"]
    done = greasy("farm", "--grid", "n=1", "--", "true")
    assert done.returncode == 2 and "--force" in done.stderr
    assert greasy("farm", "--grid", "n=1", "--force", "--", "true").returncode == 0


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=NASTY, word=NASTY)
def test_every_value_reaches_its_program_whole(tmp_path: Path, value: str, word: str) -> None:
    show = "import sys; open('seen', 'wb').write('\\0'.join(sys.argv[1:]).encode())"
    word = word.replace("{lr}", "")
    try:
        wanted = Farm(command=(sys.executable, "-c", show, "x{v}", word), grid={"v": (value,)})
        found = write_farm(tmp_path / "farm", wanted, str(tmp_path), force=True)
    except HpcSynapseError:
        return
    done = subprocess.run(["/bin/sh", "-c", found.tasks[0].command], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").read_bytes().decode().split("\0") == [f"x{value}", word]
    assert not list(tmp_path.rglob("CANARY")) and not Path("CANARY").exists()
