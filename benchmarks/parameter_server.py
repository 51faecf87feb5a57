"""Parameter servers: bytes served against a plain socket echo, and two async workers against two independent processes.

    python benchmarks/parameter_server.py [--rounds 16] [--worlds 4] [--steps 20]

Bytes: gradients of 4, 25 and 100 MB are pushed and parameters pulled through one server in a process of its own; the
echo sends the same bytes to a process that receives all of them into memory taken before, then sends them back. They
run in turns, a block each in random order; printed are the medians of echo / served over the rounds with 95 %
intervals, by the clock and by the processor time of both ends, which other work on the machine lengthens less; the
control is the echo against itself. The server updates meanwhile, by SGD without and with momentum. Worker on one core,
server and echo on another: left to the scheduler both ends often share one, and nothing overlaps. The goal is 0.8.

Workers: simple-cnn on digits (1.2 M parameters, batch 64), a world of two processes and a server; all processes stay,
and blocks of steps with push and pull alternate with blocks of plain local steps of the same model, both ranks at
once. Compared is the best decile of all steps of a world, independent / served: the share of the ceiling. The goal is
0.9. Writes benchmarks/results/parameter_server.json with every block's figure.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paired
import torch

from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.secret import ensure_secret
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.resources import ResourceRequest
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.trainer.parameter_server.layout import FlatModel
from hpcsynapse.trainer.parameter_server.servers import Servers

RESULTS = Path(__file__).parent / "results" / "parameter_server.json"
SIZES, MOMENTA, GOALS = (4, 25, 100), (0.0, 0.9), {"bytes": 0.8, "workers": 0.9}
BATCH, WORKERS = 64, 2
CORES = os.sched_getaffinity(0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def echo(port: int, size: int) -> None:
    """Receive `size` bytes into memory taken before and send them back, again and again."""
    memory = memoryview(bytearray(size))
    connection, _ = socket.create_server(("127.0.0.1", port)).accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        done = 0
        while done < size:
            count = connection.recv_into(memory[done:])
            if not count:
                return
            done += count
        connection.sendall(memory)


def child(*words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "--child", *map(str, words)], env=os.environ)


def make_run(folder: str, workers: int, **train: object) -> RunDirectory:
    spec = JobSpec(
        name="run",
        resources=ResourceRequest(ranks_per_node=workers),
        train=TrainSpec(strategy="ps-async", **train),
        launch=LaunchOptions(start_limit=120, wait_limit=120),
    )
    return RunDirectory.create(Path(folder), spec)


def serve(run: RunDirectory, address: str, workers: int) -> subprocess.Popen[bytes]:
    hosts = ",".join(f"127.0.0.1:{number + 1}" for number in range(workers))
    command = [
        sys.executable,
        "-m",
        "hpcsynapse.job",
        "train",
        str(run.path),
        "--ps-hosts",
        address,
        "--worker-hosts",
        hosts,
        "--job-name",
        "ps",
    ]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def join(
    run: RunDirectory, address: str, model: torch.nn.Module, worker: int, workers: int
) -> tuple[FlatModel, Servers]:
    flat = FlatModel(model, run.load_spec().train)
    servers = Servers(
        [address],
        ensure_secret(run),
        flat,
        worker,
        workers,
        repeat=False,
        start_limit=120,
        wait_limit=120,
        rejoin_limit=5,
        alive=lambda: None,
        over=lambda: False,
    )
    if servers.empty:
        servers.give(0)
    servers.pull()
    return flat, servers


def apart(others: list[subprocess.Popen[bytes]]) -> None:
    """Keep this process on one core and the others on another: the scheduler puts both ends of a socket on one."""
    if len(CORES) > 1:
        first, second, *_ = sorted(CORES)
        os.sched_setaffinity(0, {first})
        for other in others:
            os.sched_setaffinity(other.pid, {second})


def best(times: list[float]) -> float:
    return float(np.quantile(times, 0.1))


def processor_time(pid: int) -> float:
    """Return the seconds that all threads of a process have run (proc(5), schedstat)."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def measure_bytes(megabytes: int, momentum: float, rounds: int) -> dict[str, object]:
    """Return what a transfer takes, served and echoed, in turns: processor time of both ends, and the clock."""
    size, count = megabytes * 1_000_000, max(10, 400 // megabytes)
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.zeros(size // 4))
    port, address = free_port(), f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(folder, 1, momentum=momentum)
        processes = [serve(run, address, 1), child("echo", port, size)]
        apart(processes)
        _, servers = join(run, address, model, 0, 1)
        out, into = memoryview(bytearray(size)), memoryview(bytearray(size))
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def echoed() -> None:
            connection.sendall(out)
            done = 0
            while done < size:
                done += connection.recv_into(into[done:])

        def block(transfer: Callable[[], object], other: int) -> paired.Usage:
            cpu, wall = processor_time(other) + time.process_time(), time.perf_counter()
            for _ in range(count):
                transfer()
            wall = (time.perf_counter() - wall) / count
            return paired.Usage((processor_time(other) + time.process_time() - cpu) / count, wall)

        server, other = (process.pid for process in processes)
        found = paired.in_turns(
            {
                "served": lambda: block(lambda: servers.push(0, 0.01, 1), server),
                "echo": lambda: block(echoed, other),
                "control": lambda: block(echoed, other),
            },
            rounds,
        )
        servers.done()
        servers.leave()
        connection.close()
        for process in processes:
            process.wait(60)
    os.sched_setaffinity(0, CORES)
    cpu = {name: [one.cpu for one in blocks] for name, blocks in found.items()}
    wall = {name: [one.wall for one in blocks] for name, blocks in found.items()}
    return {
        "mb": megabytes,
        "momentum": momentum,
        "cpu_s": {name: paired.median_interval(values) for name, values in cpu.items()},
        "wall_s": {name: paired.median_interval(values) for name, values in wall.items()},
        "ratio": paired.ratio(wall["echo"], wall["served"]),
        "ratio_cpu": paired.ratio(cpu["echo"], cpu["served"]),
        "control": paired.ratio(wall["echo"], wall["control"]),
        "control_cpu": paired.ratio(cpu["echo"], cpu["control"]),
    }


def rank_main(path: str, address: str, worker: int, rounds: int, count: int) -> None:
    """Measure on one worker: blocks of served and of local steps, both workers at the same time."""
    from hpcsynapse.trainer import data, models

    torch.set_num_threads(1)
    run = RunDirectory(Path(path))
    digits = data.load("digits", None, {})
    torch.manual_seed(0)
    model, alone = models.create("simple-cnn", {}), models.create("simple-cnn", {})
    flat, servers = join(run, address, model, worker, WORKERS)
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.02, momentum=0.9)
    order, position, step = np.random.default_rng(worker).permutation(len(digits.train)), 0, 0

    def forward_backward(network: torch.nn.Module) -> float:
        nonlocal position
        if position + BATCH > len(order):
            position = 0
        images, labels = digits.train.batch(order[position : position + BATCH])
        position += BATCH
        for parameter in network.parameters():
            parameter.grad = None
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        return loss.item()

    def served() -> None:
        nonlocal step
        forward_backward(model)
        flat.gather()
        servers.push(step, 0.02, BATCH)
        step += 1

    def independent() -> None:
        forward_backward(alone)
        optimizer.step()

    folder = Path(path)
    times: dict[str, list[list[float]]] = {"served": [], "independent": []}
    for number in range(rounds + 1):
        for name, action in sorted({"served": served, "independent": independent}.items(), reverse=bool(number % 2)):
            meet(folder, f"{number}-{name}", worker)
            block = []
            for _ in range(count):
                begin = time.perf_counter()
                action()
                block.append(time.perf_counter() - begin)
            if number:
                times[name].append(block)
    (folder / f"times-{worker}.json").write_text(json.dumps(times))
    servers.done()
    servers.leave()


def meet(folder: Path, name: str, worker: int) -> None:
    """Return when every worker has come here: by files, so that nothing else runs while steps are timed."""
    (folder / f"meet-{name}-{worker}").touch()
    while not all((folder / f"meet-{name}-{number}").exists() for number in range(WORKERS)):
        time.sleep(0.002)


def measure_workers(rounds: int, count: int) -> dict[str, float]:
    """Run one world and return the best-decile step times (s) of both kinds of steps, over both workers."""
    with tempfile.TemporaryDirectory() as folder:
        run, address = make_run(folder, WORKERS), f"127.0.0.1:{free_port()}"
        processes = [serve(run, address, WORKERS)]
        processes += [child("worker", run.path, address, number, rounds, count) for number in range(WORKERS)]
        if any(process.wait(900) for process in processes):
            sys.exit("a process failed")
        found = [json.loads((run.path / f"times-{number}.json").read_text()) for number in range(WORKERS)]
    return {name: best([time_ for one in found for block in one[name] for time_ in block]) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--mb", type=int, action="append", help="sizes of the transfers")
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if options.child:
        kind, *words = options.child
        if kind == "echo":
            echo(int(words[0]), int(words[1]))
        else:
            rank_main(words[0], words[1], *map(int, words[2:]))
        return
    rows = [measure_bytes(size, momentum, options.rounds) for size in options.mb or SIZES for momentum in MOMENTA]
    print("  MB momentum   echo / served, clock   processor time      control: clock      processor time")
    for row in rows:
        told = "   ".join(paired.shown(row[name]) for name in ("ratio", "ratio_cpu", "control", "control_cpu"))
        print(f"{row['mb']:4} {row['momentum']:8}   {told}")
    about = {**paired.about(), "torch": torch.__version__, "goals": GOALS, "rounds": options.rounds, "bytes": rows}
    if options.worlds:
        worlds = [measure_workers(options.rounds, options.steps) for _ in range(options.worlds)]
        shares = sorted(world["independent"] / world["served"] for world in worlds)
        print(f"two async workers: {np.median(shares):.3f} ({shares[0]:.3f}-{shares[-1]:.3f}) of two independent ones")
        about["workers"] = {
            "batch": BATCH,
            "workers": WORKERS,
            "best_decile_s": worlds,
            "share": float(np.median(shares)),
        }
    RESULTS.write_text(json.dumps(about, indent=1) + "\n")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
