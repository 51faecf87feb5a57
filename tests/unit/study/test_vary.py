"""Studies that vary any setting, pairs of nodes and GPUs, and placeholders in a user's own command."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcsynapse.errors import SpecError
from hpcsynapse.fields import is_run_name
from hpcsynapse.files import write_json
from hpcsynapse.report.sources import sources_of
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.spec import settings
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.queue import QueueOptions
from hpcsynapse.spec.training import TrainSpec
from hpcsynapse.study.folder import StudyDirectory, load_lists
from hpcsynapse.study.lists import StudySpec
from hpcsynapse.study.plan import Point, expand
from hpcsynapse.study.vary import parse, split
from hpcsynapse.trainer.catalog import DATA, MODELS

ROOT = Path(__file__).parents[3]
LOCAL = JobSpec(queue=QueueOptions(scheduler="local"))
PROGRAM = replace(LOCAL, command=("python", "train.py"))


def points(base: JobSpec = LOCAL, /, *texts: str, **lists: Any) -> list[Point]:
    return expand(StudySpec(vary=parse(texts), **lists), base)


def test_any_setting_is_an_axis_with_a_name_and_a_column() -> None:
    found = points(LOCAL, "train.lr=0.1,0.01", "ps.servers=1,2,4", strategy=("ps-sync",))
    assert [point.name for point in found[:4]] == [
        "ps-sync-1x1-lr0.1-servers1",
        "ps-sync-1x1-lr0.1-servers2",
        "ps-sync-1x1-lr0.1-servers4",
        "ps-sync-1x1-lr0.01-servers1",
    ]
    assert [(point.spec.train.lr, point.spec.ps.servers) for point in found] == [
        (rate, servers) for rate in (0.1, 0.01) for servers in (1, 2, 4)
    ]
    assert found[-1].planned().settings == "train.lr=0.01, ps.servers=4"


def test_values_are_those_of_set() -> None:
    found = points(
        LOCAL, "train.nesterov=true,false", "train.milestones=[10,20],[30]", "train.model_args.depth=18,wide"
    )
    assert len({point.name for point in found}) == 8 and all(is_run_name(point.name) for point in found)
    last = found[-1].spec.train
    assert (last.nesterov, last.milestones, last.model_args) == (False, (30,), {"depth": "wide"})


def test_what_a_list_is_for_may_be_varied_by_its_path() -> None:
    found = points(LOCAL, "train.batch=8,16", "resources.nodes=1,2", strategy=("allreduce",), scaling="strong")
    assert [(point.spec.resources.nodes, point.spec.train.batch) for point in found] == [
        (1, 8),
        (2, 4),
        (1, 16),
        (2, 8),
    ]
    with pytest.raises(SpecError, match=r"study.batch and study.vary both list values of train.batch"):
        points(LOCAL, "train.batch=8,16", batch=(32,))


def test_settings_of_another_strategy_make_no_runs() -> None:
    found = points(LOCAL, "ps.servers=1,2", strategy=("single", "allreduce", "ps-async"))
    assert [point.name for point in found] == [
        "single-1x1",
        "allreduce-1x1",
        "ps-async-1x1-servers1",
        "ps-async-1x1-servers2",
    ]
    with pytest.raises(SpecError, match=r"ps.servers means nothing to strategy allreduce"):
        points(LOCAL, "ps.servers=1,2", strategy=("allreduce",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.lrr=1,2", "unknown setting train.lrr; did you mean 'lr'"),
        ("lr=1,2", "write SECTION.KEY=A,B with one of resources"),
        ("train.lr", "write SECTION.KEY=A,B"),
        ("train.lr=1,,2", "not a list of values"),
        ("train.lr=1,x", "train.lr = 'x' must be a number"),
        ("train.lr=1,1.0", "give every value once"),
        ("train.lr=1,-1", r"must be between 0 and 1000 \(in the study: .*lr -1.0\)"),
        ("train.batch.size=1", "train.batch is not a table"),
        ("queue.scheduler=slurm,local", "the same for all runs"),
        ("ps.servers=0", "ps.servers"),
    ],
)
def test_a_wrong_setting_is_named(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        points(LOCAL, text, strategy=("ps-sync",))


def test_one_setting_twice_one_seed_for_repeats_and_one_allocation_are_refused() -> None:
    with pytest.raises(SpecError, match=r"train.lr is varied twice"):
        parse(["train.lr=1", "train.lr=2"])
    with pytest.raises(SpecError, match=r"train.seed is what repeats vary"):
        points(LOCAL, "train.seed=1,2", repeats=2)
    with pytest.raises(SpecError, match=r"queue.partition cannot vary within one allocation; use --jobs array"):
        points(LOCAL, "queue.partition=a,b", jobs="packed")
    with pytest.raises(SpecError, match="too large"):
        points(LOCAL, f"train.seed={','.join(map(str, range(10_001)))}")


def test_commas_in_brackets_and_quotes_are_no_separators() -> None:
    assert split("[1,2],{a = 1, b = 2},x") == ["[1,2]", "{a = 1, b = 2}", "x"]
    assert split("'a,b', c ,\"d\"") == ["a,b", "c", "d"]
    (lines,) = parse(["launch.env.WORDS='a,b',c"]).values()
    assert lines == ("a,b", "c")


def test_setups_are_pairs_of_nodes_and_gpus() -> None:
    found = points(setups=("1x1", "1x4", "2x2"), strategy=("single", "allreduce"))
    assert [point.name for point in found] == ["single-1x1", "allreduce-1x1", "allreduce-1x4", "allreduce-2x2"]
    resources = [point.spec.resources for point in found]
    assert [(one.nodes, one.gpus, one.world_size) for one in resources] == [(1, 1, 1), (1, 1, 1), (1, 4, 4), (2, 2, 4)]
    without = points(setups=("1x2",), gpus=(0,))[0].spec.resources
    assert (without.gpus, without.world_size) == (0, 2)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"setups": ("2",)}, "'2' is not NODESxGPUS"),
        ({"setups": ("0x1",)}, "'0x1' is not"),
        ({"setups": ("1x1", "1x1")}, "give every value once"),
        ({"setups": ("1x1",), "nodes": (1, 2)}, r"leave study.nodes = \[1, 2\] out"),
        ({"setups": ("1x1",), "gpus": (2,)}, "leave study.gpus"),
    ],
)
def test_wrong_setups_are_named(lists: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        StudySpec(**lists)


def commands(base: JobSpec, *texts: str, **lists: Any) -> list[str]:
    return [" ".join(point.spec.command[2:]) for point in points(base, *texts, **lists)]


def with_words(*words: str) -> JobSpec:
    return replace(PROGRAM, command=(*PROGRAM.command, *words))


def test_placeholders_take_what_is_varied() -> None:
    base = with_words("--batch", "{batch}", "--lr={train.lr}", "--seed", "{seed}", '{"a": {nodes}}', "${HOME}")
    found = commands(base, "train.lr=0.1,1e-5", batch=(8,), nodes=(1, 2), repeats=2)
    assert found[0] == '--batch 8 --lr=0.1 --seed 0 {"a": 1} ${HOME}'
    assert found[-1] == '--batch 8 --lr=1e-05 --seed 1 {"a": 2} ${HOME}'
    assert len(found) == len(set(found)) == 8


def test_a_command_takes_its_share_of_a_global_batch() -> None:
    base = with_words("--batch", "{batch}")
    assert commands(base, batch=(64,), ranks_per_node=(1, 2), scaling="strong") == ["--batch 64", "--batch 32"]


def test_lists_and_truth_become_words() -> None:
    base = with_words("{milestones}", "{nesterov}", "{depth}")
    texts = ("train.milestones=[1,2]", "train.nesterov=true", "train.model_args.depth=18")
    assert commands(base, *texts) == ["1,2 true 18"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("{rl}", r"\{rl\} is nothing that this study varies.*there are \{lr\}, \{seed\}.*write \{\{rl\}\}"),
        ("ckpt-{epoch}.pt", r"\{epoch\} is nothing that this study varies.*write \{\{epoch\}\}"),
        ("--lr", r"train.lr is for the built-in trainer.*where its command has \{lr\}"),
    ],
)
def test_a_wrong_placeholder_is_named(word: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        points(with_words(word), "train.lr=0.1,0.01")


@pytest.mark.parametrize("word", ['{"a": {"b": {}}}', "{print $1}", "a{1,2}", "{", "}}", "${lr}", "{{ x }}"])
def test_other_braces_are_the_programs_own(word: str) -> None:
    assert commands(with_words("{lr}", word), "train.lr=0.1") == [f"0.1 {word}"]
    assert commands(with_words("{lr}", "{{lr}}"), "train.lr=0.1") == ["0.1 {lr}"]


def test_names_in_braces_pass_where_only_the_size_varies_unless_they_are_settings() -> None:
    assert commands(with_words("ckpt-{epoch}.pt", "{print}"), nodes=(1, 2))[0] == "ckpt-{epoch}.pt {print}"
    for wrong in ("{batch}", "{train.lr}", "{node}"):
        with pytest.raises(SpecError, match="is nothing that this study varies"):
            points(with_words(wrong), nodes=(1, 2))


def test_a_last_part_that_two_settings_have_means_neither() -> None:
    texts = ("exchange.overlap=true,false", "train.model_args.overlap=1,2")
    assert commands(with_words("{exchange.overlap}{train.model_args.overlap}"), *texts)[0] == "true1"
    with pytest.raises(SpecError, match=r"\{overlap\} is nothing"):
        points(with_words("{overlap}"), *texts)


def test_names_stay_short_and_unique() -> None:
    texts = ("launch.env.A_LONG_NAME_OF_A_VARIABLE=one/two:three,one/two/three", "train.weight_decay=0.1,0.01")
    found = points(LOCAL, *texts, strategy=("allreduce-broadcast",), engine=("ddp", "horovod"), repeats=10)
    names = [point.name for point in found]
    assert len(set(names)) == len(names) == 80 and all(map(is_run_name, names))


def test_a_study_file_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('[study]\nsetups = ["1x1", "2x4"]\n[study.vary]\nps.servers = [1, 2]\n"train.lr" = [0.1, 0.01]\n')
    assert load_lists(path) == StudySpec(setups=("1x1", "2x4"), vary=parse(["ps.servers=1,2", "train.lr=0.1,0.01"]))
    typed = load_lists(path, {"vary": parse(["train.lr=1"])})  # by setting, as --set is laid over a file
    assert typed.vary == {"ps.servers": (1, 2), "train.lr": (1.0,)}
    path.write_text("[study.vary]\nps.servers = 2\n")
    with pytest.raises(SpecError, match=r"study.vary: ps.servers = 2 must be a list"):
        load_lists(path)


def test_the_study_of_the_documentation_is_one(workdir: Path) -> None:
    text = re.search(r"```toml\n(.*?)```", (ROOT / "docs" / "studies.md").read_text(), re.DOTALL)
    assert text is not None
    (workdir / "study.toml").write_text(text[1])
    base = settings.load(workdir / "study.toml", beside=("study",))
    assert base.train.model in MODELS and base.train.data in DATA
    found = expand(load_lists(workdir / "study.toml"), base)
    assert len(found) == 3 * 4 * 2 * (1 + 2)  # repeats, set-ups, rates; averages are of local-sgd alone
    assert "local-sgd-2x4-lr0.05-average_every16-r3" in [point.name for point in found]


def test_a_study_is_kept_with_all_that_it_varies(tmp_path: Path) -> None:
    lists = StudySpec(setups=("1x1", "2x2"), vary=parse(["train.lr=0.1,0.01", "train.milestones=[1],[2,3]"]), repeats=2)
    base = replace(with_words("{lr}", "{milestones}"), name="s", train=TrainSpec(seed=5))
    study = StudyDirectory.create(tmp_path, lists, base)
    assert study.plan() == expand(lists, base)
    assert tomllib.loads(study.study_toml.read_text())["command"] == list(base.command)


@pytest.mark.parametrize(("batch", "kind"), [((8, 16), "weak"), ((), "auto")])
def test_a_program_that_takes_the_batch_of_a_study_scales_as_that_says(
    tmp_path: Path, batch: tuple[int, ...], kind: str
) -> None:
    base = replace(with_words("{batch}" if batch else "x"), name="s")
    study = StudyDirectory.create(tmp_path, StudySpec(nodes=(1, 2), batch=batch), base)
    for point in study.plan():
        write_json(RunDirectory.create(study.runs_path, point.spec).exit, {"exit_code": 0})
    sources, meant = sources_of(["s"], tmp_path, print)
    assert (len(sources), meant) == (2 * (len(batch) or 1), kind)
