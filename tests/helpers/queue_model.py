"""A queue that keeps jobs, loses answers and speaks rubbish: what commands print is what Slurm's print."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from hpcsynapse.errors import CommandError
from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.submission.commands import Completed

U = "\x1f"
RUBBISH = ["", "<html>502 Bad Gateway</html>\n", "9\n8\n", f"1{U}2\n", "slurm_load_jobs: \x1b[31m?\n", "JOBID\n"]
BANNERS = ["", "", "*** Maintenance on Monday ***\n", "Quota: 99 %\n2026\n"]
LOST_ANSWERS = [
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sbatch: error: Unable to contact slurm controller (connect failure)",
]


@dataclass
class Job:
    """One job: waiting, running, over or (its script found that the run belongs to another) refused."""

    number: int
    script: Path
    state: str = "PENDING"
    copied: bool = False  # a site's wrapper handed over a copy of the file


@dataclass
class Queue:
    """The model; `faults` is the share of commands that fail in some way."""

    random: random.Random
    faults: float = 0.4
    jobs: dict[int, Job] = field(default_factory=dict)
    late: list[Path] = field(default_factory=list)  # submissions on their way, whose senders were told nothing
    count: int = 0

    def run(self, command: list[str], **_: object) -> Completed:
        """Answer a command as Slurm would, or fail as networks, daemons and wrappers do."""
        failing = self.random.random() < self.faults
        return getattr(self, f"_{command[0]}")(command, failing)

    def alive(self, script: Path) -> list[Job]:
        """The jobs of a file that wait or run."""
        return [job for job in self.jobs.values() if job.script == script and job.state in ("PENDING", "RUNNING")]

    def _take(self, script: Path) -> Job:
        self.count += 1
        self.jobs[self.count] = Job(self.count, script)
        return self.jobs[self.count]

    def _git(self, command: list[str], failing: bool) -> Completed:
        """Know of no repository."""
        return Completed(128, "", "fatal: not a git repository")

    def _sinfo(self, command: list[str], failing: bool) -> Completed:
        """Describe nothing: a refusal is told without what could be asked for instead."""
        if failing:
            raise CommandError("sinfo did not answer within 120 s", command=command)
        return Completed(0, self.random.choice(RUBBISH), "")

    _sacctmgr = _scontrol = _sinfo

    def _sbatch(self, command: list[str], failing: bool) -> Completed:
        script = Path(command[-1])
        if not failing:
            job = self._take(script)
            said = self.random.choice([f"{job.number}\n", f"Submitted batch job {job.number}\n"])
            return Completed(0, self.random.choice(BANNERS[:3]) + said, "")
        match self.random.randrange(7):
            case 6:
                job = self._take(script)
                job.copied = True
                return Completed(1, f"{job.number}\n", "hook: disk full")
            case 0:
                self._take(script)  # the answer is lost on its way
                return Completed(1, "", self.random.choice(LOST_ANSWERS))
            case 1:
                self.late.append(script)
                raise CommandError("sbatch did not answer within 120 s", command=command)
            case 2:
                return Completed(1, "", self.random.choice(LOST_ANSWERS))
            case 3:
                self._take(script)
                return Completed(0, self.random.choice(RUBBISH), "")
            case 4:
                job = self._take(script)
                return Completed(0, f"{job.number}\n2026\n", "warning: quota")
        if self.random.random() < 0.5:  # a job that no node can take leaves a record
            self._take(script).state = "FAILED"
        return Completed(
            1, "", "sbatch: error: Batch job submission failed: Requested node configuration is not available"
        )

    def _squeue(self, command: list[str], failing: bool) -> Completed:
        if failing:
            match self.random.randrange(3):
                case 0:
                    raise CommandError("squeue did not answer within 30 s", command=command)
                case 1:
                    return Completed(0, self.random.choice(RUBBISH), "")
            return Completed(1, "", "slurm_load_jobs error: Unable to contact slurm controller")
        form = next(word for word in command if word.startswith("--format="))
        asked = next((word for word in command if word.startswith("--jobs=")), "--jobs=").partition("=")[2]
        numbers = {int(word) for word in asked.split(",") if word}
        chosen = [job for job in self.jobs.values() if not numbers or job.number in numbers]
        if numbers and not chosen:
            return Completed(1, "", "slurm_load_jobs error: Invalid job id specified")
        if "%o" in form:
            asked_states = next(word for word in command if word.startswith("--states=")).partition("=")[2].split(",")
            rows = [
                f"{job.number}{U}{'/tmp/copy' if job.copied else job.script}"
                for job in chosen
                if job.state in asked_states
            ]
            return Completed(0, "\n".join([f"JOBID{U}COMMAND", *rows]) + "\n", "")
        rows = [f"{job.number}{U}{job.state}{U}None{U}n1" for job in chosen]
        return Completed(0, self.random.choice(BANNERS) + "\n".join([f"JOBID{U}STATE{U}REASON{U}NODELIST", *rows]), "")

    def _scancel(self, command: list[str], failing: bool) -> Completed:
        job = self.jobs.get(int(command[-1])) if command[-1].isdigit() else None
        if failing:
            return Completed(1, "", "scancel: error: Unable to contact slurm controller")
        if job and job.state in ("PENDING", "RUNNING"):
            job.state = "CANCELLED"
        return Completed(0, "", "")

    def _sacct(self, command: list[str], failing: bool) -> Completed:
        return Completed(1, "", "Slurm accounting storage is disabled")

    # What happens in the cluster, whatever anybody asks.

    def arrive(self) -> None:
        """Let one submission arrive that was on its way."""
        if self.late:
            self._take(self.late.pop(0))

    def start(self) -> None:
        """Start a waiting job, whose script looks first whether the run is its own, as templates/shared has it."""
        waiting = [job for job in self.jobs.values() if job.state == "PENDING"]
        if not waiting:
            return
        job = self.random.choice(waiting)
        run = RunDirectory(job.script.parent)
        if run.owner_id() in (None, str(job.number)):
            run.owner.write_text(f"{job.number}\n")
            run.exit.unlink(missing_ok=True)
            write_json(run.status, {"state": "TRAINING", "step": 1})
            job.state = "RUNNING"
        else:
            job.state = "FAILED"

    def end(self) -> None:
        """End a running job: well, badly, or killed without a word."""
        running = [job for job in self.jobs.values() if job.state == "RUNNING"]
        if not running:
            return
        job = self.random.choice(running)
        run = RunDirectory(job.script.parent)
        job.state = self.random.choice(["COMPLETED", "FAILED", "NODE_FAIL"])
        if job.state != "NODE_FAIL":
            code = 0 if job.state == "COMPLETED" else 3
            write_json(run.status, {"state": "FINISHED" if code == 0 else "FAILED", "step": 2})
            write_json(run.exit, {"exit_code": code, "signal": ""})

    def forget(self) -> None:
        """Forget the jobs that are over, as slurmctld does after MinJobAge."""
        self.jobs = {job.number: job for job in self.jobs.values() if job.state in ("PENDING", "RUNNING")}
