"""The tables of the five sources, and LaTeX, from runs with known answers."""

import csv
import io
import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner
from phased_runs import Phased

from hpcsynapse.cli.report import command
from hpcsynapse.report.loading import load
from hpcsynapse.report.points import COLUMNS
from hpcsynapse.report.publication import TABLES
from hpcsynapse.report.scaling import scaling_report
from hpcsynapse.writers import to_latex

EXACT = {"noise": 0.0, "warmup": 0, "between": 0.0, "steps": 100}


def table(kind, *runs, **options):
    return TABLES[kind](scaling_report(map(load, runs), **options).points)


def test_training_time_by_batch_and_set_up(tmp_path):
    """The layout of the brain-imaging source: batch size by row, set-up by column, hours."""
    runs = []
    for batch in (8, 32):
        for ranks, per_node in ((1, 1), (4, 4), (4, 2), (8, 4)):
            run = Phased(ranks=ranks, per_node=per_node, batch=batch, exchange=0.01 * ranks, **EXACT)
            runs.append(run.write(tmp_path / f"{batch}-{ranks}-{per_node}"))
    rows, layout = table("batch", *runs, scaling="weak")
    assert tuple(layout) == ("model", "data", "batch_per_rank", "1x1", "1x4", "2x2", "2x4")
    assert [row["batch_per_rank"] for row in rows] == [8, 32]
    for row in rows:
        for setup, ranks in (("1x1", 1), ("1x4", 4), ("2x2", 4), ("2x4", 8)):
            assert row[setup] == pytest.approx(100 * (0.105 + 0.01 * ranks) / 3600, rel=1e-5)


def test_set_ups_of_several_strategies_have_columns_of_their_own(tmp_path):
    runs = [
        Phased(ranks=2, facts={"strategy": name, "engine": engine}, **EXACT).write(tmp_path / f"{name}{engine}")
        for name, engine in (("allreduce", "ddp"), ("allreduce", "mpi"), ("central", "mpi"))
    ]
    (row,), _ = table("batch", *runs)
    assert set(row) >= {"2x1 allreduce ddp", "2x1 allreduce mpi", "2x1 central mpi"}


def test_modes(tmp_path):
    """The layout of the MinoTauro source: steps/s of all workers, batch of a step, hours, speedup."""
    how = {**EXACT, "exchange": 0.02}
    runs = [
        Phased(ranks=ranks, together=False, facts={"strategy": "ps-async"}, **how).write(tmp_path / f"a{ranks}")
        for ranks in (1, 4)
    ]
    runs += [Phased(ranks=8, per_node=4, together=False, facts={"strategy": "mixed"}, **how).write(tmp_path / "m")]
    runs += [Phased(ranks=4, **how).write(tmp_path / "all")]
    rows, _ = table("modes", *runs, scaling="weak")
    found = {(row.strategy, row.ranks): row for row in rows}
    step = 0.125
    assert found["ps-async", 1].steps_per_s == pytest.approx(1 / step, rel=1e-3)
    assert found["ps-async", 4].steps_per_s == pytest.approx(4 / step, rel=1e-3)
    assert (found["ps-async", 4].step_batch, found["mixed", 8].step_batch, found["allreduce", 4].step_batch) == (
        32,
        128,
        128,
    )
    assert found["mixed", 8].steps_per_s == pytest.approx(2 / step, rel=1e-3)
    assert found["allreduce", 4].steps_per_s == pytest.approx(1 / step, rel=1e-3)
    assert found["allreduce", 4].hours == pytest.approx(100 * step / 3600, rel=1e-4)
    assert found["ps-async", 4].speedup == pytest.approx(4, rel=1e-3)
    assert found["ps-async", 4].error is None


def test_the_error_is_what_accuracy_leaves(make_directory):
    run = make_directory("r", 1, 0.1, status={"state": "FINISHED", "metrics": {"accuracy": 0.9}})
    (row,), _ = table("modes", run)
    assert row.error == pytest.approx(0.1)


def test_models(tmp_path):
    runs = [
        Phased(ranks=ranks, facts={"model": model, "strategy": strategy}, exchange=0.01 * ranks, **EXACT).write(
            tmp_path / f"{model}{strategy}{ranks}"
        )
        for model in ("vgg16", "alexnet")
        for strategy in ("ps-sync", "allreduce")
        for ranks in (1, 2)
    ]
    rows, layout = table("models", *runs)
    assert [(row.model, row.strategy, row.ranks) for row in rows] == [
        (model, strategy, ranks)
        for model in ("alexnet", "vgg16")
        for strategy in ("allreduce", "ps-sync")
        for ranks in (1, 2)
    ]
    assert rows[1].throughput == pytest.approx(64 / 0.125, rel=1e-4)
    assert rows[1].speedup == pytest.approx(2 * 0.115 / 0.125, rel=1e-4)
    assert list(layout) == [
        "model",
        "data",
        "strategy",
        "engine",
        "ranks",
        "throughput",
        "speedup",
        "speedup_low",
        "speedup_high",
    ]


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_the_command_writes_them_in_every_form(tmp_path, kind):
    runs = [str(Phased(ranks=ranks, **EXACT).write(tmp_path / str(ranks))) for ranks in (1, 2)]

    def call(*words):
        return CliRunner().invoke(command, ["published", kind, *runs, *words], catch_exceptions=False).stdout

    rows = list(csv.reader(io.StringIO(call("--csv"))))
    assert len(rows) == (2 if kind == "batch" else 3)
    assert {len(row) for row in rows} == {len(rows[0])}
    assert "simple-cnn" in call() and call("--markdown").startswith("| ")
    assert call("--latex").count(r"\\") == len(rows)
    call("--out", str(tmp_path / "t.tex"))
    assert r"\toprule" in (tmp_path / "t.tex").read_text()


def latex(tmp_path, **facts):
    runs = [Phased(ranks=ranks, steps=40, facts=facts).write(tmp_path / f"l{ranks}") for ranks in (1, 2)]
    return to_latex(scaling_report(map(load, runs)).points, COLUMNS)


def test_latex_is_a_tabular_with_rules_and_equal_rows(tmp_path):
    lines = latex(tmp_path).splitlines()
    assert lines[0] == r"% needs \usepackage{booktabs}"
    assert lines[1].startswith("% in all rows: strategy allreduce, ")
    columns = re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", lines[2])[1]
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]
    rows = [line for line in lines if line.endswith(r" \\")]
    assert len(rows) == 3
    assert {row.count(" & ") for row in rows} == {len(columns) - 1}
    assert r"100.0\%" in rows[1] and r"$\times$" in rows[2]
    assert lines[-1] == r"\end{tabular}"


def test_latex_escapes_what_records_say(tmp_path):
    text = latex(tmp_path, model=r"a_b&c%d$e#f{g}h~i^j\input{/etc/passwd}[k]", strategy="[x]")
    body = "\n".join(text.splitlines()[1:])
    assert r"a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}input\{/etc/passwd\}" in body
    assert r"\input" not in body and "{[}x]" in body
    for own in ("% in all", r"$\times$", r"$\mu$"):
        body = body.replace(own, "")
    assert not re.search(r"(?<!\\)[%$#_]", body)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX here")
def test_latex_is_accepted_by_latex(tmp_path):
    text = latex(tmp_path, model=r"a_b&c%d$e#f{g}h~i^j\k", strategy="[x]")
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + text + "\\end{document}\n"
    (tmp_path / "t.tex").write_text(document)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
