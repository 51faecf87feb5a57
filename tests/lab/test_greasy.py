"""Task lists on the lab: a real farm through job steps, and a real list with roles through `srun --multi-prog`."""

import json
import sys
from pathlib import Path

import pytest

FAKES = Path(__file__).parents[1] / "fakes"
pytestmark = [pytest.mark.lab, pytest.mark.slow]

# Workers push their number to every server, which answers how many pushes it has seen; servers never end by themselves.
TOY = """
import argparse, json, os, pathlib, socket, sys, time
parser = argparse.ArgumentParser()
for name in ("--ps_hosts", "--worker_hosts", "--job_name", "--task_index", "--out"):
    parser.add_argument(name)
args = parser.parse_args()
index, out = int(args.task_index), pathlib.Path(args.out)
hosts = (args.ps_hosts if args.job_name == "ps" else args.worker_hosts).split(",")
port = int(hosts[index].rpartition(":")[2])
told = {"role": args.job_name, "index": index, "host": socket.gethostname(), "address": hosts[index],
        "device": os.environ.get("CUDA_VISIBLE_DEVICES")}
if args.job_name == "ps":
    with socket.create_server(("", port)) as server:
        (out / f"ps-{index}.json").write_text(json.dumps(told))
        seen = 0
        while True:
            peer, _ = server.accept()
            with peer:
                told.setdefault("pushes", []).append(int(peer.recv(100)))
                seen += 1
                peer.sendall(str(seen).encode())
            (out / f"ps-{index}.json").write_text(json.dumps(told))
if index == int(os.environ.get("SLOW_WORKER", "-1")):
    time.sleep(4)  # this node's workers end long after those of the servers' node
told["answers"] = []
for address in args.ps_hosts.split(","):
    host, _, number = address.rpartition(":")
    for _ in range(300):
        try:
            peer = socket.create_connection((host, int(number)), 5)
            break
        except OSError:
            time.sleep(0.1)
    with peer:
        peer.sendall(str(index).encode())
        told["answers"].append(int(peer.recv(100)))
(out / f"worker-{index}.json").write_text(json.dumps(told))
if index == int(os.environ.get("DYING_WORKER", "-1")):
    os.kill(os.getpid(), 9)
if index == int(os.environ.get("FAILING_WORKER", "-1")):
    sys.exit(7)
"""


def job(user, *lines, nodes=4, gpus=2):
    """Run lines as one job and return its folder."""
    script = "#!/bin/bash\n" + "".join(f"{line}\n" for line in lines)
    (user.folder / "job.sh").write_text(script)
    job_id = user.call(
        "sbatch",
        "--parsable",
        f"--nodes={nodes}",
        f"--gpus-per-node={gpus}",
        "--ntasks-per-node=1",
        "--cpus-per-task=4",
        "--output=job.log",
        "job.sh",
    ).stdout.strip()
    user.lab.wait_state(job_id, "COMPLETED", "FAILED", timeout=120)
    return (user.folder / "job.log").read_text()


def outcomes(user, name="run.json"):
    text = (user.folder / name).read_text()
    return json.loads(text) if text else None


def build_and_run(user, options="", environment=""):
    user.script("toy.py", TOY)
    (user.folder / "out").mkdir()
    log = job(
        user,
        f"hpcsynapse greasy build {options} --workers 2 --gpus 2 {environment} -- python toy.py --out out",
        "hpcsynapse greasy check greasy/tasks.greasy --workers 4 || exit 3",
        "hpcsynapse greasy run greasy/tasks.greasy --json > run.json",
        "echo exit code $?",
    )
    told = {path.stem: json.loads(path.read_text()) for path in (user.folder / "out").glob("*.json")}
    return log, told


