"""Every figure of the five sources that is shipped, typed here by hand from the sources."""

import pytest
from click.testing import CliRunner

from hpcsynapse.cli.report import command as report
from hpcsynapse.errors import SpecError
from hpcsynapse.report.publication import TABLES
from hpcsynapse.report.published import confusion, published

SETUPS = ("1x1", "1x4", "2x2", "2x4")
# Hours by batch and set-up: one GPU, 1 x 4, 2 x 2, 2 x 4.
SIMPLE_CNN = {
    8: (4.6, 3.4, 12, 7),
    16: (2.3, 1.6, 6, 3.5),
    32: (1.2, 0.8, 3, 1.75),
    64: (0.7, 0.4, 1.5, 0.9),
    128: (0.3, 0.25, 0.75, 0.4),
    256: (0.25, 0.2, 0.4, 0.25),
}
ONE_SUBJECT = {5: (0.33, 0.26, 0.5, 0.33), 10: (0.33, 0.25, 0.251, 0.168), 15: (0.25, 0.168, 0.232, 0.154)}
SUBJECTS = {
    10: (4.7, 3.1, 3.9, 2.8),
    20: (4.5, 2.7, 2.5, 2),
    30: (4.3, 2.5, 2, 1.75),
    40: (4.25, 2.3, 1.8, 1.5),
    50: (4.25, 2.25, 1.6, 1.4),
    60: (4.25, 2.25, 1.5, 1.3),
}
BRAIN = {("simple-cnn", "mnist"): SIMPLE_CNN, ("unet", "one subject"): ONE_SUBJECT, ("unet", "15 subjects"): SUBJECTS}
MATRIX = """
903 5 13 7 6 5 7 10 22 9 9.7
4 957 1 3 1 2 1 3 16 35 4.3
25 0 853 19 17 25 23 5 2 0 14.7
13 2 27 808 23 89 21 18 6 6 19.2
12 3 45 31 890 17 10 16 1 1 11.0
0 1 21 88 17 828 11 19 1 1 17.2
2 0 28 17 21 8 920 2 1 3 8.0
5 0 8 19 22 20 4 925 1 1 7.5
26 8 3 6 3 4 2 2 945 11 5.5
10 24 1 2 0 2 1 0 5 933 6.7
"""


def test_the_60_figures_of_brain_imaging():
    citation, rows = published("brain-imaging")
    assert "7.1 to 7.3" in citation
    found = {
        (row.model, row.data, row.batch_per_rank, f"{row.nodes}x{row.ranks // row.nodes}"): row.train_time_h
        for row in rows
    }
    expected = {
        (*key, batch, setup): hours
        for key, table in BRAIN.items()
        for batch, values in table.items()
        for setup, hours in zip(SETUPS, values, strict=True)
    }
    assert len(rows) == len(expected) == 60
    assert found == pytest.approx(expected)


def test_brain_imaging_is_compared_with_one_gpu_at_the_same_batch():
    rows = [row for row in published("brain-imaging")[1] if (row.model, row.batch_per_rank) == ("simple-cnn", 8)]
    assert [row.speedup for row in rows] == pytest.approx([1, 4.6 / 3.4, 4.6 / 12, 4.6 / 7])
    assert [row.ranks for row in rows] == [1, 4, 4, 8]
    assert {row.strategy for row in rows} == {"allreduce-broadcast"}


def test_brain_imaging_has_the_form_of_its_tables():
    rows, columns = TABLES["batch"](published("brain-imaging")[1])
    assert list(columns) == ["model", "data", "batch_per_rank", *SETUPS]
    for row in rows:
        values = BRAIN[row["model"], row["data"]][row["batch_per_rank"]]
        assert [row[setup] for setup in SETUPS] == pytest.approx(values)


def test_bk_synapse_has_step_times_beside_its_epochs():
    rows = published("bk-synapse")[1]
    assert [row.step_time_s for row in rows] == [7.92, 10.41, 3.04, 4.48]
    assert [row.epoch_time_s for row in rows] == pytest.approx([2130.33, 1421.10, 832.79, 606.14])


def test_minotauro_has_rates_hours_and_errors_by_nodes():
    citation, rows = published("minotauro")
    assert "Image Recognition with Deep Learning Techniques and TensorFlow" in citation
    found = [(row.strategy, row.nodes, row.ranks, row.steps_per_s, row.train_time_h) for row in rows]
    assert found == [
        ("ps-async", 1, 1, 0.47, 22),
        ("ps-async", 1, 4, 1.73, 7.5),
        ("ps-async", 2, 8, 3.73, 3.4),
        ("mixed", 1, 4, 0.99, 6.8),
        ("mixed", 2, 8, 1.85, 3.5),
    ]
    errors = [100 * (1 - row.accuracy) for row in rows]
    assert errors == pytest.approx([10.37, 15.59, 15.54, 11.48, 11.15])
    modes, _ = TABLES["modes"](rows)
    assert {(row.strategy, row.ranks, row.steps_per_s, row.step_batch) for row in modes} == {
        ("ps-async", 1, 0.47, 128),
        ("ps-async", 4, 1.73, 128),
        ("ps-async", 8, 3.73, 128),
        ("mixed", 4, 0.99, 256),
        ("mixed", 8, 1.85, 256),
    }


def test_the_confusion_matrix_of_minotauro_gives_the_errors_that_it_prints():
    typed = [[float(word) for word in line.split()] for line in MATRIX.split("\n") if line]
    citation, counts = confusion("minotauro")
    assert "2016" in citation
    assert [list(row) for row in counts.matrix] == [row[:-1] for row in typed]
    assert [round(100 * counts.error(number), 1) for number in range(10)] == [row[-1] for row in typed]
    assert counts.true == [1000] * 10
    assert " ".join(counts.names) == "airplane automobile bird cat deer dog frog horse ship truck"
    # The matrix has 10.38 % errors, the table of modes 10.37 %.
    assert 1 - counts.metrics()["accuracy"] == pytest.approx(0.1038)
    with pytest.raises(SpecError, match="known are minotauro"):
        confusion("horovod")


def test_published_figures_need_no_run_beside_them():
    done = CliRunner().invoke(report, ["against", "brain-imaging", "--csv"])
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 61
