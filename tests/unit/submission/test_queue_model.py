"""Whatever a queue answers: nothing is queued twice, nothing that runs is called failed or lost, all can be ended."""

from __future__ import annotations

import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from queue_model import Queue

from hpcsynapse.errors import CommandError, SpecError, SubmitError
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.runs.states import RunState
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.launch import LaunchOptions
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.submission import commands
from hpcsynapse.submission.cancel import request_cancel
from hpcsynapse.submission.enqueue import enqueue
from hpcsynapse.submission.status import statuses
from hpcsynapse.submission.submit import resubmit

SPEC = JobSpec(
    name="r",
    command=("true",),
    workdir="/",
    queue=QueueOptions(scheduler="slurm"),
    launch=LaunchOptions(launcher="srun"),
)
WRONG = {RunState.FAILED, RunState.LOST, RunState.FINISHED}


class Story:
    """One run, its queue, and what people do to it."""

    def __init__(self, folder: Path, queue: Queue) -> None:
        self.queue = queue
        self.run = RunDirectory.create(folder, SPEC, {"job.sh": "#!/bin/bash\n"})
        self.script = self.run.job_script("job.sh")
        self.cancelled = False

    def submit(self) -> None:
        with suppress(SubmitError):
            enqueue([self.run], SPEC, self.script)

    def look(self) -> None:
        (status,) = statuses([self.run])
        running = [job for job in self.queue.jobs.values() if job.script == self.script and job.state == "RUNNING"]
        assert len(running) <= 1, "two jobs write into one run"
        if running:
            assert status.state not in WRONG, f"{status.state} ({status.reason}), but job {running[0].number} runs"
        if self.queue.alive(self.script) and not self.cancelled:
            assert status.state not in WRONG | {RunState.STOPPED}, f"{status.state} ({status.reason}), but a job waits"

    def resume(self) -> None:
        alive, late = self.queue.alive(self.script), self.script in self.queue.late
        count = self.queue.count + len(self.queue.late)
        with suppress(SpecError, SubmitError, CommandError):
            resubmit(self.run)
            self.cancelled = False
        handed = self.queue.count + len(self.queue.late) > count
        # A run that was cancelled before anybody knew whether the queue has it is closed to that job.
        assert not (handed and (alive or late) and not self.cancelled), "queued twice"

    def cancel(self) -> None:
        with suppress(CommandError):
            request_cancel(self.run)
            self.cancelled = True

    def step(self) -> None:
        queue = self.queue
        people = (self.look, self.look, self.look, self.resume, self.cancel)
        queue.random.choice((*people, queue.arrive, queue.start, queue.start, queue.end, queue.forget))()

    def end_well(self) -> None:
        """Once the queue answers again, the state is right and what goes on can be cancelled."""
        queue, queue.faults = self.queue, 0.0
        while queue.late:
            queue.arrive()
        self.look()
        if queue.alive(self.script):
            request_cancel(self.run)
            self.cancelled = True
            for _ in range(3):
                queue.start()  # a job that nobody knew ends as it starts
            assert not queue.alive(self.script), "a job that cannot be cancelled"
            (status,) = statuses([self.run])
            assert status.state == RunState.STOPPED, f"{status.state} after cancel"


def play(folder: Path, monkeypatch: pytest.MonkeyPatch, seeds: range) -> None:
    for seed in seeds:
        queue = Queue(random.Random(seed))
        monkeypatch.setattr(commands, "run", queue.run)
        story = Story(folder, queue)
        try:
            story.submit()
            for _ in range(queue.random.randrange(3, 14)):
                story.step()
            story.end_well()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None
        shutil.rmtree(story.run.path)


def test_some_stories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(tmp_path, monkeypatch, range(60))


@pytest.mark.slow
def test_ten_thousand_stories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(tmp_path, monkeypatch, range(10_000))
