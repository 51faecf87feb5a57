"""What the web page costs: start, answers, memory and processor time with many runs, and how soon a change is seen.

    python benchmarks/serve.py [--runs 1000] [--steps 10000000] [--json]

Runs are made in a temporary folder: all ended but ten. Ten clients ask at the same time. The floor of the start is what
Python and the two libraries take to be imported. Times are wall time and depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.timing import RECORD, StepRecorder

LIVE = 10
LOG_BYTES = 2 << 30


class Link(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def make_runs(folder, count):
    tables = {"name": "run-00000", "queue": {"scheduler": "local"}, "resources": {"ranks_per_node": 4}}
    first = RunDirectory.create(folder, JobSpec.from_dict(tables), {"job.sh": "#!/bin/bash\n"})
    now = time.time() - 10_000
    first.submission.write_text(json.dumps({"scheduler": "local", "job_id": "x:1:1", "time": now}))
    first.append_history("QUEUED")
    status = {"state": "FINISHED", "step": 100, "steps": 100, "loss": 0.5, "samples_per_s": 900.0, "model": "resnet50"}
    first.status.write_text(json.dumps({**status, "time": now, "metrics": {"accuracy": 0.9}}))
    first.exit.write_text(json.dumps({"exit_code": 0, "time": now}))
    names = ("run.toml", "submission.json", "status.json", "exit.json", "history.jsonl")
    texts = {name: (first.path / name).read_bytes() for name in names}
    for number in range(1, count):
        path = folder / f"run-{number:05d}"
        path.mkdir()
        for name in names:
            (path / name).write_bytes(texts[name])
        told = {
            **status,
            "loss": 1 / number,
            "samples_per_s": 900 + number % 97 + 0.123,
            "metrics": {"accuracy": number / count},
        }
        (path / "status.json").write_text(json.dumps({**told, "time": now + number}))
    for number in range(min(LIVE, count)):
        run = RunDirectory(folder / f"run-{number:05d}")
        run.exit.unlink()
        (run.path / "submission.json").write_text("{}")
    return first


def make_long(run, steps):
    """Write records of so many steps of one rank, the same block over and over."""
    recorder = StepRecorder(run.timings, rank=0)
    recorder.end(samples=32, loss=1.0)
    recorder.close()
    block = b"".join(
        RECORD.pack(n, 0, 1.8e9 + n, 0.01, 0.02, 0.03, 0.01, 0.01, 0.08, 32, 1.0, -1, 0, 0, 0) for n in range(10_000)
    )
    with recorder.path.open("ab") as file:
        for _ in range(steps // 10_000):
            file.write(block)
    run.logs.mkdir(exist_ok=True)
    with run.rank_log(0).open("wb") as log:
        log.truncate(LOG_BYTES)


def measured(path, token, wanted, times=30, clients=10, headers=None):
    """Return the median and 95th percentile of answers (ms) to ten clients, and the bytes of one."""
    found, sizes = [], []

    def ask():
        link = Link(path)
        for _ in range(times):
            begin = time.perf_counter()
            link.request(
                "GET",
                wanted,
                headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip", **(headers or {})},
            )
            answer = link.getresponse()
            body = answer.read()
            found.append(1e3 * (time.perf_counter() - begin))
            assert answer.status in (200, 304), (answer.status, body[:200])
            sizes.append(len(body))
        link.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.sort()
    return {
        "median_ms": round(statistics.median(found), 1),
        "p95_ms": round(found[int(0.95 * len(found))], 1),
        "bytes": sizes[-1],
    }


def get(path, token, wanted):
    link = Link(path)
    link.request("GET", wanted, headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"})
    answer = link.getresponse()
    body = answer.read()
    link.close()
    assert answer.status == 200, body
    return json.loads(
        gzip.decompress(body) if answer.headers.get("content-encoding") == "gzip" else body
    ), answer.headers


def memory(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return round(int(line.split()[1]) / 1024, 1)
    return None


def processor(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def latency(path, token, run, times=10):
    """Return how long after a change of a run's status a stream of events tells it (s)."""
    link = Link(path)
    link.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {token}"})
    answer, found = link.getresponse(), []
    for number in range(times):
        time.sleep(0.37)
        run.status.write_text(json.dumps({"state": "TRAINING", "step": 1000 + number, "steps": 5000}))
        begin = time.perf_counter()
        while f'"step":{1000 + number},'.encode() not in answer.readline():
            pass
        found.append(time.perf_counter() - begin)
    link.close()
    return round(max(found), 2)


def start(folder, home):
    environment = {**os.environ, "XDG_RUNTIME_DIR": home, "XDG_STATE_HOME": f"{home}/state"}
    begin = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "hpcsynapse", "serve", "--runs", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    path = server.stdout.readline().split(" -L ")[1].split(" ")[0].partition(":")[2]
    token = server.stdout.readline().split("token=")[1].strip()
    link = Link(path)
    link.request("GET", "/")
    assert link.getresponse().status == 200
    return server, path, token, round(time.perf_counter() - begin, 2)


def floor():
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import starlette.applications, uvicorn"], check=True)
    return round(time.perf_counter() - begin, 2)


def answers(path, token, tag):
    return {
        "runs": measured(path, token, "/api/v1/runs"),
        "runs, unchanged (304)": measured(path, token, "/api/v1/runs", headers={"If-None-Match": tag}),
        "one run": measured(path, token, "/api/v1/run?name=run-00011"),
        "curve of the long run, 2,000 points": measured(
            path, token, "/api/v1/curve?name=run-00000&points=2000", times=3
        ),
        "end of a log of 2 GB": measured(path, token, "/api/v1/log?name=run-00000&log=rank-00000&length=65536"),
        "middle of that log": measured(
            path, token, "/api/v1/log?name=run-00000&log=rank-00000&begin=1000000000&length=65536"
        ),
    }


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--runs", type=int, default=1000)
    options.add_argument("--steps", type=int, default=10_000_000)
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    assert struct.calcsize("<I") == 4 and asked.runs > LIVE + 1
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory(prefix="hs-", dir="/tmp") as home:
        folder = Path(place) / "runs"
        make_long(make_runs(folder, asked.runs), asked.steps)
        told = {"runs": asked.runs, "load before": os.getloadavg()[0], "import alone s": min(floor() for _ in range(3))}
        server, path, token, told["start to first answer s"] = start(folder, home)
        told["memory idle MB"] = memory(server.pid)
        begin = time.perf_counter()
        found, headers = get(path, token, "/api/v1/runs")
        told["first list s"] = round(time.perf_counter() - begin, 2)
        while found["unread"]:
            time.sleep(0.2)
            found, headers = get(path, token, "/api/v1/runs")
        told["all runs read s"] = round(time.perf_counter() - begin, 2)
        time.sleep(3)  # descriptions are read behind the states
        found, headers = get(path, token, "/api/v1/runs")
        told["answers"] = answers(path, token, headers["etag"])
        told["memory MB"] = memory(server.pid)
        told["change to event, longest of 10, s"] = latency(path, token, RunDirectory(folder / "run-00003"))
        before = processor(server.pid)
        time.sleep(20)
        told["processor seconds an hour, nobody looks"] = round((processor(server.pid) - before) * 180, 1)
        link = Link(path)
        link.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {token}"})
        link.getresponse()
        time.sleep(2)
        before = processor(server.pid)
        time.sleep(20)
        told["processor seconds an hour, one looks"] = round((processor(server.pid) - before) * 180, 1)
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