@pytest.mark.parametrize("servers", ["--ps 1", "--ps-per-node 1"])
def test_servers_and_workers_on_four_nodes(slurm_lab, user, servers):
    # The servers' own node is done long before the slow worker of the last one, and still waits for it.
    log, told = build_and_run(user, servers, "--env SLOW_WORKER=7")
    run = outcomes(user)
    assert (run["by"], run["exit_code"], [one["state"] for one in run["tasks"]]) == ("srun", 0, ["ok"] * 4), log
    count = 1 if servers == "--ps 1" else 4
    for index in range(8):
        one, node = told[f"worker-{index}"], index // 2
        assert one["host"] == slurm_lab.node_name(node + 1)
        assert one["device"] == str(index % 2)
        assert one["address"] == f"{slurm_lab.node_name(node + 1)}:{2221 + index % 2}"
        assert len(one["answers"]) == count
    for index in range(count):
        server = told[f"ps-{index}"]
        assert (server["host"], server["device"]) == (slurm_lab.node_name(index + 1), "")
        assert sorted(server["pushes"]) == list(range(8))
        assert server["pushes"][-1] == 7
    record = json.loads((user.folder / "greasy" / "results" / "node_0.json").read_text())
    assert [(one["role"], one["stopped"]) for one in record["tasks"]] == [
        ("ps", True),
        ("worker", False),
        ("worker", False),
    ]
    assert "exit code 0" in log
    slurm_lab.wait_idle()


def test_failed_and_killed_workers_are_reported_as_what_they_are(slurm_lab, user):
    log, _ = build_and_run(user, "--ps 1", "--env FAILING_WORKER=2 --env DYING_WORKER=5")
    run = outcomes(user)
    assert [(one["state"], one["exit_code"], one["signal"]) for one in run["tasks"]] == [
        ("ok", 0, None),
        ("failed", 7, None),
        ("killed", 137, "KILL"),
        ("ok", 0, None),
    ], log
    assert run["tasks"][1]["host"] == slurm_lab.node_name(2)
    assert "worker 2 ended with exit code 7" in run["tasks"][1]["reason"]
    assert "exit code 1" in log


def test_a_node_script_that_is_killed_is_told_from_one_that_failed(slurm_lab, user):
    user.script("toy.py", TOY)
    (user.folder / "out").mkdir()
    log = job(
        user,
        "export SLOW_WORKER=4",
        "hpcsynapse greasy build --ps 1 --patience 6 --workers 2 --gpus 2 -- python toy.py --out out",
        "hpcsynapse greasy run greasy/tasks.greasy --json > run.json &",
        "for _ in {1..100}; do [ -f greasy/results/node_2.json ] && break; sleep 0.1; done; sleep 1",
        "pid=$(sed -n 's/^ \"pid\": \\([0-9]*\\),$/\\1/p' greasy/results/node_2.json)",
        f"srun --overlap --input=none -N1 -n1 -w {slurm_lab.node_name(3)} kill -9 $pid",
        "wait %1; echo exit code $?",
    )
    run = outcomes(user)
    assert [one["state"] for one in run["tasks"]] == ["ok", "ok", "lost", "ok"], log
    assert "killed" in run["tasks"][2]["reason"]
    assert "no word from nodes 2 for 6 s" in run["tasks"][0]["reason"]
    assert "exit code 1" in log


FARM = """
import os, pathlib, signal, sys, time
number, out = int(sys.argv[1]), pathlib.Path("out")
tries = out / f"tries-{number}"
tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
if number == 3:
    sys.exit(5)  # whatever is tried
if number == 5 and tries.read_text() == "x":
    sys.exit(1)  # well at the second try
if number == 7:
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
(out / f"done-{number}").write_text(os.uname().nodename + " " + os.environ["CUDA_VISIBLE_DEVICES"])
"""


