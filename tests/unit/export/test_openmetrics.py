"""The parser of the Prometheus client accepts what is printed, and finds in it what the run says of itself."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import SpecError
from hpcsynapse.export.openmetrics import openmetrics
from hpcsynapse.files import write_json
from hpcsynapse.runs.states import RunState
from hpcsynapse.submission.status import RunStatus

parser = pytest.importorskip("prometheus_client.openmetrics.parser")


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def status(**told):
    return RunStatus(**{"name": "run", "path": "/r", "state": RunState.TRAINING, **told})


def test_state_progress_and_validation_are_there() -> None:
    progress = {"step": 7, "steps": 10, "loss": 0.1, "lr": None, "eta_s": float("inf"), "metrics": {"accuracy": 0.5}}
    found = samples(openmetrics([status(progress=progress, scheduler="slurm", job_id="12", exit_code=3)]))
    run = ("run", "run")
    info = found.pop(("hpcsynapse_run_info", ("job_id", "12"), run, ("scheduler", "slurm")))
    states = {key[1][1]: found.pop(key) for key in list(found) if key[0] == "hpcsynapse_run_state"}
    assert info == 1 and states == {str(state): float(state == RunState.TRAINING) for state in RunState}
    assert found == {
        ("hpcsynapse_step", run): 7,
        ("hpcsynapse_planned_steps", run): 10,
        ("hpcsynapse_loss", run): 0.1,
        ("hpcsynapse_validation", ("metric", "accuracy"), run): 0.5,
        ("hpcsynapse_exit_code", run): 3,
    }


def test_no_name_can_break_out_of_its_label() -> None:
    name = 'a"} 1\n# EOF\n\\n\\'
    found = samples(openmetrics([status(name=name), status(name="b")]))
    assert {dict(key[1:])["run"] for key in found} == {name, "b"}
    assert samples(openmetrics([status(name="\udcff")])) == samples(openmetrics([status(name="?")]))
    assert samples(openmetrics([])) == {}


def test_the_command_prints_or_writes_it(run, tmp_path) -> None:
    write_json(run.status, {"state": "TRAINING", "step": 3, "attempt": "0"})
    write_json(run.exit, {"exit_code": 0, "time": 1.7e9})
    where = ["--runs", str(run.path.parent)]
    printed = CliRunner().invoke(cli, ["export", "openmetrics", "exported", *where])
    assert printed.exit_code == 0, printed.output
    assert samples(printed.output)["hpcsynapse_step", ("run", "exported")] == 3
    target = tmp_path / "metrics.prom"
    assert CliRunner().invoke(cli, ["export", "openmetrics", "exported", "-o", str(target), *where]).exit_code == 0
    assert target.read_text() == printed.output
    assert CliRunner().invoke(cli, ["export", "openmetrics", *where]).output == "# EOF\n"  # none goes on
    wrong = CliRunner().invoke(cli, ["export", "openmetrics", "-o", str(tmp_path / "absent" / "m"), *where])
    assert isinstance(wrong.exception, SpecError)
