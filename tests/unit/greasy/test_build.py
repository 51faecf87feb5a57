"""Lists with roles: what the scripts of the nodes hold, and what a real bash makes of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from greasy_cases import NASTY, Greasy, tasks
from hypothesis import HealthCheck, given, settings

from hpcsynapse.errors import HpcSynapseError, SpecError
from hpcsynapse.greasy import build
from hpcsynapse.greasy.build import RolesRequest, addresses, lay_out, write_roles
from hpcsynapse.greasy.check import check_text
from hpcsynapse.greasy.hosts import assigned_hosts, carried

GOLDEN = Path(__file__).parents[2] / "golden" / "greasy"
DUMP = """
import json, os, sys, time
names = ("ROLE", "TASK_INDEX", "CLUSTER", "LAUNCH_RANK", "LAUNCH_SIZE")
told = {"argv": sys.argv[2:], "env": {name: os.environ.get("HPCSYNAPSE_" + name) for name in names},
        "device": os.environ.get("CUDA_VISIBLE_DEVICES"), "cwd": os.getcwd(), "value": os.environ.get("VALUE"),
        "tf_config": os.environ.get("TF_CONFIG")}
name = os.environ["HPCSYNAPSE_ROLE"] + os.environ["HPCSYNAPSE_TASK_INDEX"]
path = os.path.join(sys.argv[1], name + ".json")
with open(path + "~", "w") as file:
    json.dump(told, file)
os.rename(path + "~", path)
# A server ends when the workers have: they wait until it has told what it knows.
served = any(word.startswith("--ps_hosts=localhost") for word in sys.argv)
end = time.time() + 120
while served and not os.path.exists(os.path.join(sys.argv[1], "ps0.json")) and time.time() < end:
    time.sleep(0.01)