def test_a_farm_with_dependencies_failures_retries_and_a_kill(slurm_lab, user):
    user.script("task.py", FARM)
    (user.folder / "out").mkdir()
    lines = [f"{sys.executable} task.py {number}" for number in range(1, 11)]
    lines[5] = f"[# 5 #] {lines[5]}"
    lines[7] = f"[# -1 #] {lines[7]}"
    lines += ["[# 3 #] echo never", f"[# 1-2, 4-6, 9-10 #] {sys.executable} task.py 12"]
    (user.folder / "farm.greasy").write_text("\n".join(lines) + "\n")
    log = job(
        user,
        "hpcsynapse greasy run farm.greasy --workers 2 --retries 1 --json > run.json; echo exit code $?",
        "sed -i 's/os.kill.*/pass/; s/sys.exit(5).*/pass/' task.py",
        "hpcsynapse greasy run farm.greasy --workers 2 --resume --json > again.json; echo then exit code $?",
    )
    run = outcomes(user)
    states = {one["line"]: (one["state"], one["attempts"]) for one in run["tasks"]}
    expected = dict.fromkeys((1, 2, 4, 6, 9, 10, 12), ("ok", 1)) | {
        3: ("failed", 2),
        5: ("ok", 2),
        7: ("killed", 2),
        8: ("cancelled", 0),
        11: ("cancelled", 0),
    }
    assert states == expected, log
    assert run["by"] == "srun"
    by_line = {one["line"]: one for one in run["tasks"]}
    assert (by_line[3]["exit_code"], by_line[7]["signal"]) == (5, "KILL")
    assert len({one["host"] for one in run["tasks"] if one["host"]}) > 1
    assert "exit code 1" in log and "then exit code 0" in log
    assert "line 3 failed (exit code 5)" in log and "line 7 killed (SIGKILL)" in log
    again = outcomes(user, "again.json")
    assert {one["state"] for one in again["tasks"]} == {"ok"}
    assert (user.folder / "out" / "tries-1").read_text() == "x"  # what had succeeded did not run again
    assert (user.folder / "out" / "tries-12").read_text() == "x"


def test_each_task_of_a_farm_has_a_device_for_itself(slurm_lab, user):
    log = job(
        user,
        "hpcsynapse greasy farm --gpus 2 --grid n=1,2,3,4,5,6,7,8 -- sh -c "
        "'echo $(uname -n) $CUDA_VISIBLE_DEVICES $(date +%s.%N); sleep 2; date +%s.%N'",
        "hpcsynapse greasy run farm/tasks.greasy --workers 3 --json > run.json; echo exit code $?",
        nodes=2,
    )
    assert "exit code 0" in log
    held = []
    for one in outcomes(user)["tasks"]:
        host, device, begin, end = (user.folder / "farm" / "logs" / f"task_{one['line']}.log").read_text().split()
        assert device in ("0", "1")
        held.append((host, device, float(begin), float(end)))
    assert {(host, device) for host, device, _, _ in held} == {
        (slurm_lab.node_name(node), device) for node in (1, 2) for device in ("0", "1")
    }
    for first in held:
        for second in held:
            if first is not second and first[:2] == second[:2]:
                assert first[3] <= second[2] or second[3] <= first[2], (first, second)


def test_training_is_launched_by_a_list(slurm_lab, user):
    run = user.submit("--nodes", "2", "--gpus", "2", "--launcher", "greasy", "--epochs", "1", "--name", "by-list")
    user.finish(run)
    placement = run.file("placement.json")
    assert placement["verified"]
    assert [
        (one["host"], one["device"], one["node_rank"], one["local_rank"], one["source"]) for one in placement["ranks"]
    ] == [(slurm_lab.node_name(node + 1), str(local), node, local, "greasy") for node in (0, 1) for local in (0, 1)]
    assert run.file("greasy/results/node_1.json")["exit_code"] == 0
    assert user.status(run)["progress"]["engine"] == "ddp"


