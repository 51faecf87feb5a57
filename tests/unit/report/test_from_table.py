"""Reports from figures that others measured; the published ones are known answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.errors import SpecError
from hpcsynapse.report.from_table import table_report


@pytest.fixture
def report(tmp_path):
    def run(text, **options):
        path = tmp_path / "table.csv"
        path.write_text(text)
        return table_report(path, **options).points

    return run


def test_bk_synapse_retinanet(report):
    """Epoch times of 1 and 2 CPUs, 1 and 2 GPUs: 1.50x / 75.0 % and 1.37x / 68.7 % are published."""
    rows = report("model,ranks,epoch_time_s\ncpu,1,2130.33\ncpu,2,1421.10\ngpu,1,832.79\ngpu,2,606.14\n")
    assert [round(row.speedup, 2) for row in rows] == [1.0, 1.5, 1.0, 1.37]
    assert [round(row.efficiency, 3) for row in rows] == [1.0, 0.75, 1.0, 0.687]
    assert [row.epoch_time_s for row in rows] == pytest.approx([2130.33, 1421.10, 832.79, 606.14])
    assert {row.scaling for row in rows} == {"strong"}


def test_minotauro_hours(report):
    """Training hours of the asynchronous and the mixed mode: 1x/3x/6.5x and 1x/2x are published."""
    rows = report("strategy,gpus,train_time_h\nasync,1,22\nasync,4,7.5\nasync,8,3.4\nmixed,4,6.8\nmixed,8,3.5\n")
    assert [row.speedup for row in rows] == pytest.approx([1, 2.93, 6.47, 1, 1.94], abs=0.01)
    assert [row.baseline_ranks for row in rows] == [1, 1, 1, 4, 4]
    assert rows[-1].efficiency == pytest.approx(6.8 / 3.5 / 2)


def test_minotauro_rates(report):
    rows = report("strategy,gpus,steps_per_s\nasync,1,0.47\nasync,4,1.73\nasync,8,3.73\nmixed,4,0.99\nmixed,8,1.85\n")
    assert [row.speedup for row in rows] == pytest.approx([1, 1.73 / 0.47, 3.73 / 0.47, 1, 1.85 / 0.99])
    assert [row.efficiency for row in rows] == pytest.approx([1, 0.920, 0.992, 1, 0.934], abs=1e-3)
    assert rows[2].step_time_s == pytest.approx(1 / 3.73)


def test_order_nodes_repeats_and_baseline(report):
    text = "nodes,ranks,images_per_s\n2,8,800\n1,4,500\n1,4,480\n2,8,840\n"
    base, point = report(text)
    assert (base.ranks, base.nodes, base.repeats, point.repeats) == (4, 1, 2, 2)
    assert point.throughput == pytest.approx((800 * 840) ** 0.5)
    assert point.efficiency_low < point.efficiency < point.efficiency_high
    assert point.throughput_low < point.throughput < point.throughput_high
    (timed,) = report("ranks,steps_per_s\n2,10\n2,12\n")
    assert timed.step_time_s_low < timed.step_time_s < timed.step_time_s_high
    assert [row.speedup for row in report(text, baseline="8")][1] == 1.0
    assert {row.scaling for row in report(text, scaling="strong")} == {"strong"}
    with pytest.raises(SpecError, match="baseline 5"):
        report(text, baseline="5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one line of figures"),
        ("ranks,epoch_time_s\n", "at least one line of figures"),
        ("ranks,epoch_tme_s\n1,2\n", "unknown column 'epoch_tme_s'; did you mean 'epoch_time_s'"),
        ("ranks,nodes\n1,2\n", "exactly one column of epoch_time_s.*none is there"),
        ("ranks,epoch_time_s,images_per_s\n1,2,3\n", "epoch_time_s and images_per_s are there"),
        ("epoch_time_s\n2\n", "exactly one column of ranks, gpus"),
        ("ranks,ranks,epoch_time_s\n1,1,2\n", "'ranks' is there more than once"),
        ("ranks,epoch_time_s\n1,2\n2,abc\n", "line 3: epoch_time_s = 'abc' must be a number"),
        ("ranks,epoch_time_s\n1,-2\n", "line 2: epoch_time_s = '-2'"),
        ("ranks,epoch_time_s\n1,nan\n", "line 2: epoch_time_s = 'nan'"),
        ("ranks,epoch_time_s\n1,inf\n", "line 2: epoch_time_s = 'inf'"),
        ("ranks,epoch_time_s\n1.5,2\n", "line 2: ranks = '1.5' must be a whole number"),
        ("ranks,epoch_time_s\n0,2\n", "line 2: ranks = '0'"),
        ("ranks,epoch_time_s\n\n1,2\n3\n", "line 4: 1 cells, but 2 columns"),
        ("ranks,epoch_time_s\n1,2\n2,\n", "line 3: epoch_time_s = ''"),
        ('ranks,epoch_time_s\n1,"2\n', "unexpected end of data"),
    ],
)
def test_bad_tables_are_refused_with_their_line(report, text, message):
    with pytest.raises(SpecError, match=message):
        report(text)


def test_a_missing_table_is_an_error(tmp_path):
    with pytest.raises(SpecError, match="No such file"):
        table_report(tmp_path / "none.csv")


@given(data=st.one_of(st.binary(max_size=200), st.text(alphabet='ranksepoch_time,12.\n"', max_size=80).map(str.encode)))
def test_any_file_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "table.csv"
    path.write_bytes(b"ranks,epoch_time_s\n" + data)
    try:
        assert table_report(path).points
    except SpecError as error:
        assert "table.csv" in str(error)