"""


def request(*command: str, **more: Any) -> RolesRequest:
    return RolesRequest(command=command or ("python", "train.py"), **{"workdir": "/work dir", **more})


def test_the_layout_of_the_thesis() -> None:
    nodes = lay_out(request(workers=2, gpus=2, ps=1, host_suffix="-ib0"), ["nvb1", "nvb2"])
    assert addresses(nodes, "ps", "-ib0") == ["nvb1-ib0:2220"]
    assert addresses(nodes, "worker", "-ib0") == ["nvb1-ib0:2221", "nvb1-ib0:2222", "nvb2-ib0:2221", "nvb2-ib0:2222"]


def test_servers_in_total_go_to_the_first_nodes_and_ports_never_meet() -> None:
    nodes = lay_out(request(ps=5, workers=2), ["a", "b", "a"])
    assert [sum(one.role == "ps" for one in node.processes) for node in nodes] == [2, 2, 1]
    used = [(node.host, one.port) for node in nodes for one in node.processes]
    assert len(set(used)) == len(used)
    assert [one.task_index for node in nodes for one in node.processes if one.role == "ps"] == [0, 1, 2, 3, 4]
    assert all(one.device is None for node in nodes for one in node.processes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": 3, "gpus": 2}, "divide"),
        ({"ps": 1, "ps_per_node": 1}, "exclude"),
        ({"port": 80}, "port"),
        ({"host_suffix": " -ib0"}, "word"),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}}, "cannot be given"),
        ({"env": {"A B": "1"}}, "not the name"),
        ({"workers": 0}, "workers"),
        ({"env": {"TF_CONFIG": "{}"}}, "cannot be given"),
        ({"gpus": 4, "workers": 3, "gpus_per_worker": 2}, "3 workers of 2 GPUs on a node need more than its 4"),
        ({"gpus": 4, "devices": (0, 4)}, "devices 0,4 must be different numbers below gpus = 4"),
        ({"gpus": 4, "devices": (1, 1)}, "devices 1,1 must be different"),
        ({"gpus": 4, "devices": (0, 1, 2), "workers": 2}, "2 workers and 3 GPUs"),
    ],
)
def test_requests_that_cannot_be_meant(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        request(**change)
    with pytest.raises(SpecError, match="beyond 65535"):
        lay_out(request(port=65530, workers=8), ["a"])


@pytest.mark.slow
def test_more_workers_than_a_command_line_can_name_are_refused_with_a_way_out(tmp_path: Path) -> None:
    hosts = [f"node{number:05d}" for number in range(4000)]
    with pytest.raises(SpecError, match="--no-flags"):
        write_roles(tmp_path / "list", request(workers=4), hosts)
    assert not (tmp_path / "list").exists()
    write_roles(tmp_path / "list", request(workers=4, flags=False), hosts[:50])
    assert len(json.loads((tmp_path / "list" / "cluster.json").read_text())["worker"]) == 200


def test_servers_on_nodes_of_their_own(workdir: Path) -> None:
    nodes = lay_out(request(ps_per_node=2, workers=2, server_nodes=2), ["a", "b", "c", "d"])
    assert addresses(nodes, "ps", "") == ["c:2220", "c:2221", "d:2220", "d:2221"]
    assert addresses(nodes, "worker", "") == ["a:2220", "a:2221", "b:2220", "b:2221"]
    with pytest.raises(SpecError, match="2 of 2 nodes are for servers"):
        lay_out(request(ps=2, server_nodes=2), ["a", "b"])
    with pytest.raises(SpecError, match="1 servers are too few for 2 nodes"):
        lay_out(request(ps=1, server_nodes=2), ["a", "b", "c"])


@pytest.mark.parametrize(
    ("change", "devices"),
    [
        ({"workers": 2}, ["0", "2"]),
        ({"workers": 2, "gpus_per_worker": 1}, ["0", "1"]),
        ({"workers": 1, "gpus_per_worker": 4}, ["0,1,2,3"]),
        ({"workers": 1, "gpus_per_worker": 2, "devices": (0, 3)}, ["0,3"]),
        ({"workers": 4, "devices": (3, 1)}, ["3", "3", "1", "1"]),
    ],
)
def test_devices_of_workers(change: dict[str, Any], devices: list[str], workdir: Path) -> None:
    write_roles(workdir / "list", request(gpus=4, ps=1, **change), ["a"])
    last = (workdir / "list" / "node_0.sh").read_text().splitlines()[-1]
    assert last == f"node 0 a ps:0:none {' '.join(f'worker:{index}:{one}' for index, one in enumerate(devices))}"


# The layouts of the MinoTauro thesis (Yagües Gomà 2016), as its lists print them: host, port, devices.
THESIS = {
    "a server alone on its node": (
        ["--hosts", "nvb1,nvb2,nvb3", "--ps", "1", "--server-nodes", "1"],
        ['ps 0 nvb3-ib0:2220 ""', 'worker 0 nvb1-ib0:2220 "0"', 'worker 1 nvb2-ib0:2220 "0"'],
    ),
    "several workers beside a server": (
        ["--hosts", "nvb1", "--ps", "1", "--workers", "2", "--gpus-per-worker", "1"],
        ['ps 0 nvb1-ib0:2220 ""', 'worker 0 nvb1-ib0:2221 "0"', 'worker 1 nvb1-ib0:2222 "1"'],
    ),
    "mixed mode: one worker a node with all its devices": (
        ["--hosts", "nvb1,nvb2", "--ps", "1", "--gpus-per-worker", "4"],
        ['ps 0 nvb1-ib0:2220 ""', 'worker 0 nvb1-ib0:2221 "0,1,2,3"', 'worker 1 nvb2-ib0:2221 "0,1,2,3"'],
    ),
    "a worker on two chosen devices": (
        ["--hosts", "nvb1", "--ps", "1", "--gpus-per-worker", "2", "--devices", "0,3"],
        ['ps 0 nvb1-ib0:2220 ""', 'worker 0 nvb1-ib0:2221 "0,3"'],
    ),
}


@pytest.mark.parametrize("layout", THESIS)
def test_the_layouts_of_the_thesis_by_the_command(layout: str, greasy: Greasy, workdir: Path) -> None:
    options, wanted = THESIS[layout]
    one = ["--workers", "1"] if "alone" in layout else []
    done = greasy("build", "--gpus", "4", "--host-suffix", "-ib0", *options, *one, "--", "python", "train.py")
    assert done.returncode == 0, done.stderr
    cluster = json.loads((workdir / "greasy" / "cluster.json").read_text())
    found = []
    for script in sorted((workdir / "greasy").glob("node_*.sh")):
        for word in script.read_text().splitlines()[-1].split()[3:]:
            role, index, devices = word.split(":")
            shown = "" if devices == "none" else devices
            found.append(f'{role} {index} {cluster[role][int(index)]} "{shown}"')
    assert sorted(found) == wanted


def test_a_worker_of_several_devices_sees_those_and_is_told_the_cluster_twice(greasy: Greasy, workdir: Path) -> None:
    (workdir / "dump.py").write_text(DUMP)
    options = ["--hosts", "localhost,localhost", "--gpus", "4", "--gpus-per-worker", "4", "--server-nodes", "1"]
    done = greasy("build", *options, "--", sys.executable, "dump.py", ".")
    assert done.returncode == 0, done.stderr
    done = greasy("run", "greasy/tasks.greasy", "--json", CUDA_VISIBLE_DEVICES="GPU-a,GPU-b,GPU-c,GPU-d")
    assert done.returncode == 0, done.stdout + done.stderr
    worker, server = (json.loads((workdir / f"{name}.json").read_text()) for name in ("worker0", "ps0"))
    assert (worker["device"], server["device"]) == ("GPU-a,GPU-b,GPU-c,GPU-d", "")
    assert worker["argv"] == [
        "--ps_hosts=localhost:2221",
        "--worker_hosts=localhost:2220",
        "--job_name=worker",
        "--task_index=0",
    ]
    cluster = {"ps": ["localhost:2221"], "worker": ["localhost:2220"]}
    assert json.loads(worker["tf_config"]) == {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    assert json.loads(server["tf_config"]) == {"cluster": cluster, "task": {"type": "ps", "index": 0}}


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a$b", "a`b", "a\nb", "a\\b", "a@]b"])
def test_a_folder_that_no_line_can_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="another folder"):
        write_roles(tmp_path / name, request(), ["a"])


@pytest.mark.parametrize("name", ["roles.sh", "roles.json", "node_0.sh", "node_1.sh", "tasks.greasy", "cluster.json"])
def test_golden_files(name: str, workdir: Path, request_golden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/hpcsynapse/bin/python")
    wanted = request(
        "python",
        "train.py",
        "--data",
        "my data",
        workers=2,
        gpus=4,
        ps=1,
        host_suffix="-ib0",
        env={"NCCL_DEBUG": "INFO", "ODD": "it's a $VALUE"},
        prelude=("ulimit -c 0",),
    )
    write_roles(workdir / "the list", wanted, ["nvb1", "nvb2"])
    text = (workdir / "the list" / name).read_text().replace(str(workdir), "/gpfs/me")
    if request_golden:
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


@pytest.fixture
def request_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


def test_the_list_runs_under_every_engine_and_starts_on_its_nodes(workdir: Path) -> None:
    tasks = write_roles(workdir / "a b", request(ps_per_node=1), ["n1", "n2", "n3"])
    assert check_text(tasks.text(), "any", workers=3) == []


@pytest.mark.parametrize(
    ("granted", "devices"),
    [(None, ["0", "1"]), ("2,3", ["2", "3"]), ("GPU-a b, MIG-1/2/3", ["GPU-a b", "MIG-1/2/3"][:0])],
)
def test_roles_devices_flags_and_environment(
    greasy: Greasy, workdir: Path, granted: str | None, devices: list[str]
) -> None:
    (workdir / "dump.py").write_text(DUMP)
    if not devices:
        granted, devices = "GPU-aa-1,MIG-1/2/3", ["GPU-aa-1", "MIG-1/2/3"]
    done = greasy("build", "--hosts", "localhost,localhost", "--ps", "1", "--gpus", "2", "--env", "VALUE=a 'b' $c",
                  "--", sys.executable, "dump.py", ".", "a b", "$HOME")  # fmt: skip  # a command line
    assert done.returncode == 0, done.stderr
    done = greasy("run", "greasy/tasks.greasy", "--json", **({"CUDA_VISIBLE_DEVICES": granted} if granted else {}))
    assert done.returncode == 0, done.stdout + done.stderr
    workers = "localhost:2221,localhost:2222,localhost:2224,localhost:2225"
    for index in range(4):
        told = json.loads((workdir / f"worker{index}.json").read_text())
        assert told["argv"] == [
            "a b",
            "$HOME",
            "--ps_hosts=localhost:2220",
            f"--worker_hosts={workers}",
            "--job_name=worker",
            f"--task_index={index}",
        ]
        assert told["device"] == devices[index % 2]
        assert told["value"] == "a 'b' $c"
        assert told["cwd"] == str(workdir)
    assert json.loads((workdir / "ps0.json").read_text())["device"] == ""
    cluster = json.loads((workdir / "greasy" / "cluster.json").read_text())
    assert cluster == {"ps": ["localhost:2220"], "worker": workers.split(",")}


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(argument=NASTY, variable=NASTY, folder=NASTY)
def test_a_real_bash_sees_every_value_as_one_word(tmp_path: Path, argument: str, variable: str, folder: str) -> None:
    workdir = tmp_path / folder.replace("/", "_").strip(".")
    (tmp_path / "dump.py").write_text(DUMP)
    try:
        wanted = request(
            sys.executable,
            str(tmp_path / "dump.py"),
            str(tmp_path),
            argument,
            workdir=str(workdir),
            env={"VALUE": variable},
            ps=0,
            port=2300,
        )
        workdir.mkdir(exist_ok=True)
        write_roles(tmp_path / "list", wanted, ["localhost"])
    except (HpcSynapseError, OSError, ValueError):
        return
    done = subprocess.run(["/bin/sh", "-c", (tmp_path / "list" / "tasks.greasy").read_text()], capture_output=True)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "worker0.json").read_text())
    assert (told["argv"][0], told["value"], told["cwd"]) == (argument, variable, str(workdir))
    assert not list(tmp_path.rglob("CANARY")) and not Path("CANARY").exists()


def node(greasy: Greasy, *options: str, program: str, hosts: str = "localhost") -> dict[str, Any]:
    """Build and run a list and return the record of its first node."""
    assert greasy("build", "--hosts", hosts, *options, "--", "bash", "-c", program).returncode == 0
    done = greasy("run", "greasy/tasks.greasy", "--json")
    record: dict[str, Any] = json.loads(Path("greasy/results/node_0.json").read_text())
    assert done.returncode == (1 if any(one["state"] != "ok" for one in tasks(done).values()) else 0)
    return record


@pytest.mark.slow
def test_the_first_failure_is_the_exit_code_and_servers_are_stopped(greasy: Greasy) -> None:
    program = "case $HPCSYNAPSE_ROLE$HPCSYNAPSE_TASK_INDEX in ps*) sleep 99;; worker0) exit 0;; worker1) sleep 1; exit 3;; *) exit 4;; esac"  # noqa: E501
    record = node(greasy, "--workers", "3", program=program)
    assert (record["exit_code"], record["reason"]) == (4, "worker 2 ended with exit code 4")
    assert [one["exit_code"] for one in record["tasks"]] == [143, 0, 3, 4]
    assert [one["stopped"] for one in record["tasks"]] == [True, False, False, False]
    assert record["tasks"][2]["end"] - record["tasks"][2]["start"] > 0.9


@pytest.mark.slow
def test_a_server_that_fails_ends_the_workers_of_its_node(greasy: Greasy) -> None:
    record = node(greasy, "--workers", "2", program="[ $HPCSYNAPSE_ROLE = ps ] && exit 9; sleep 99")
    assert (record["exit_code"], record["reason"]) == (9, "ps 0 ended with exit code 9")
    assert [(one["exit_code"], one["stopped"]) for one in record["tasks"]] == [(9, False), (143, True), (143, True)]
    assert record["end"] - record["start"] < 30


@pytest.mark.slow
def test_a_server_that_ends_well_disturbs_nobody(greasy: Greasy) -> None:
    record = node(greasy, program="[ $HPCSYNAPSE_ROLE = ps ] && exit 0; sleep 0.5")
    assert record["exit_code"] == 0


@pytest.mark.slow
def test_a_limit_ends_everything(greasy: Greasy) -> None:
    record = node(greasy, "--limit", "1", program="trap '' TERM; [ $HPCSYNAPSE_ROLE = ps ] || sleep 99")
    assert (record["exit_code"], record["reason"]) == (124, "not done within 1 s")
    assert record["end"] - record["start"] < 20


def test_too_few_devices_and_another_host_are_failures_with_a_reason(greasy: Greasy, workdir: Path) -> None:
    assert greasy("build", "--hosts", "localhost", "--gpus", "2", "--", "true").returncode == 0
    done = greasy("run", "greasy/tasks.greasy", "--json", CUDA_VISIBLE_DEVICES="3")
    assert tasks(done)[1]["reason"] == "worker-1 needs device number 1, granted here: 3"
    assert greasy("build", "--hosts", "elsewhere7", "--", "true").returncode == 0
    done = greasy("run", "greasy/tasks.greasy", "--json", "--hosts", "localhost")
    assert "node 0 is elsewhere7" in tasks(done)[1]["reason"]
    assert done.returncode == 1


@pytest.mark.slow
def test_sigterm_reaches_all_processes_and_is_recorded(greasy: Greasy, workdir: Path) -> None:
    assert greasy("build", "--hosts", "localhost", "--workers", "2", "--", "sh", "-c", "sleep 77").returncode == 0
    child = subprocess.Popen(
        [sys.executable, "-m", "hpcsynapse", "greasy", "run", "greasy/tasks.greasy", "--json"], stdout=subprocess.PIPE
    )
    record = workdir / "greasy" / "results" / "node_0.json"
    limit = time.monotonic() + 20
    while not record.exists() and time.monotonic() < limit:
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=40)
    assert child.returncode == 143
    assert json.loads(out)["tasks"][0]["exit_code"] == 143
    assert {one["exit_code"] for one in json.loads(record.read_text())["tasks"]} <= {143, 1}


@pytest.mark.slow
def test_ranks_are_launched_by_a_list(workdir: Path) -> None:
    show = "echo $RANK of $WORLD_SIZE is $LOCAL_RANK on $NODE_RANK"
    done = subprocess.run(
        [sys.executable, "-m", "hpcsynapse", "submit", "--nodes", "2", "--ranks-per-node", "2", "--emulate",
         "--launcher", "greasy", "--name", "x", "--follow", "--", "bash", "-c", show],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip  # a command line
    assert done.returncode == 0, done.stdout + done.stderr
    logs = [(workdir / "runs" / "x" / "logs" / f"rank-{rank:05d}.log").read_text() for rank in range(4)]
    assert logs == [f"{rank} of 4 is {rank % 2} on {rank // 2}\n" for rank in range(4)]


def test_the_environment_that_other_nodes_need() -> None:
    given = {
        "PATH": "/bin",
        "MASTER_ADDR": "n1",
        "HPCSYNAPSE_ATTEMPT": "3",
        "SLURM_JOB_ID": "1",
        "TMPDIR": "/tmp/x",
        "CUDA_VISIBLE_DEVICES": "0",
        "BASH_FUNC_module%%": "() { :; }",
        "TWO": "a\nb",
        "LOADL_STEP_ID": "x",
    }
    assert carried(given) == {"PATH": "/bin", "MASTER_ADDR": "n1", "HPCSYNAPSE_ATTEMPT": "3"}


def test_hosts_of_every_queue(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("b01\nb01\na02\nb01\n")
    assert assigned_hosts(environ={"SLURM_JOB_NODELIST": "n[1-3]"}) == ["n1", "n2", "n3"]
    assert assigned_hosts(environ={"LOADL_HOSTFILE": str(tmp_path / "hosts")}) == ["b01", "a02"]
    assert assigned_hosts(environ={"LOADL_PROCESSOR_LIST": "a a b"}) == ["a", "b"]
    assert assigned_hosts("x,x", environ={"SLURM_JOB_NODELIST": "n[1-3]"}) == ["x", "x"]
    with pytest.raises(SpecError, match="no hosts are assigned"):
        assigned_hosts(environ={})
    for name in ("$(x)", "-a", "a;b"):
        with pytest.raises(SpecError):
            assigned_hosts(name, environ={})


def test_a_new_build_leaves_nothing_of_the_old_one(workdir: Path) -> None:
    write_roles(workdir / "x", request(), ["a", "b", "c"])
    (workdir / "x" / "results" / "node_2.json").write_text("{}")
    write_roles(workdir / "x", request(), ["a"])
    assert sorted(path.name for path in (workdir / "x").rglob("*node_*")) == ["node_0.sh"]
    assert (workdir / "x" / build.LIST_NAME).read_text().count("\n") == 1