def test_the_first_rank_that_fails_ends_the_others(slurm_lab, user):
    run, done = user.follow(
        "--nodes",
        "3",
        "--ranks-per-node",
        "2",
        "--launcher",
        "greasy",
        "--name",
        "ends",
        "--",
        "bash",
        "-c",
        "[ $RANK != 4 ] || exit 6; sleep 120",
        timeout=60,
    )
    assert done.returncode == 1
    status = user.status(run)
    assert (status["state"], status["exit_code"]) == ("FAILED", 6), status
    assert "rank 4" in done.stdout + done.stderr
    ends = [run.file(f"greasy/results/node_{number}.json") for number in range(3)]
    assert [one["exit_code"] for one in ends] == [143, 143, 6]
    assert ends[0]["reason"] == "ended because a rank of another node failed"


def test_a_greasy_that_is_installed_is_used(slurm_lab, user):
    """With the fake of tests/fakes on the PATH, which starts lines as Greasy does: `srun -n 1 -N 1 -w NODE ...`."""
    user.script("toy.py", TOY)
    (user.folder / "out").mkdir()
    log = job(
        user,
        f"export PATH={FAKES}:$PATH",
        "hpcsynapse greasy build -- python toy.py --out out",  # one server; as many workers a node as it has GPUs
        "hpcsynapse greasy run greasy/tasks.greasy --json > run.json; echo exit code $?",
        "hpcsynapse greasy summary greasy/greasy.log",
    )
    run = outcomes(user)
    assert (run["by"], run["exit_code"]) == ("greasy", 0), log
    assert [one["host"] for one in run["tasks"]] == [slurm_lab.node_name(node) for node in (1, 2, 3, 4)]
    assert "4 tasks: 4 ok" in log
    assert len(list((user.folder / "out").glob("worker-*.json"))) == 8


def test_a_cancelled_job_leaves_the_ends_of_all_its_processes(slurm_lab, user):
    (user.folder / "job.sh").write_text(
        "#!/bin/bash\nhpcsynapse greasy build --ps 1 --workers 1 -- bash -c 'sleep 99'\n"
        "exec hpcsynapse greasy run greasy/tasks.greasy\n"
    )
    job_id = user.call("sbatch", "--parsable", "--nodes=3", "--output=job.log", "job.sh").stdout.strip()
    results = user.folder / "greasy" / "results"
    slurm_lab.wait_until(lambda: len(list(results.glob("node_*.json"))) == 3, 60, "three node scripts")
    slurm_lab.run("scancel", job_id)
    slurm_lab.wait_state(job_id, "CANCELLED", timeout=60)
    slurm_lab.wait_idle()
    records = [json.loads((results / f"node_{number}.json").read_text()) for number in range(3)]
    assert [(one["state"], one["exit_code"], one["signal"]) for one in records] == [("ended", 143, "TERM")] * 3
    assert all(one["exit_code"] == 143 for record in records for one in record["tasks"])


def test_a_task_of_a_cancelled_job_may_save(slurm_lab, user):
    user.script("saving.sh", "trap 'sleep 1; echo saved; exit 0' TERM; echo started; while :; do sleep 0.1; done\n")
    (user.folder / "farm.greasy").write_text("bash saving.sh && true\nbash saving.sh\n")
    (user.folder / "job.sh").write_text("#!/bin/bash\nexec hpcsynapse greasy run farm.greasy\n")
    job_id = user.call("sbatch", "--parsable", "--nodes=2", "--output=job.log", "job.sh").stdout.strip()
    logs = [user.folder / "farm.greasy.d" / "logs" / f"task_{line}.log" for line in (1, 2)]
    slurm_lab.wait_until(lambda: all(log.is_file() and "started" in log.read_text() for log in logs), 60, "two tasks")
    slurm_lab.run("scancel", job_id)
    slurm_lab.wait_state(job_id, "CANCELLED", timeout=60)
    slurm_lab.wait_idle()
    assert all(log.read_text().split()[-1] == "saved" for log in logs)
    records = [
        json.loads((user.folder / "farm.greasy.d" / "results" / f"task_{line}.json").read_text()) for line in (1, 2)
    ]
    assert [(one["state"], one["exit_code"], one["signal"]) for one in records] == [("ended", 143, "TERM")] * 2
