"""`hpcsynapse export`: runs in the formats of other programs, at any time and from any run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcsynapse.cli.bars import reading, working
from hpcsynapse.cli.options import runs_option
from hpcsynapse.errors import SpecError
from hpcsynapse.runs.find import runs_folder

if TYPE_CHECKING:
    from hpcsynapse.runs.directory import RunDirectory
    from hpcsynapse.submission.status import RunStatus


@click.group()
def command() -> None:
    """Write what runs recorded in the formats of other programs: while they run, or long after."""


@command.command("tensorboard", short_help="Write scalars as event files of TensorBoard.")
@click.argument("names", metavar="RUN|STUDY...", nargs=-1, required=True)
@runs_option
@click.option("-o", "--output", metavar="DIR", required=True, help="folder that gets a folder for every run")
def tensorboard(names: tuple[str, ...], runs: str | None, output: str) -> None:
    """Write loss, rates, times and validations of runs into DIR/RUN, for `tensorboard --logdir DIR`.

    A second export of a run replaces the first. A folder of step records may stand in place of a run. The package
    tensorboard is not needed for it.
    """
    from hpcsynapse.export.scalars import scalars_of
    from hpcsynapse.export.tensorboard import write_events

    for name, source in _sources(names, runs):
        folder = Path(output) / name
        try:
            with reading():
                scalars = scalars_of(source)
            count = write_events(scalars, folder)
        except OSError as error:
            raise SpecError(f"{folder} cannot be written: {error.strerror or error}") from None
        click.echo(f"{folder}: {count} points; see it: tensorboard --logdir {output}")


@command.command("openmetrics", short_help="Print state and progress as OpenMetrics text.")
@click.argument("names", metavar="[RUN|STUDY...]", nargs=-1)
@runs_option
@click.option("-o", "--output", metavar="FILE", help="write FILE, which appears whole  [default: standard output]")
def openmetrics(names: tuple[str, ...], runs: str | None, output: str | None) -> None:
    """Print the newest numbers of the runs named, or of all that go on, for Prometheus and its textfile collectors.

    Each queue is asked once. A run is one sample of every quantity; its steps are not there.
    """
    from hpcsynapse.cli.tables import write
    from hpcsynapse.export.openmetrics import openmetrics as document

    text = document(_statuses(names, runs_folder(runs)))
    if output is None:
        click.echo(text, nl=False)
    else:
        write(Path(output), text, "--output")


@command.command("mlflow", short_help="Send settings and scalars to an MLflow server.")
@click.argument("names", metavar="RUN|STUDY...", nargs=-1, required=True)
@runs_option
@click.option("--tracking-uri", metavar="URL", help="http(s) address of the server [MLFLOW_TRACKING_URI]")
@click.option(
    "--experiment", metavar="NAME", default="hpcsynapse", show_default=True, help="experiment that gets the runs"
)
def mlflow(names: tuple[str, ...], runs: str | None, tracking_uri: str | None, experiment: str) -> None:
    """Send settings, scalars and state of runs to an MLflow server, by its REST protocol.

    A second export adds what is new since the first: nothing where the run has ended. One that was cut off goes on
    where it ended. Credentials come from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
    MLFLOW_TRACKING_TOKEN. MLflow itself is not needed for it.
    """
    import os

    from hpcsynapse.export.mlflow import export_run
    from hpcsynapse.export.rest import RestServer
    from hpcsynapse.runs.directory import RunDirectory
    from hpcsynapse.submission.status import statuses

    if not (address := tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")):
        raise SpecError("which server? give --tracking-uri http://HOST:5000, or set MLFLOW_TRACKING_URI")
    server = RestServer(address)
    for name, source in _sources(names, runs):
        state = statuses([source])[0].state if isinstance(source, RunDirectory) else None
        with working(f"sending {name}") as progress:
            done = export_run(source, state, server, experiment, progress)
        click.echo(f"{name}: {done.added} points added; see {done.page(server.address)}")


@command.command("weights", short_help="Write a model's trained parameters to a file.")
@click.argument("name", metavar="RUN")
@runs_option
@click.option("-o", "--output", metavar="FILE", required=True, help="FILE.pt or FILE.safetensors, which appears whole")
@click.option("--step", type=int, metavar="N", help="checkpoint of this step  [default: the newest whole one]")
def weights(name: str, runs: str | None, output: str, step: int | None) -> None:
    """Write parameters and buffers of a run of the built-in trainer by their names, of its newest checkpoint.

    A .pt file is a state dict: model.load_state_dict(torch.load(FILE, weights_only=True)). A .safetensors file needs
    the package safetensors. Checkpoints in pieces (strategy sharded) are put together.
    """
    from hpcsynapse.study.folder import find_run

    run = find_run(runs_folder(runs), name)
    try:
        from hpcsynapse.trainer.weights import export_weights
    except ModuleNotFoundError as error:
        raise SpecError(
            f"checkpoints are read by {error.name}, which is not installed; install hpcsynapse[train]"
        ) from None
    found, tensors = export_weights(run.checkpoints, Path(output), step)
    click.echo(f"{output}: {tensors} tensors of step {found}")


def _sources(names: Sequence[str], runs: str | None) -> list[tuple[str, RunDirectory | Path]]:
    """Return runs and folders of records with the names by which they are told apart."""
    from hpcsynapse.report.loading import find_records
    from hpcsynapse.runs.directory import RunDirectory
    from hpcsynapse.study.folder import StudyDirectory, name_of

    folder, found = runs_folder(runs), dict[str, RunDirectory | Path]()
    for name in names:
        study = StudyDirectory.at(folder, name)
        for one in [find_records(folder, name)] if study is None else study.runs():
            own = name_of(one) if isinstance(one, RunDirectory) else _folder_name(one)
            if found.setdefault(own, one) != one:
                raise SpecError(f"{found[own]} and {one} have the same name; export them one by one")
    return list(found.items())


def _folder_name(records: Path) -> str:
    whole = records.resolve()
    return whole.parent.name if whole.name == "timings" else whole.name


def _statuses(names: Sequence[str], folder: Path) -> list[RunStatus]:
    """Return the states of the runs named, or of all that go on, under the names that tell them apart."""
    from dataclasses import replace

    from hpcsynapse.runs.directory import RunDirectory
    from hpcsynapse.runs.states import FINAL_STATES
    from hpcsynapse.study.folder import StudyDirectory, find_runs, name_of
    from hpcsynapse.submission.status import statuses

    if names:
        meant = find_runs(folder, names)
    else:
        meant = [*RunDirectory.all(folder), *(run for study in StudyDirectory.all(folder) for run in study.runs())]
    found = [replace(one, name=name_of(run)) for run, one in zip(meant, statuses(meant), strict=True)]
    return [one for one in found if names or one.state not in FINAL_STATES]
