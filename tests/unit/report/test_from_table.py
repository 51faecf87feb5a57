"""Reports from figures that others measured; the published ones are known answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.errors import SpecError
from hpcsynapse.report.from_table import table_report
from hpcsynapse.report.publication import TABLES


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
        ("ranks,nodes\n1,2\n", "a column of epoch_time_s.*is needed, but none is there"),
        ("ranks,epoch_time_s,images_per_s\n1,,3\n", "line 2: epoch_time_s = ''"),
        ("ranks,epoch_time_s,accuracy\n1,2,90\n", "line 2: accuracy = '90' must be a fraction"),
        ("ranks,epoch_time_s,accuracy,error\n1,2,0.9,0.1\n", "accuracy and error say the same"),
        ("ranks,epoch_time_s,batch,global_batch\n1,2,3,3\n", "batch and global_batch say the same"),
        ("ranks,epoch_time_s\n1,1e308\n2,1e-308\n", "line 2: epoch_time_s = '1e308' must be a number from 1e-30"),
        ("ranks,epoch_time_s\n1,1\n2,1e-308\n", "line 3: epoch_time_s = '1e-308'"),
        ("ranks,images_per_s\n1,1e29\n1,1e-29\n", "repeats of images_per_s are too far apart"),
        ('ranks,epoch_time_s\n1,"2,5"\n', "'2,5' must be a number without separators of thousands; a decimal comma"),
        ("ranks;epoch_time_s\n1;1.234,5\n", "'1.234,5' must be a number without separators of thousands"),
        ("ranks;epoch_time_s\n1;1,234,5\n", "'1,234,5' must be a number without"),
        ("ranks\tepoch_time_s\n1\t1,234\n", "may be 1.234 or 1234; write it without the comma"),
        ("ranks;epoch_time_s\n1;2;3\n", "3 cells, but 2 columns .cells are separated by semicolon"),
        ("ranks,epoch_time_s\n1,1_0\n", "epoch_time_s = '1_0'"),
        ("ranks,epoch_time_s\n1,\u0661\n", "epoch_time_s = '\u0661'"),
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


TABLE = "ranks,model,epoch_time_s\n1,r\u00e9seau,2130.33\n2,r\u00e9seau,1421.1\n"


@pytest.mark.parametrize(
    "content",
    [
        TABLE.encode(),
        TABLE.encode("utf-8-sig"),
        TABLE.encode("utf-16"),
        b"\xfe\xff" + TABLE.replace("\n", "\r\n").encode("utf-16-be"),
        TABLE.replace(",", ";").encode(),
        TABLE.replace(",", ";").replace(".", ",").encode(),
        TABLE.replace(",", "\t").encode(),
        TABLE.replace(",", "\t").replace(".", ",").encode("utf-16"),
        ("sep=;\r\n" + TABLE.replace(",", ";").replace(".", ",")).encode(),
        TABLE.replace("ranks", '"ranks"').encode(),
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, content):
    (tmp_path / "table.csv").write_bytes(content)
    base, point = table_report(tmp_path / "table.csv").points
    assert (base.ranks, base.model, base.epoch_time_s) == (1, "r\u00e9seau", pytest.approx(2130.33))
    assert point.epoch_time_s == pytest.approx(1421.1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TABLE.encode("latin-1"), r"line 2: byte 0xe9 is not UTF-8; save it as UTF-8"),
        (TABLE.encode("utf-16-le"), "zero bytes, as in UTF-16 without its mark"),
        (TABLE.encode("utf-32"), "zero bytes"),
        (TABLE.encode("utf-16")[:-1], "its mark says UTF-16, but byte"),
    ],
)
def test_other_encodings_are_named(tmp_path, content, message):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(SpecError, match=message):
        table_report(tmp_path / "table.csv")


def test_several_measures_and_batches_in_one_table(report):
    text = (
        "batch,nodes,gpus,train_time_h,steps_per_s,error\n8,1,1,4.6,2,0.1\n8,2,4,12,,\n8,2,8,7,9,0.2\n"
        "16,1,1,2.3,,\n16,2,4,6,,0.15\n"
    )
    rows = report(text)
    assert [(row.batch_per_rank, row.ranks, row.train_time_h) for row in rows] == [
        (8, 1, 4.6),
        (8, 4, 12),
        (8, 8, 7),
        (16, 1, 2.3),
        (16, 4, 6),
    ]
    assert [row.speedup for row in rows] == pytest.approx([1, 4.6 / 12, 4.6 / 7, 1, 2.3 / 6])
    assert [row.steps_per_s for row in rows] == [2, None, 9, None, None]
    assert [row.accuracy for row in rows] == pytest.approx([0.9, None, 0.8, None, 0.85])
    cells, columns = TABLES["batch"](rows)
    assert list(columns)[3:] == ["1x1", "2x2", "2x4"]
    assert [[line[name] for name in ("1x1", "2x2", "2x4")] for line in cells] == [[4.6, 12, 7], [2.3, 6, None]]
    modes, _ = TABLES["modes"](rows)
    told = {(one.ranks, one.step_batch): (one.steps_per_s, one.hours) for one in modes}
    assert told[8, 64] == (9, 7)
    assert told[4, 64] == (None, 6)
    # The first measured column is the one that is compared.
    rates = report("ranks,steps_per_s,train_time_h\n1,1,10\n2,1.5,9\n")
    assert [row.speedup for row in rates] == [1, 1.5]
    assert [row.train_time_h for row in rates] == [10, 9]


def test_step_times_show_weak_scaling(report):
    rows = report("ranks,batch,step_time_s\n1,2,7.92\n2,2,10.41\n")
    assert [row.speedup for row in rows] == pytest.approx([1, 2 * 7.92 / 10.41])
    assert [row.step_time_s for row in rows] == [7.92, pytest.approx(10.41)]
    strong = report("ranks,step_time_s\n1,8\n2,5\n", scaling="strong")
    assert strong[1].speedup == pytest.approx(1.6)


@pytest.mark.parametrize("column", ["batch", "global_batch"])
def test_global_batches_of_weak_scaling_do_not_part_the_points(tmp_path, column):
    path = tmp_path / "t.csv"
    path.write_text(f"ranks,{column},images_per_s\n1,32,100\n2,64,190\n4,128,360\n")
    found = table_report(path)
    assert [(row.batch_per_rank, row.global_batch, row.speedup, row.scaling) for row in found.points] == [
        (32, 32, 1, "weak"),
        (32, 64, 1.9, "weak"),
        (32, 128, 3.6, "weak"),
    ]
    assert len(found.warnings) == (column == "batch")
    assert all("taken as that of all ranks" in text for text in found.warnings)
    times = path.with_name("times.csv")
    times.write_text(f"ranks,{column},epoch_time_s\n1,32,100\n2,64,60\n4,128,40\n")
    assert [(row.speedup, row.scaling) for row in table_report(times).points] == [
        (1, "weak"),
        (pytest.approx(100 / 60), "weak"),
        (2.5, "weak"),
    ]


def test_global_batches_of_strong_scaling_are_compared(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("ranks,global_batch,images_per_s\n1,64,100\n2,64,190\n4,64,360\n1,128,110\n2,128,200\n")
    found = table_report(path)
    assert [(row.global_batch, row.speedup, row.scaling) for row in found.points] == [
        (64, 1, "strong"),
        (64, 1.9, "strong"),
        (64, 3.6, "strong"),
        (128, 1, "strong"),
        (128, pytest.approx(200 / 110), "strong"),
    ]
    assert found.warnings == []


def test_points_that_nothing_is_compared_with_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("ranks,batch,images_per_s\n1,32,100\n2,48,190\n4,64,360\n")
    found = table_report(path)
    assert [row.speedup for row in found.points] == [1, 1, 1]
    (warning,) = found.warnings
    assert warning.startswith(f"{path}: compared with nothing")
    assert "batch 32 on 1, batch 48 on 2, batch 64 on 4" in warning
    path.write_text("strategy,ranks,batch,images_per_s\nsingle,1,32,90\nallreduce,1,32,100\nallreduce,2,32,190\n")
    assert table_report(path).warnings == []


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
