"""What was put into a node is seen in its telemetry, with the numbers that the node itself counts, and nowhere else."""

import json
import time

import numpy as np
import pytest

from hpcsynapse.runs.telemetry import telemetry

pytestmark = [pytest.mark.lab, pytest.mark.multiprocess]

# Rank 1 burns CPU, holds memory and sends 60 MB to rank 0; it is slow at its own work, for which rank 0 waits.
PROGRAM = """
import json, os, pathlib, socket, time
from hpcsynapse.timing import StepRecorder

rank, run = int(os.environ["RANK"]), pathlib.Path(os.environ["HPCSYNAPSE_RUN_DIR"])

def interface():
    words = next(line.split() for line in open("/proc/self/net/dev") if line.strip().startswith("eth0:"))
    names = {"received": 1, "received_packets": 2, "sent": 9, "sent_packets": 10}
    return {name: int(words[place]) for name, place in names.items()}

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

time.sleep(3)  # the sampler has begun
before = interface()
address = run / "address"
if rank == 0:
    with socket.create_server(("", 0)) as server:
        part = address.with_suffix(".part")
        part.write_text(json.dumps([socket.gethostbyname(socket.gethostname()), server.getsockname()[1]]))
        part.rename(address)
        connection, _ = server.accept()
        while connection.recv(1 << 20): pass
else:
    held = b"x" * (300 << 20)
    while time.process_time() < 3: pass
    while not address.exists(): time.sleep(0.05)
    with socket.create_connection(tuple(json.loads(address.read_text()))) as connection:
        for _ in range(60): connection.sendall(bytes(1_000_000))
with StepRecorder(warmup=2) as recorder:
    for step in range(90):
        own = 0.13 if rank else 0.1
        recorder.write(step, 0, time.time(), 0.0, own / 2, own / 2, 0.14 - own, 0.0, 0.14, 8, 1.0)
        time.sleep(0.14)
after = interface()
told = {name: after[name] - before[name] for name in after}
told |= {"cpu": time.process_time(), "resident": resident(), "begin": time.time()}
(run / f"told-{rank}.json").write_text(json.dumps(told))
time.sleep(7)  # what is looked at every five seconds is looked at once more
"""


@pytest.fixture
def run(user):
    user.script("load.py", PROGRAM)
    run = user.submit("--nodes", "2", "--ranks-per-node", "1", "--name", "load", "--", "python3", "load.py")
    status = user.finish(run)
    assert status["exit_code"] == 0, run.text("logs/rank-00001.log")
    return run


def test_load_traffic_memory_and_a_slow_rank_are_seen_where_they_are(user, run):
    hosts = [one["host"] for one in run.file("placement.json")["ranks"]]
    files = {one.host: one for one in telemetry(run.path / "telemetry")}
    tables = [np.frombuffer(files[host].read(), files[host].kinds) for host in hosts]
    told = [run.file(f"told-{rank}.json") for rank in range(2)]
    assert set(files) == set(hosts) and all(table["flags"][-1] for table in tables)
    for table, own in zip(tables, told, strict=True):
        assert float(np.nansum(table["ranks_cpu"])) == pytest.approx(own["cpu"], abs=0.6)  # its wrapper, and start-up
        # The kernel counts some pages late (proc_pid_statm(5)), which is felt in small processes.
        assert float(np.nanmax(table["ranks_memory"])) == pytest.approx(own["resident"], rel=0.01, abs=1e6)
        # What the namespace counted while the program ran; the queue's own messages come on top, before and after.
        for column, name in (("sent_bytes", "sent"), ("received_bytes", "received")):
            assert float(table[f"net.eth0.{column}"].sum()) == pytest.approx(own[name], rel=0.02, abs=100_000)
        for name in ("sent_packets", "received_packets"):
            assert float(table[f"net.eth0.{name}"].sum()) == pytest.approx(own[name], rel=0.02, abs=300)
    quiet, loaded = tables
    assert np.nansum(loaded["ranks_cpu"]) > 2.9 > np.nansum(quiet["ranks_cpu"])
    assert loaded["net.eth0.sent_bytes"].sum() > 60e6 > 10 * quiet["net.eth0.sent_bytes"].sum()
    assert np.nanmax(loaded["ranks_memory"]) - np.nanmax(quiet["ranks_memory"]) > 290e6
    loads = {one["node"]: one for one in json.loads(user.hpcsynapse("nodes", "load", "--json"))}
    assert {name: (one["roles"], one["state"]) for name, one in loads.items()} == {
        hosts[0]: ("rank 0", "ended"),
        hosts[1]: ("rank 1", "ended"),
    }
    assert user.hpcsynapse("status", "load").count("slowest is rank 1 on " + hosts[1]) == 1


def test_a_killed_node_falls_silent_and_the_others_do_not(slurm_lab, user):
    user.script("wait.py", "import time\ntime.sleep(600)")
    run = user.submit("--nodes", "2", "--gpus", "1", "--name", "silent", "--", "python3", "wait.py")

    def loads():
        done = user.attempt("nodes", "silent", "--json", "--silent", "2")
        return {one["node"]: one for one in json.loads(done.stdout)} if done.returncode == 0 else {}

    slurm_lab.wait_until(lambda: len(loads()) == 2, 60, "two nodes that record")
    assert {one["state"] for one in loads().values()} == {"running"}
    assert all("1 granted" in one["missing"] and one["gpus"] == 0 for one in loads().values())  # the lab's are files
    first, second = sorted(loads())
    pid = next(one.header["pid"] for one in telemetry(run.path / "telemetry") if one.host == second)
    number = second.removeprefix(slurm_lab.name)
    slurm_lab.run(str(slurm_lab.scripts / "node"), "exec", number, "kill", "-KILL", str(pid))
    time.sleep(3)  # by which a file that is written is younger than this
    slurm_lab.wait_until(lambda: loads()[second]["state"] == "silent", 60, "silence")
    assert loads()[first]["state"] == "running"
    assert json.loads(user.hpcsynapse("status", "--json", "silent"))[0]["state"] == "TRAINING"
    user.hpcsynapse("cancel", "silent")
