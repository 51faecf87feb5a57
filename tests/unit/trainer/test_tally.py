"""Metrics of a validation against scikit-learn's and against their definitions, however samples are cut."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hpcsynapse.errors import TrainError
from hpcsynapse.job.discovery import RankIdentity
from hpcsynapse.runs.class_counts import MATRIX_CLASSES, ClassCounts
from hpcsynapse.trainer.data.base import Data
from hpcsynapse.trainer.engines.alone import AloneEngine
from hpcsynapse.trainer.objective import Objective
from hpcsynapse.trainer.tally import Tally, Validation
from hpcsynapse.trainer.validation import EvenlySpaced, evaluate
from hpcsynapse.trainer.validation import validate as of_run

CPU = torch.device("cpu")


class Given:
    """A data set whose inputs are the outputs: the model hands them on."""

    def __init__(self, outputs: Tensor, targets: Any) -> None:
        self.outputs, self.targets = outputs, targets

    def __len__(self) -> int:
        return len(self.outputs)

    def batch(self, indices: Any) -> tuple[Any, Any]:
        return self.outputs[indices], self.targets[indices]


def validate(outputs: Tensor, targets: Any, batch: int = 7, model: nn.Module | None = None) -> Validation:
    model = model or nn.Identity()
    engine = AloneEngine(RankIdentity(), CPU, 1, 1)
    return evaluate(model, Objective(model), Given(outputs, targets), batch, engine, CPU, lambda: False)


def labels_and_scores(samples: int = 500, classes: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return labels of which some classes are rare and one never occurs, and scores that know them half of the time."""
    numbers = torch.Generator().manual_seed(seed)
    labels = (torch.rand(samples, generator=numbers) ** 2 * (classes - 1)).long()
    scores = torch.randn(samples, classes, generator=numbers)
    scores[torch.arange(samples), labels] += 1.5
    return labels, scores


@pytest.fixture
def known() -> Any:
    """scikit-learn's metrics, which take seconds to load."""
    from sklearn import metrics

    return metrics


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3, 10, MATRIX_CLASSES + 30])
def test_classification_is_as_scikit_learn_says(known: Any, classes: int) -> None:
    labels, scores = labels_and_scores(classes=classes)
    chosen = scores.argmax(dim=1)
    found = validate(scores, labels)
    precision, recall, f1, _ = known.precision_recall_fscore_support(labels, chosen, average="macro", zero_division=0)
    assert found.metrics["accuracy"] == pytest.approx(known.accuracy_score(labels, chosen))
    assert (found.metrics["precision"], found.metrics["recall"]) == pytest.approx((precision, recall))
    assert found.metrics["f1"] == pytest.approx(f1)
    assert found.metrics["loss"] == pytest.approx(float(nn.functional.cross_entropy(scores, labels)), rel=1e-5)
    if classes > 5:
        top = known.top_k_accuracy_score(labels, scores, k=5, labels=range(classes))
        assert found.metrics["top5_accuracy"] == pytest.approx(top)
    else:
        assert "top5_accuracy" not in found.metrics
    counts = found.counts
    assert counts is not None
    each = known.precision_recall_fscore_support(labels, chosen, labels=range(classes), zero_division=0)
    for number in range(classes):
        mine = (counts.precision(number), counts.recall(number), counts.f1(number), counts.true[number])
        assert mine == pytest.approx([float(column[number]) for column in each])


@pytest.mark.slow
def test_the_matrix_has_predicted_classes_in_its_rows(known: Any) -> None:
    labels, scores = labels_and_scores()
    counts = validate(scores, labels).counts
    assert counts is not None
    expected = known.confusion_matrix(labels, scores.argmax(dim=1), labels=range(10))  # rows: true
    assert np.array_equal(np.array(counts.matrix), expected.T)
    assert counts.error(9) is None  # never occurs
    assert counts.error(0) == pytest.approx(1 - expected[0, 0] / expected[0].sum())
    assert ClassCounts.from_dict(counts.to_dict()) == counts


def test_many_classes_keep_no_matrix() -> None:
    labels, scores = labels_and_scores(classes=MATRIX_CLASSES + 1)
    counts = validate(scores, labels).counts
    assert counts is not None
    assert counts.matrix is None
    assert ClassCounts.from_dict(counts.to_dict()) == counts


def test_labels_of_every_pixel_and_those_that_name_no_class() -> None:
    numbers = torch.Generator().manual_seed(1)
    labels, scores = torch.randint(3, (6, 4, 5), generator=numbers), torch.randn(6, 3, 4, 5, generator=numbers)
    labels[0] = -100
    found = validate(scores, labels)
    kept = labels >= 0
    assert found.counts is not None
    assert found.counts.total == int(kept.sum()) == 100
    assert found.metrics["accuracy"] == pytest.approx(float((scores.argmax(dim=1) == labels)[kept].float().mean()))


@pytest.mark.slow
def test_regression_is_as_scikit_learn_says(known: Any) -> None:
    numbers = torch.Generator().manual_seed(2)
    targets = torch.rand(23, 4, 4, generator=numbers) * 255
    outputs = targets + torch.randn(23, 4, 4, generator=numbers)
    found = validate(outputs, targets)
    flat = [part.flatten().double().numpy() for part in (targets, outputs)]
    error = known.mean_squared_error(*flat)
    assert found.metrics["mae"] == pytest.approx(known.mean_absolute_error(*flat))
    assert found.metrics["psnr"] == pytest.approx(10 * math.log10(np.ptp(flat[0]) ** 2 / error))
    assert found.counts is None


