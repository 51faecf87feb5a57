"""Kills at drawn moments: runs on a lab of Slurm's virtual nodes, and what became of each.

    python benchmarks/soak.py [TRIALS] [SEED] [SECONDS]

A trial is a run of two nodes that may start again twice in its job and be queued again once. A victim (rank 0, another
rank, its wrapper, the launcher) is sent a signal in a phase that is drawn. The run has to end: finished, with exactly
the parameters of a run that was left alone, or in a true state that says why. Each trial follows from SEED and its
number alone; results/soak.json keeps them, and what is there is not tried again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT / "tests" / "lab")]
from conftest import SlurmLab, lab_of  # noqa: E402 - where they are is said above
from researcher import SLOW_MODEL, Researcher, Run, at_login  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "soak.json"
STRATEGIES = ("allreduce", "allreduce-broadcast", "central", "local-sgd")
PHASES = ("start-up", "steps", "saving", "validation")
VICTIMS = ("rank 0", "other rank", "wrapper", "launcher")
SIGNALS = ("KILL", "TERM", "SEGV", "STOP")
LIMIT = 300.0  # seconds within which every trial has to end
STEPS = 60
TRAIN = (
    *("--nodes", "2", "--engine", "ddp", "--model", "slow:Slow", "--set", "train.model_args.seconds=0.03"),
    *("--batch", "32", "--steps", str(STEPS), "--checkpoint-seconds", "1", "--wait-limit", "20", "--start-limit", "60"),
)
# Under local SGD a save averages the ranks: one by the clock would make its moment part of the result.
BY_EPOCHS = ("--checkpoint-seconds", "0")
PARAMETERS = """
import hashlib, sys, torch
model = torch.load(sys.argv[1], map_location="cpu", weights_only=True)["model"]
print(hashlib.sha256(b"".join(value.numpy().tobytes() for _, value in sorted(model.items()))).hexdigest())
"""


def drawn(seed: int, number: int) -> dict[str, Any]:
    """Return what trial `number` does; neighbours differ in strategy, later ones in signal."""
    dice = random.Random(f"{seed}-{number}")
    return {
        "trial": number,
        "strategy": STRATEGIES[number % len(STRATEGIES)],
        "signal": SIGNALS[number // len(STRATEGIES) % len(SIGNALS)],
        "phase": dice.choice(PHASES),
        "victim": dice.choice(VICTIMS),
        "step": dice.randint(2, STEPS - 10),
    }


def options(strategy: str) -> list[str]:
    """Return the options of a run of a strategy."""
    return [*TRAIN, "--strategy", strategy, *(BY_EPOCHS if strategy == "local-sgd" else ())]


def of_run(run: Run) -> dict[int, tuple[list[str], dict[str, str]]]:
    """Return the words and variables of every process that has to do with a run."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                items = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if str(run.path) in words:
                found[int(entry.name)] = words, dict(item.partition("=")[::2] for item in items)
    return found


def victim(run: Run, who: str) -> int | None:
    """Return a process of that kind, or None while there is none."""
    for pid, (words, environ) in sorted(of_run(run).items()):
        wrapper, trainer = "rank" in words and "srun" not in words[0], "train" in words and "rank" not in words
        rank = environ.get("RANK") or environ.get("SLURM_PROCID")
        fits = {
            "rank 0": trainer and rank == "0",
            "other rank": trainer and rank == "1",
            "wrapper": wrapper and rank == "1",
            "launcher": words[0] == "srun",
        }
        if fits[who]:
            return pid
    return None


def moment(lab: SlurmLab, run: Run, trial: dict[str, Any]) -> bool:
    """Wait for the phase of a trial; false where the run was over before."""
    wanted = {"saving": "SAVING", "validation": "EVALUATING"}.get(trial["phase"])

    def there() -> bool:
        try:
            told = run.file("status.json")
        except (OSError, ValueError):
            told = {}
        if (run.path / "exit.json").exists():
            return True
        if trial["phase"] == "start-up":
            return victim(run, trial["victim"]) is not None
        reached = told.get("step", 0) >= trial["step"]
        return reached and (wanted is None or told.get("state") == wanted or told.get("step", 0) >= STEPS - 8)

    until(there, 180)
    return not (run.path / "exit.json").exists()


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; returns whether it came."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def make(lab: SlurmLab, user: Researcher, trial: dict[str, Any], expected: dict[str, str]) -> dict[str, Any]:
    """Carry out one trial and return what became of it."""
    name = f"t{trial['trial']}"
    run = user.submit("--name", name, "--job-restarts", "2", "--requeues", "1", *options(trial["strategy"]))
    hit = moment(lab, run, trial)
    pid = victim(run, trial["victim"]) if hit else None
    if pid is not None:
        os.kill(pid, getattr(signal, f"SIG{trial['signal']}"))
    began, status = time.monotonic(), user.status(run)
    while status["state"] not in ("FINISHED", "STOPPED", "FAILED", "LOST") and time.monotonic() < began + LIMIT:
        lab.attempt("scontrol", "update", f"JobId={run.job_id}", "StartTime=now") if status[
            "state"
        ] == "QUEUED" else None
        time.sleep(1)
        status = user.status(run)
    starts = [json.loads(line) for line in run.text("starts.jsonl").splitlines()]
    outcome = {
        "hit": pid is not None,
        "state": status["state"],
        "reason": status["reason"],
        "seconds": round(time.monotonic() - began, 1),
        "starts": sum(one["event"] == "begin" for one in starts),
        "causes": [one.get("cause") for one in starts if one["event"] == "end" and "cause" in one],
    }
    return trial | outcome | {"wrong": judged(user, run, trial, outcome, expected)}


