"""The verb compare as a centre's CI calls it: exit codes, tables that were kept, damaged input."""

import csv
import io
import json

import pytest

from hpcsynapse.cli.main import main
from hpcsynapse.report.change import COLUMNS


@pytest.fixture
def compare(make_run, tmp_path, monkeypatch, capsys):
    """Return a function that runs the verb as a program and returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name, ranks, time in (("before", 2, 0.1), ("slow", 2, 0.11), ("alike", 2, 0.1005), ("wide", 4, 0.1)):
        make_run(name, ranks, time, noise=0.02, seed=len(name))

    def call(*words, verb="compare"):
        with pytest.raises(SystemExit) as end:
            main([verb, *map(str, words)])
        return end.value.code, *capsys.readouterr()

    return call


def test_exit_codes(compare):
    assert compare("before", "slow")[0] == 1
    assert compare("before", "alike")[0] == 0
    assert compare("slow", "before")[0] == 0
    code, out, err = compare("before", "wide")
    assert (code, out) == (2, "")
    assert "differ in ranks (2 and 4), global_batch (64 and 128)" in err


def test_both_sides_may_be_several_runs(compare, make_run):
    make_run("before-2", 2, 0.1, noise=0.02, seed=7)
    make_run("slow-2", 2, 0.11, noise=0.02, seed=8)
    code, out, _ = compare("--json", "before", "before-2", "--", "slow", "slow-2")
    (point,) = json.loads(out)
    assert (code, point["verdict"], point["candidate_repeats"]) == (1, "slower", 2)
    assert json.loads(compare("--json", "slow", "--", "before", "before-2")[1])[0]["verdict"] == "faster"
    assert compare("before", "--", "alike")[0] == 0
    for words in (("before",), ("before", "--"), ("--", "before")):
        code, out, _err = compare(*words)
        assert (code, out) == (2, ""), words
    assert "A1 A2 -- B1 B2" in compare("before")[2]


def test_the_table_for_people(compare):
    _, out, err = compare("before", "slow")
    assert "time B/A" in out and "slower" in out and "one-repeat" in out
    assert out.splitlines()[-1] == "regression at a tolerance of 0.03: 1 slower"
    assert err == ""


def test_csv_and_json_print_nothing_else(compare):
    _, out, err = compare("before", "slow", "wide", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["verdict"] for row in rows] == ["slower", "new"]
    assert err == "regression at a tolerance of 0.03: 1 slower, 1 new\n"
    tables = json.loads(compare("before", "slow", "wide", "--json")[1])
    assert [table["candidate_repeats"] for table in tables] == [1, 1]
    assert tables[0]["time_ratio"] == pytest.approx(float(rows[0]["time_ratio"]))


def test_the_tolerance(compare):
    assert compare("before", "slow", "--tolerance", "0.2")[0] == 0
    assert compare("before", "alike", "--tolerance", "0")[0] == 0
    assert compare("before", "slow", "--tolerance", "x")[0] == 2
    assert "from 0 to 1" in compare("before", "slow", "--tolerance", "5")[2]


def test_strict_fails_for_what_is_unclear_or_missing(compare, make_run):
    make_run("short", 2, 0.1, steps=20)
    assert compare("before", "short")[0] == 0
    assert compare("before", "short", "--strict")[0] == 1
    compare("before", "wide", "--csv", "--out", "both.csv", verb="report")
    assert compare("both.csv", "alike")[0] == 0
    assert compare("both.csv", "alike", "--strict")[0] == 1
    assert compare("before", "alike", "--strict")[0] == 0


def test_a_kept_table_says_what_the_runs_would(compare, make_run):
    for repeat, time in enumerate((0.1, 0.1005, 0.101)):
        make_run(f"kept-{repeat}", 2, time, noise=0.01)
    compare("kept-0", "kept-1", "kept-2", "--csv", "--out", "kept.csv", verb="report")
    for before, own in (("kept.csv", "before"), ("before", "kept.csv"), ("kept.csv", "kept.csv")):
        (row,) = json.loads(compare(before, own, "--json")[1])
        assert row["verdict"] == "same"
    (of_table,) = json.loads(compare("kept.csv", "slow", "--json")[1])
    (of_runs,) = json.loads(compare("slow", "kept-0", "kept-1", "kept-2", "--json")[1])
    assert of_table["time_ratio"] == pytest.approx(1 / of_runs["time_ratio"])
    assert of_table["time_ratio_low"] == pytest.approx(1 / of_runs["time_ratio_high"])
    assert (of_table["reference_repeats"], of_table["candidate_repeats"]) == (3, 1)


def test_a_single_run_in_a_kept_table(compare):
    compare("before", "--csv", "--out", "one.csv", verb="report")
    (of_table,) = json.loads(compare("one.csv", "slow", "--json")[1])
    (of_runs,) = json.loads(compare("before", "slow", "--json")[1])
    assert of_table == pytest.approx(of_runs)


def test_asynchronous_points_in_a_kept_table(compare, make_run):
    for name, time in (("a", 0.1), ("b", 0.13)):
        make_run(name, 3, time, noise=0.02, strategy="ps-async")
    compare("a", "--csv", "--out", "a.csv", verb="report")
    code, out, _ = compare("a.csv", "b", "--json")
    (of_runs,) = json.loads(compare("a", "b", "--json")[1])
    assert code == 1
    assert json.loads(out)[0]["time_ratio_low"] == pytest.approx(of_runs["time_ratio_low"])


def test_tables_of_figures(compare, tmp_path):
    (tmp_path / "old.csv").write_text("gpus,images_per_s\n8,800\n8,810\n8,790\n16,1500\n")
    (tmp_path / "new.csv").write_text("gpus,images_per_s\n8,600\n8,605\n8,610\n16,1500\n")
    code, out, _ = compare("old.csv", "new.csv", "--json")
    assert code == 1
    assert [(row["ranks"], row["verdict"]) for row in json.loads(out)] == [(8, "slower"), (16, "unclear")]
    (tmp_path / "hours.csv").write_text("gpus,train_time_h\n8,22\n")
    code, _, err = compare("old.csv", "hours.csv")
    assert code == 2 and "measure (images_per_s and train_time_h)" in err


def test_points_that_a_table_cannot_tell_apart(compare, make_run):
    make_run("adam", 2, 0.1, optimizer="adam")
    compare("before", "adam", "--csv", "--out", "two.csv", verb="report")
    code, _, err = compare("two.csv", "slow")
    assert code == 2 and "alike in all that a table tells" in err


HEADER = (
    "strategy,engine,model,data,nodes,ranks,batch_per_rank,global_batch,repeats,step_time_s,step_time_s_low,"
    "step_time_s_high,throughput,throughput_low,throughput_high,accuracy,flags\n"
)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "no point"),
        ("s,e,m,d,1,0,1,1,1,1,,,1,,,,", "ranks = '0'"),
        ("s,e,m,d,1,2", "cells"),
        ("s,e,m,d,1,2,1,1,1,,,,,,,,", "neither a step time nor"),
        ("s,e,m,d,1,2,1,1,1,-1,,,1,,,,", "step_time_s = '-1'"),
        ("s,e,m,d,1,2,1,1,1,nan,,,1,,,,", "greater than zero"),
        ("s,e,m,d,1,2,1,1,1,1,,,1e-320,,,,", "greater than zero"),
        ("s,e,m,d,1,2,1,1,1,1,,,1,2,3,,", "does not lie in its interval"),
        ("s,e,m,d,x,2,1,1,1,1,,,1,,,,", "nodes = 'x'"),
        ("s,e,m,d,1,2,1,1,1,1,2,3,,,,,", "does not lie in its interval"),
        ("s,e,m,d,1,2,1,1,2,1,,,1,,,,,,", "cells"),
        ('"s,e', "new.csv"),
    ],
)
def test_damaged_tables(compare, tmp_path, line, told):
    (tmp_path / "new.csv").write_text(HEADER + line)
    code, out, err = compare("before", "new.csv")
    assert (code, out) == (2, "")
    assert told in err


def test_damaged_and_empty_input_is_no_regression(compare, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "rank-00000.0.steps").write_bytes(b"")
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "rank-00000.0.steps").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "nobody").mkdir()
    whole = (tmp_path / "before" / "rank-00000.0.steps").read_bytes()
    (tmp_path / "nobody" / "rank-00000.0.steps").write_bytes(whole.replace(b'"rank"', b'"knar"', 1))
    (tmp_path / "before" / "rank-00001.0.steps").unlink()
    (tmp_path / "z.csv").write_bytes(b"")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder.csv").mkdir()
    for name in ("empty", "noise", "nobody", "before", "absent", "z.csv", "binary.csv", "absent.csv", "folder.csv"):
        for sides in ((name, "slow"), ("slow", name)):
            code, out, err = compare(*sides)
            assert (code, out) == (2, ""), name
            assert err.startswith("hpcsynapse: ") and err.count("\n") == 1, name


def test_a_table_among_runs_and_missing_arguments(compare):
    assert compare("before", "slow", "old.csv")[0] == 2
    assert compare("before")[0] == 2
