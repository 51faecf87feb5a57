"""`hpcsynapse predict` as people and programs call it."""

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

from hpcsynapse.cli.main import cli
from hpcsynapse.errors import HpcSynapseError, SpecError
from hpcsynapse.predict.rows import COLUMNS, FLAGS

EXPECTED_COLUMNS = [
    "strategy", "engine", "model", "data", "settings", "nodes", "ranks", "baseline_strategy", "baseline_ranks",
    "scaling", "batch_per_rank", "step_time_s", "step_time_s_low", "step_time_s_high", "compute_s", "communicate_s",
    "throughput", "speedup", "speedup_low", "speedup_high", "efficiency", "efficiency_low", "efficiency_high",
    "amdahl_speedup", "usl_speedup", "epoch_time_s", "rank_hours", "measured_speedup", "left_out_error",
    "amdahl_left_out_error", "usl_left_out_error", "flags",
]  # fmt: skip  # a table


def predict(*words):
    return CliRunner().invoke(cli, ["predict", *map(str, words)])


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_comms_as_csv():
    result = predict("comms", "--elements", "1,4", "--ranks", "2,4", "--steps", 10, "--csv")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "elements,ranks,steps,centralized,decentralized,proposed\n"
        "1,2,10,20,10,11\n1,4,10,60,15,18\n4,2,10,80,40,44\n4,4,10,240,60,72\n"
    )


def test_comms_as_json_and_text():
    words = ("comms", "--elements", "1", "--ranks", "3,16", "--steps", "1")
    rows = json.loads(predict(*words, "--json").stdout)
    assert [row["decentralized"] for row in rows] == [pytest.approx(4 / 3), 1.875]
    assert [row["centralized"] for row in rows] == [4, 30]
    assert "4/3" in predict(*words).stdout
    assert [row["decentralized"] for row in table(predict(*words, "--csv").stdout)] == [
        "1.33333333333333333333",
        "1.875",
    ]


def test_a_prediction_from_records(measured):
    """Ranks compute 100 ms, a round takes 0.5 ms, and 4.8 MB 40 ms, all with 3 % noise."""
    result = predict("scaling", *measured, "--ranks", "16,100000", "--csv")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = {int(row["ranks"]): row for row in table(result.stdout)}
    assert list(COLUMNS) == EXPECTED_COLUMNS == list(next(iter(rows.values())))
    expected = 0.1 * np.exp(0.03 * 1.739) + 0.0005 * 30 + 0.04 * 30 / 16  # the median of the slowest of 16
    assert float(rows[16]["step_time_s"]) == pytest.approx(expected, rel=0.02)
    assert float(rows[16]["step_time_s_low"]) < expected < float(rows[16]["step_time_s_high"])
    assert float(rows[16]["epoch_time_s"]) == pytest.approx(50 * float(rows[16]["step_time_s"]), rel=0.02)
    for ranks in (1, 2, 4, 8):
        assert abs(float(rows[ranks]["left_out_error"])) < 0.02
        assert float(rows[ranks]["speedup"]) == pytest.approx(float(rows[ranks]["measured_speedup"]), rel=0.02)
    assert float(rows[100000]["step_time_s"]) == pytest.approx(100, rel=0.1)
    assert "far" in rows[100000]["flags"]


def test_the_fitted_model_and_recommendations(measured):
    words = ("--json", "--nodes", "16", "--deadline", "2m", "--budget", "0.5", "--epochs", "3")
    (found,) = json.loads(predict("scaling", *measured, *words).stdout)
    link = found["links"]["several_nodes"]
    # With other seeds: 0 to 6 % and 0.1 to 0.7 %.
    assert (link["alpha_s"], link["beta_s"]) == (pytest.approx(0.0005, rel=0.08), pytest.approx(0.04, rel=0.02))
    assert link["bytes_per_s"] == pytest.approx(4.8e6 / 0.04, rel=0.02)
    assert found["collective"] == "ring"
    by_flag = {flag: row["ranks"] for row in found["points"] for flag in row["flags"].split()}
    assert [by_flag[name] for name in ("knee", "deadline", "budget")] == [
        found[name] for name in ("knee", "deadline", "budget")
    ]
    text = predict("scaling", *measured, *words[1:]).stdout
    assert "knee:" in text
    assert f"deadline of 2:00 min, epochs 3: {found['deadline']} ranks" in text
    assert "MB/s between nodes" in text


def test_programs_that_mark_no_phases_are_predicted_from_their_step_times(make_run):
    runs = [make_run(f"r{ranks}", ranks, steps=60, phases=False) for ranks in (1, 2, 4, 8)]
    (found,) = json.loads(predict("scaling", *runs, "--json", "--ranks", "16").stdout)
    row = next(row for row in found["points"] if row["ranks"] == 16)
    assert row["step_time_s"] == pytest.approx(0.19, rel=0.1)