def judged(user: Researcher, run: Run, trial: dict[str, Any], outcome: dict[str, Any], expected: dict[str, str]) -> str:
    """Say what is wrong with the end of a trial; empty for nothing."""
    if outcome["state"] not in ("FINISHED", "STOPPED", "FAILED"):
        return f"has not ended within {LIMIT:g} s" if outcome["state"] != "LOST" else "lost"
    if outcome["state"] == "FINISHED":
        return "" if parameters(user, run) == expected[trial["strategy"]] else "other parameters"
    if not outcome["reason"]:
        return "no reason"
    # Who sends SIGTERM wants an end; every other signal is a failure from which the run comes back.
    return "" if trial["signal"] == "TERM" else "did not come back"


def parameters(user: Researcher, run: Run) -> str:
    """Return a hash of the newest checkpoint's parameters."""
    newest = max(run.path.glob("checkpoints/step-*.pt"))
    return user.call("python", "parameters.py", str(newest)).stdout.strip()


def references(user: Researcher, wanted: set[str]) -> dict[str, str]:
    """Return the parameters of runs that were left alone, and of one with another seed, which has to differ."""
    runs = {name: user.submit("--name", name, *options(name)) for name in sorted(wanted)}
    runs["another seed"] = user.submit("--name", "control", "--seed", "1", *options("allreduce"))
    for run in runs.values():
        user.finish(run, timeout=300)
    return {name: parameters(user, run) for name, run in runs.items()}


def soak(numbers: list[int], seed: int, seconds: float, keep: Callable[[dict[str, Any]], None]) -> None:
    """Carry out trials on a lab of their own until they are done or the time is over."""
    began = time.monotonic()
    with lab_of("x", 4, 0) as lab, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        user = at_login(lab, Path(folder))
        user.script("slow.py", SLOW_MODEL)
        user.script("parameters.py", PARAMETERS)
        expected = references(user, {drawn(seed, number)["strategy"] for number in numbers})
        control = expected.pop("another seed")
        assert control not in expected.values() and len(control) == 64, "the comparison can fail"
        try:
            for number in numbers:
                if time.monotonic() - began > seconds:
                    break
                keep(make(lab, user, drawn(seed, number), expected))
        finally:
            user.leave()


def summary(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of all trials; without a miss in n of them the rate lies below 3/n (95 %)."""
    hit = [one for one in trials if one["hit"]]
    back = [one["seconds"] for one in hit if one["state"] == "FINISHED" and one["starts"] > 1]
    return {
        "trials_made": len(trials),
        "hit": len(hit),
        "wrong": sum(bool(one["wrong"]) for one in trials),
        "finished": sum(one["state"] == "FINISHED" for one in hit),
        "started_again": sum(one["starts"] > 1 for one in hit),
        "seconds_to_the_end_median": statistics.median(back) if back else None,
        "seconds_to_the_end_worst": max(back, default=None),
    }


def main() -> None:
    count, seed, seconds = (float(word) for word in (*sys.argv[1:], *("200", "0", "3600")[len(sys.argv) - 1 :]))
    told = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    trials = told.get("trials", []) if told.get("seed") == int(seed) else []

    def keep(trial: dict[str, Any]) -> None:
        trials.append(trial)
        print(
            {key: trial[key] for key in ("trial", "strategy", "phase", "victim", "signal", "state", "wrong")},
            flush=True,
        )
        table = {"seed": int(seed), "load": os.getloadavg()[0], **summary(trials), "trials": trials}
        RESULTS.write_text(json.dumps(table, indent=1) + "\n")

    done = {one["trial"] for one in trials}
    soak([number for number in range(int(count)) if number not in done], int(seed), seconds, keep)


if __name__ == "__main__":
    main()