@pytest.mark.parametrize("wrong", [0.0, math.nan, math.inf])
def test_there_is_no_ratio_without_a_noise_that_is_a_number(wrong: float) -> None:
    targets = torch.rand(8, 3)
    found = validate(targets + wrong, targets).metrics
    assert found.keys() == {"loss", "mae"}
    assert "psnr" not in validate(torch.rand(8, 3), torch.ones(8, 3)).metrics


class Own(nn.Identity):
    def loss(self, output: Any, target: Any) -> Tensor:
        return torch.as_tensor(1.0)


class Classifier(Own):
    def metrics(self, output: Any, target: Any) -> dict[str, float]:
        return {"accuracy": 0.25, "margin": 2.0}


class Detector(Own):
    def metrics(self, output: Any, target: Any) -> dict[str, float]:
        return {"average_precision": 0.5}


def test_a_models_own_metrics_come_first_and_its_loss_alone_is_told_alone() -> None:
    labels, scores = labels_and_scores()
    found = validate(scores, labels, model=Classifier())
    assert found.metrics["accuracy"] == 0.25
    assert {"margin", "top5_accuracy", "precision", "recall", "f1"} < found.metrics.keys()
    assert found.counts is not None
    for model, names in ((Own(), {"loss"}), (Detector(), {"loss", "average_precision"})):
        other = validate(scores, labels, model=model)
        assert (other.metrics.keys(), other.counts) == (names, None)


@pytest.mark.parametrize("shape", [(12,), (12, 1), (12, 3, 2)])
def test_outputs_that_are_no_scores_of_labels_are_not_counted(shape: tuple[int, ...]) -> None:
    class Scored(Classifier):
        pass

    found = validate(torch.rand(shape), torch.zeros(12, dtype=torch.int64), model=Scored())
    assert found.counts is None


class Part(AloneEngine):
    """One of several ranks; what it would have added up is kept."""

    def __init__(self, rank: int, size: int, kept: list[Tensor]) -> None:
        super().__init__(RankIdentity(rank=rank, world_size=size), CPU, 1, 1)
        self.kept = kept

    def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
        if op == "sum":
            self.kept.append(tensor.clone())
            tensor[0] = max(1.0, float(tensor[0]))  # of all ranks it is never 0


@pytest.mark.parametrize(("samples", "ranks"), [(360, 7), (5, 7)])
def test_ranks_count_every_sample_once(samples: int, ranks: int) -> None:
    labels, scores = labels_and_scores(samples)
    whole: list[Tensor] = []
    parts: list[Tensor] = []
    model = nn.Identity()
    for kept, size in ((whole, 1), (parts, ranks)):
        for rank in range(size):
            evaluate(model, Objective(model), Given(scores, labels), 64, Part(rank, size, kept), CPU, lambda: False)
    total = torch.stack(parts).sum(dim=0)
    assert total[0] == samples
    assert total[1] == pytest.approx(float(whole[0][1]), rel=1e-5)  # the loss
    assert torch.equal(total[2:], whole[0][2:])  # counts


def test_ranks_that_report_different_metrics_are_told() -> None:
    class Other(AloneEngine):
        def all_reduce(self, tensor: Tensor, op: str = "sum") -> None:
            if op == "max":
                tensor[0] += 1

    tally = Tally(Objective(Classifier()))
    tally.add(torch.rand(2, 2), torch.zeros(2, dtype=torch.int64), 2)
    with pytest.raises(TrainError, match="this one has accuracy, loss, margin"):
        tally.total(Other(RankIdentity(), CPU, 1, 1))


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"matrix": 3},
        {"matrix": [[1, 2]]},
        {"matrix": [[1, -1], [0, 2]]},
        {"true": [1], "predicted": [1, 2], "correct": [1]},
        {"matrix": [[1]], "names": ["a", "b"]},
        {"matrix": [["x"]]},
    ],
)
def test_damaged_counts_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no counts by class"):
        ClassCounts.from_dict(table)


@pytest.mark.parametrize(
    ("samples", "asked", "expected"), [(10, 4, [0, 2, 5, 7]), (3, 8, [0, 1, 2]), (4, 4, [0, 1, 2, 3])]
)
def test_training_samples_are_taken_at_equal_distances(samples: int, asked: int, expected: list[int]) -> None:
    chosen = EvenlySpaced(Given(torch.arange(samples), torch.arange(samples)), asked)
    inputs, targets = chosen.batch(np.arange(len(chosen)))
    assert inputs.tolist() == targets.tolist() == expected


def test_a_validation_tells_what_training_samples_give_beside_it() -> None:
    labels, scores = labels_and_scores(20, classes=3)
    wrong = (labels + 1) % 3
    data = Data(
        train=Given(nn.functional.one_hot(labels, 3).float(), labels),
        validation=Given(scores, wrong),
        names=("a", "b", "c"),
    )

    def judge(samples: Any) -> Validation:
        return validate(samples.batch(np.arange(len(samples)))[0], samples.batch(np.arange(len(samples)))[1])

    plain, both = of_run(judge, data, on_training=False), of_run(judge, data, on_training=True)
    assert plain is not None and both is not None
    assert both.metrics["train_accuracy"] == 1.0 and both.metrics["accuracy"] < 0.5
    assert {name for name in both.metrics if not name.startswith("train_")} == plain.metrics.keys()
    assert both.counts is not None
    assert (both.counts.names, both.counts.total) == (("a", "b", "c"), 20)
    assert of_run(judge, Data(train=data.train), on_training=True) is None
    assert of_run(lambda _: None, data, on_training=True) is None