def test_strong_scaling_from_records(make_run):
    runs = [make_run(f"r{ranks}", ranks, steps=60, batch=64 // ranks, compute=0.1 / ranks) for ranks in (1, 2, 4)]
    result = predict("scaling", *runs, "--csv", "--ranks", "16,64,128")
    assert "left out 128: more ranks than samples of a global batch" in result.stderr
    rows = {int(row["ranks"]): row for row in table(result.stdout)}
    assert 128 not in rows
    assert float(rows[16]["compute_s"]) == pytest.approx(0.1 / 16, rel=0.1)
    assert rows[16]["batch_per_rank"] == "4.0"


def test_tables_are_predicted_too(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("strategy,gpus,batch,steps_per_s\nps-async,1,128,0.47\nps-async,4,128,1.73\nps-async,8,128,3.73\n")
    rows = {int(row["ranks"]): row for row in table(predict("scaling", path, "--csv", "--ranks", 16).stdout)}
    assert rows[16]["step_time_s"] == rows[16]["nodes"] == ""
    assert 10 < float(rows[16]["speedup"]) < 16.5
    assert abs(float(rows[8]["left_out_error"])) < 0.5  # from 1 and 4, of which 4 was slower than 8


def test_fewer_ranks_than_measured_are_left_out(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("gpus,images_per_s\n2,100\n4,180\n")
    result = predict("scaling", path, "--csv", "--ranks", "1,8")
    assert "left out 1: fewer ranks than were measured" in result.stderr
    assert {"2", "4", "8"} <= {row["ranks"] for row in table(result.stdout)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ranks", "0"], "--ranks '0'"),
        (["--ranks", "9" * 5000], "--ranks"),
        (["--ranks", "1,,2"], "--ranks"),
        (["--ranks", "2", "--nodes", "2"], "one of them"),
        (["--nodes", "-3"], "--nodes"),
        (["--ranks", ",".join(map(str, range(1, 1003)))], "too many"),
        (["--budget", "nan"], "--budget"),
        (["--budget", "-1"], "--budget"),
        (["--deadline", "soon"], "'soon' is not a duration"),
        (["--collective", "telepathy"], "--collective"),
        (["--epochs", "0"], "--epochs"),
        (["--epoch-samples", "x"], "--epoch-samples"),
    ],
)
def test_hostile_values_are_refused(tmp_path, words, message):
    (tmp_path / "t.csv").write_text("gpus,images_per_s\n1,100\n2,180\n")
    result = predict("scaling", tmp_path / "t.csv", *words)
    error = result.exception
    assert result.exit_code == 2 or isinstance(error, SpecError)
    assert message in (result.stderr or str(error))
    assert result.stdout == ""


def refusal(*words):
    result = predict("scaling", *words)
    assert isinstance(result.exception, HpcSynapseError), result.output
    return str(result.exception)


def test_what_cannot_be_predicted_is_said(make_run, tmp_path):
    one = make_run("one", 2, steps=20)
    assert "measured with 2 ranks only; a prediction needs two numbers of ranks" in refusal(one)
    single = make_run("single", 1, steps=20, strategy="single")
    assert "only runs of strategy single" in refusal(single)
    local = [make_run(f"l{ranks}", ranks, steps=20, strategy="local-sgd") for ranks in (1, 2)]
    assert "local-sgd cannot be predicted" in refusal(*local)
    served = [make_run(f"s{ranks}", ranks, steps=20, strategy="ps-sync") for ranks in (1, 2)]
    assert "goes through parameter servers" in refusal(*served, "--collective", "tree")
    (tmp_path / "t.csv").write_text("gpus,train_time_h\n1,100\n2,80\n")
    assert "--deadline needs the time of an epoch" in refusal(tmp_path / "t.csv", "--deadline", "1h")
    assert refusal("absent")


def test_single_is_a_point_where_the_strategy_has_none_of_one_rank(make_run):
    runs = [make_run("single", 1, steps=60, strategy="single"), make_run("two", 2, steps=60)]
    rows = table(predict("scaling", *runs, "--csv", "--ranks", "4").stdout)
    assert {int(row["ranks"]): row["flags"] for row in rows if "measured" in row["flags"]}.keys() == {1, 2}
    four = next(row for row in rows if row["ranks"] == "4")
    assert four["baseline_strategy"] == "single"
    assert float(four["step_time_s_low"]) < 0.105 + 0.003 + 0.06 < float(four["step_time_s_high"])


def test_flags_are_documented(measured):
    rows = table(predict("scaling", *measured, "--csv", "--deadline", "1m", "--budget", "1").stdout)
    assert {flag for row in rows for flag in row["flags"].split()} <= set(FLAGS)


def test_runs_without_phases_are_fitted_without_stragglers_and_say_so(make_run):
    runs = [make_run(f"r{ranks}", ranks, steps=60, phases=False) for ranks in (1, 2, 4, 8)]
    assert "phases: not recorded" in predict("scaling", *runs).stdout
    rows = table(predict("scaling", *runs, "--csv", "--ranks", "64").stdout)
    assert all("no-phases" in row["flags"].split() for row in rows)
    assert float(rows[-1]["compute_s"]) == pytest.approx(float(rows[0]["compute_s"]))


def test_one_node_is_answered_for_and_refused_beyond(make_run):
    runs = [make_run(f"n{ranks}", ranks, nodes=1, steps=60) for ranks in (1, 2, 4)]
    message = refusal(*runs, "--ranks", "4,8,16")
    assert "8, 16 ranks need more than one node" in message
    assert "--network 100Gbit --latency 2us" in message
    answer = predict("scaling", *runs, "--deadline", "1m", "--epoch-samples", "3200000")
    assert "nothing is said beyond 4 ranks" in answer.stdout
    assert "not with 4 ranks or fewer (one-node)" in answer.stdout
    rows = table(predict("scaling", *runs, "--ranks", "8", "--ranks-per-node", "8", "--csv").stdout)
    assert rows[-1]["nodes"] == "1"
    network = ("--network", "0.96Gbit/s", "--latency", "500us")
    (found,) = json.loads(predict("scaling", *runs, "--ranks", "8", *network, "--json").stdout)
    row = next(row for row in found["points"] if row["ranks"] == 8)
    assert row["step_time_s"] == pytest.approx(0.1 * 1.043 + 0.0005 * 14 + 0.04 * 1.75, rel=0.02)
    assert row["flags"] == "given-network"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--network", "fast", "--latency", "2us"], "--network 'fast' is not a bandwidth; write for example 100Gbit"),
        (["--network", "100Gbit"], "belong together"),
        (["--network", "100Gbit", "--latency", "soon"], "--latency 'soon' is not a time"),
        (["--ranks-per-node", "2"], "had 4 ranks on a node"),
    ],
)
def test_networks_that_cannot_be_are_refused(make_run, words, message):
    runs = [make_run(f"n{ranks}", ranks, nodes=1, steps=20) for ranks in (2, 4)]
    assert message in refusal(*runs, *words)


def test_phases_that_are_no_numbers_do_not_break_json(make_run):
    runs = [make_run(f"r{ranks}", ranks, steps=60, hole=ranks == 4) for ranks in (1, 2, 4)]
    result = predict("scaling", *runs, "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout, parse_constant=lambda name: pytest.fail(name))


def test_help_says_what_proposed_means():
    text = " ".join(predict("comms", "--help").stdout.split())
    assert "proposed" in text
    assert "allreduce-broadcast" in text
    assert "..." not in "".join(line for line in predict("--help").stdout.splitlines() if "  scaling" in line)


def test_time_between_steps_is_part_of_what_is_predicted(make_run):
    """Every rank waits 50 ms for data before each step, outside of it."""
    runs = [make_run(f"r{ranks}", ranks, between=0.05) for ranks in (1, 2, 4)]
    rows = {int(row["ranks"]): row for row in table(predict("scaling", *runs, "--csv", "--ranks", "8").stdout)}
    assert float(rows[8]["compute_s"]) == pytest.approx(0.05 + 0.1 * 1.043, rel=0.02)
    assert float(rows[8]["step_time_s"]) == pytest.approx(0.05 + 0.1 * 1.043 + 0.0005 * 14 + 0.04 * 1.75, rel=0.03)
    for ranks in (2, 4):
        assert float(rows[ranks]["speedup"]) == pytest.approx(float(rows[ranks]["measured_speedup"]), rel=0.02)


def test_pauses_are_not_communication(make_run):
    """Rank 0 validates for 2 s every 50 steps while the others wait in their exchange."""
    runs = [make_run(f"r{ranks}", ranks, pause=2.0) for ranks in (1, 2, 4)]
    rows = {int(row["ranks"]): row for row in table(predict("scaling", *runs, "--csv", "--ranks", "8").stdout)}
    assert float(rows[8]["step_time_s"]) == pytest.approx(0.1 * 1.043 + 0.0005 * 14 + 0.04 * 1.75, rel=0.03)


def test_programs_that_record_no_samples_are_predicted_too(make_run):
    runs = [make_run(f"r{ranks}", ranks, steps=60, batch=0) for ranks in (1, 2, 4)]
    rows = {
        int(row["ranks"]): row
        for row in table(predict("scaling", *runs, "--csv", "--ranks", "8", "--scaling", "weak").stdout)
    }
    assert float(rows[8]["step_time_s"]) == pytest.approx(0.1 * 1.043 + 0.0005 * 14 + 0.04 * 1.75, rel=0.05)
