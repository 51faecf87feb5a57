"""The parts of the RetinaNet example: anchors, boxes, losses, average precision, receipts, and the model as a whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpcsynapse.errors import TrainError
from hpcsynapse.spec import settings
from hpcsynapse.trainer import data, models, usercode
from hpcsynapse.trainer.models.retinanet import anchors, boxes, evaluation, losses
from hpcsynapse.trainer.models.survey import training_flops

pytestmark = pytest.mark.slow

pytest.importorskip("PIL")
EXAMPLE = Path(__file__).parents[3] / "examples" / "retinanet"
MODEL = EXAMPLE / "model"
SMALL = {"backbone": "small", "channels": 8, "depth": 1}
LN2 = math.log(2)

receipts = usercode.load(EXAMPLE, "generate.py")


def tensor(*rows: Any) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


coordinate = st.integers(0, 60)
side = st.integers(1, 40)
box = st.tuples(coordinate, coordinate, side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def brute_iou(first: Any, second: Any) -> float:
    """By counting pixels."""
    cells = [{(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in (first, second)]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


# Anchors


def test_anchors_of_one_place_have_the_published_areas_and_the_ratios_asked_for() -> None:
    found = anchors.anchors([(8, 1, 1)], anchors.RATIOS, "cpu")
    sizes = found[:, 2:] - found[:, :2]
    assert len(found) == 18
    scales = torch.tensor([32.0, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)]).repeat(6)
    torch.testing.assert_close(sizes.prod(dim=1).sqrt(), scales)
    ratios = torch.tensor([1 / 8, 1 / 6, 1 / 4, 1 / 2, 1, 2]).repeat_interleave(3)
    torch.testing.assert_close(sizes[:, 1] / sizes[:, 0], ratios)


def test_anchors_lie_on_the_middles_of_the_cells_row_by_row_and_level_by_level() -> None:
    found = anchors.anchors([(8, 2, 3), (16, 1, 2)], (1.0,), "cpu")
    centres = ((found[:, :2] + found[:, 2:]) / 2)[::3]
    wanted = [(4, 4), (12, 4), (20, 4), (4, 12), (12, 12), (20, 12), (8, 8), (24, 8)]
    assert [tuple(centre) for centre in centres.tolist()] == wanted


def test_lines_of_text_need_the_wide_anchors() -> None:
    lines = torch.cat([tensor(*receipts.receipt(np.random.default_rng(seed))[1]) for seed in range(20)])
    levels = [(8, 32, 24), (16, 16, 12), (32, 8, 6)]
    near = {}
    for name, ratios in {"wide": anchors.RATIOS, "usual": (1 / 2, 1.0, 2.0)}.items():
        near[name] = (boxes.iou(anchors.anchors(levels, ratios, "cpu"), lines).amax(dim=0) >= 0.5).double().mean()
    assert near["wide"] > 0.9
    assert near["usual"] < 0.1


# Boxes


@given(st.lists(box, max_size=6), st.lists(box, max_size=6))
def test_overlap_counts_pixels(first: list[Any], second: list[Any]) -> None:
    found = boxes.iou(tensor(*first), tensor(*second))
    assert found.shape == (len(first), len(second))
    for row, one in zip(found.tolist(), first, strict=True):
        assert row == pytest.approx([brute_iou(one, other) for other in second])


@given(st.lists(st.tuples(box, box), min_size=1, max_size=20))
def test_offsets_lead_from_anchor_to_box_and_back(pairs: list[Any]) -> None:
    places, goals = (tensor(*part) for part in zip(*pairs, strict=True))
    torch.testing.assert_close(boxes.decode(places, boxes.encode(places, goals)), goals, rtol=1e-4, atol=1e-3)


def test_offsets_known() -> None:
    # Centre from (10, 10) to (12, 9), width 20 to 40, height 10 to 10.
    found = boxes.encode(tensor((0, 5, 20, 15)), tensor((-8, 4, 32, 14)))
    torch.testing.assert_close(found, tensor((2 / 20 / 0.1, -1 / 10 / 0.1, LN2 / 0.2, 0.0)))


def test_offsets_of_any_size_give_finite_boxes() -> None:
    found = boxes.decode(tensor((0, 0, 10, 10)), tensor((0, 0, 1e6, 1e6)))
    assert torch.isfinite(found).all()


def test_boxes_are_cut_to_the_image() -> None:
    found = boxes.clip(tensor((-5, -1, 50, 8), (3, 4, 5, 6)), 20, 10)
    assert found.tolist() == [[0, 0, 20, 8], [3, 4, 5, 6]]


@given(st.lists(st.tuples(box, st.integers(0, 5)), max_size=12), st.sampled_from((0.0, 0.3, 0.5, 0.9)))
def test_suppression_equals_brute_force(found: list[Any], limit: float) -> None:
    places = [place for place, _ in found]
    scores = [score for _, score in found]
    wanted: list[int] = []
    for number in sorted(range(len(found)), key=lambda i: -scores[i]):  # stable: of equal scores the first
        if all(brute_iou(places[number], places[better]) <= limit for better in wanted):
            wanted.append(number)
    stays = boxes.nms(tensor(*places), torch.tensor(scores, dtype=torch.float32), limit)
    assert stays.tolist() == wanted


# Losses


@pytest.mark.parametrize(
    ("logit", "target", "wanted"),
    [
        (0, 1, 0.25 * 0.25 * LN2),
        (0, 0, 0.75 * 0.25 * LN2),
        (math.log(3), 1, 0.25 * 0.0625 * math.log(4 / 3)),
        (math.log(3), 0, 0.75 * 0.5625 * math.log(4)),
    ],
)
def test_focal_loss_known(logit: float, target: int, wanted: float) -> None:
    found = losses.focal_loss(torch.tensor([[logit, logit]]).float(), torch.tensor([[target, target]]).float())
    assert float(found) == pytest.approx(2 * wanted, rel=1e-5)


def test_focal_loss_of_certain_answers_is_finite_and_so_is_its_gradient() -> None:
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0], requires_grad=True)
    found = losses.focal_loss(logits, torch.tensor([1.0, 0.0, 0.0, 1.0]))
    found.backward()
    assert float(found.detach()) == pytest.approx((0.75 + 0.25) * 200)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([0.0, 0.0, 0.75, -0.25]))


def test_smooth_l1_known() -> None:
    found = losses.smooth_l1(torch.tensor([1.0, -2.0, 1 / 18, 0.0]), torch.zeros(4))
    assert float(found) == pytest.approx((1 - 1 / 18) + (2 - 1 / 18) + (1 / 18) ** 2 * 9 / 2)


def test_anchors_stand_for_what_they_overlap() -> None:
    lines = tensor((0, 0, 10, 10), (100, 100, 101, 101))
    far = (100, 100, 110, 110), (50, 50, 60, 60)
    places = tensor((0, 0, 10, 10), (0, 0, 10, 18), (0, 0, 10, 23), (0, 0, 10, 30), *far)
    # Overlaps with the first line: 1, 10/18, 10/23, 1/3; the second overlaps one anchor by 0.01 and takes it.
    assert losses.match(places, lines).tolist() == [0, 0, losses.IGNORED, losses.BACKGROUND, 1, losses.BACKGROUND]


def test_a_box_far_from_every_anchor_takes_none() -> None:
    assert losses.match(tensor((0, 0, 5, 5)), tensor((50, 50, 60, 60))).tolist() == [losses.BACKGROUND]
    assert losses.match(tensor((0, 0, 5, 5)), tensor()).tolist() == [losses.BACKGROUND]


def test_ignored_anchors_do_not_count_and_the_sum_is_shared_by_those_that_stand_for_a_box() -> None:
    lines, places = tensor((0, 0, 10, 10)), tensor((0, 0, 10, 10), (0, 0, 10, 18), (0, 0, 10, 23), (50, 50, 60, 60))
    logits = torch.tensor([[0.0], [0.0], [30.0], [0.0]])  # the third is between near and far
    offsets = torch.zeros(4, 4)
    focal, l1 = losses.detection_losses(logits, offsets, places, lines, torch.tensor([0]))
    assert float(focal) == pytest.approx((2 * 0.25 + 0.75) * 0.25 * LN2 / 2)
    wanted = boxes.encode(places[:2], lines.expand(2, 4))
    assert float(l1) == pytest.approx(float(losses.smooth_l1(torch.zeros(2, 4), wanted)) / 2)


# Average precision

HERE, THERE, ELSEWHERE = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
NOTHING = (60, 60, 70, 70)


def scored(*found: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return tensor(*(place for place, _ in found)), torch.tensor([float(score) for _, score in found])


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([(HERE, 0.9), (THERE, 0.8), (ELSEWHERE, 0.7)], 1.0),
        ([], 0.0),
        ([(NOTHING, 0.9)], 0.0),
        ([(HERE, 0.9)], 1 / 3),
        ([(HERE, 0.9), (NOTHING, 0.8), (THERE, 0.7)], 1 / 3 + 1 / 3 * 2 / 3),
        ([(THERE, 0.7), (HERE, 0.9), (NOTHING, 0.8)], 1 / 3 + 1 / 3 * 2 / 3),  # in any order
        ([(NOTHING, 0.9), (HERE, 0.8), (THERE, 0.7), (ELSEWHERE, 0.6)], 3 / 4),  # the best precision to come counts
        ([(HERE, 0.9), (HERE, 0.8), (THERE, 0.7)], 1 / 3 + 1 / 3 * 2 / 3),  # the second one finds nothing new
        ([((0, 0, 10, 5), 0.9)], 1 / 3),  # overlap of exactly one half
        ([((0, 0, 10, 4), 0.9)], 0.0),
    ],
)
def test_average_precision_known(found: list[Any], wanted: float) -> None:
    assert evaluation.average_precision([scored(*found)], [tensor(HERE, THERE, ELSEWHERE)]) == pytest.approx(wanted)


def test_scores_of_all_images_are_ranked_together() -> None:
    found = [scored((HERE, 0.5)), scored((NOTHING, 0.9))]
    assert evaluation.average_precision(found, [tensor(HERE), tensor()]) == pytest.approx(1 / 2)
    assert evaluation.average_precision(found, [tensor(HERE), tensor(HERE)]) == pytest.approx(1 / 4)


def test_a_detection_takes_the_box_that_is_still_free() -> None:
    true = tensor((0, 0, 10, 10), (0, 0, 10, 8))
    found = [scored(((0, 0, 10, 9), 0.9), ((0, 0, 10, 10), 0.8))]
    assert evaluation.average_precision(found, [true]) == pytest.approx(1.0)


def test_mean_over_the_classes_that_are_there_and_over_overlaps() -> None:
    found = evaluation.Detections(tensor(HERE, THERE), torch.tensor([0.9, 0.8]), torch.tensor([0, 1]))
    true = (tensor(HERE, HERE), torch.tensor([0, 1]))
    mean = evaluation.mean_average_precision
    assert mean([found], [true], classes=3) == pytest.approx(0.5)
    thin = evaluation.Detections(tensor((0, 0, 10, 6)), torch.tensor([0.9]), torch.tensor([0]))
    assert mean([thin], [(tensor(HERE), torch.tensor([0]))], 1, (0.5, 0.7)) == pytest.approx(0.5)
    assert math.isnan(mean([thin], [(tensor(), torch.tensor([], dtype=torch.long))], 1))


# Receipts


def test_receipts_follow_from_the_seed_and_boxes_hold_the_ink() -> None:
    for seed in range(8):
        (image, lines), (again, same) = (receipts.receipt(np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(image, again) and lines == same
        assert image.shape == (256, 192) and image.dtype == np.uint8 and 1 <= len(lines) <= 12
        for x1, y1, x2, y2 in lines:
            assert 0 <= x1 < x2 <= 192 and 0 <= y1 < y2 <= 256
            above = image[max(0, y1 - 3) : max(1, y1 - 1), x1:x2]
            assert np.percentile(image[y1:y2, x1:x2], 5) < np.percentile(above, 5) - 10


def test_loader_pairs_images_with_their_lines_and_fills_up(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "validation")):
        receipts.write(tmp_path / part, 3, (7, number))
    loaded = data.load(str(EXAMPLE / "loader"), str(tmp_path), {})
    images, lines = loaded.train.batch(np.arange(3))
    assert images.shape == (3, 1, 256, 192) and images.abs().max() <= 1
    drawn = [receipts.receipt(np.random.default_rng((7, 0, number)))[1] for number in range(3)]
    assert lines.shape == (3, max(map(len, drawn)), 5)
    for rows, wanted in zip(lines.tolist(), drawn, strict=True):
        assert [tuple(row[:4]) for row in rows if row[4] == 0] == wanted
        assert all(row == [-1] * 5 for row in rows[len(wanted) :])
    assert loaded.validation is not None
    assert not torch.equal(loaded.validation.batch(np.arange(3))[0], images)


@pytest.mark.parametrize(("row", "said"), [("0000.png,5,5,5,9", "is no box"), ("0000.png,5,5,x,9", "wanted image")])
def test_loader_names_the_line_of_a_malformed_box(tmp_path: Path, row: str, said: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "lines.csv").write_text(f"image,x1,y1,x2,y2\n0000.png,1,1,2,2\n{row}\n")
    with pytest.raises(ValueError, match=rf"lines\.csv:3: .*{said}"):
        data.load(str(EXAMPLE / "loader"), str(tmp_path), {})


def test_loader_says_where_receipts_come_from(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"generate\.py"):
        data.load(str(EXAMPLE / "loader"), str(tmp_path), {})


# The descriptions of runs


@pytest.mark.parametrize("name", ["run.toml", "config.json"])
def test_descriptions_are_valid_and_name_the_gradient_norm_and_snapshots_of_the_source(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLE.parents[1])
    train = settings.load(EXAMPLE / name).train
    assert (Path(train.model).resolve(), Path(train.data).resolve()) == (MODEL, EXAMPLE / "loader")
    assert Path(str(train.data_path)).resolve() == EXAMPLE / "receipts"
    assert (train.clip_norm, train.lr, train.epochs, train.checkpoint_every) == (0.1, 0.001, 10, 2)


# The model


@pytest.fixture(scope="module")
def small() -> Any:
    torch.manual_seed(0)
    return models.create(str(MODEL), {**SMALL, "classes": 2})


def lines_of(*rows: Any) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


def test_output_has_a_row_for_every_anchor_and_starts_at_the_prior(small: Any) -> None:
    logits, offsets, places, size = small(torch.zeros(2, 1, 72, 104))
    # 104 x 72 pixels: 13 x 9, 7 x 5, 4 x 3, 2 x 2 and 1 x 1 places.
    count = 18 * (117 + 35 + 12 + 4 + 1)
    assert logits.shape == (2, count, 2) and offsets.shape == (2, count, 4) and places.shape == (count, 4)
    assert size == (104, 72)
    assert float(torch.sigmoid(logits).detach().mean()) == pytest.approx(0.01, rel=0.05)


def test_loss_is_the_mean_over_images_and_does_not_see_what_fills_up(small: Any) -> None:
    images = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    first, second = lines_of((8, 8, 56, 16, 0), (8, 24, 56, 32, 1)), lines_of((4, 40, 60, 50, 1))
    together = torch.stack((first, torch.cat((second, lines_of((-1, -1, -1, -1, -1))))))
    with torch.no_grad():
        alone = [float(small.loss(small(images[i : i + 1]), [lines])) for i, lines in enumerate((first, second))]
        assert float(small.loss(small(images), together)) == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_every_parameter_takes_part_even_where_an_image_has_no_lines(small: Any) -> None:
    for lines in (lines_of((8, 8, 56, 16, 0)), lines_of()):
        small.zero_grad()
        small.loss(small(torch.ones(1, 1, 64, 64)), [lines]).backward()
        assert all(parameter.grad is not None for parameter in small.parameters())


def test_detections_are_decoded_and_suppressed_within_their_class(small: Any) -> None:
    places = tensor((0, 0, 40, 10), (0, 1, 40, 11), (20, 20, 80, 30))
    logits = torch.tensor([[3.0, -9.0], [2.0, 1.0], [-9.0, 2.5]])
    offsets = torch.zeros(3, 4)
    offsets[2, 0] = 1.0  # a tenth of the width to the right, beyond the image's edge
    (found,) = small.detect((logits[None], offsets[None], places, (84, 64)))
    assert found.boxes.tolist() == [[0, 0, 40, 10], [26, 20, 84, 30], [0, 1, 40, 11]]
    assert found.classes.tolist() == [0, 1, 1]
    torch.testing.assert_close(found.scores, torch.sigmoid(torch.tensor([3.0, 2.5, 1.0])))


def test_metrics_of_a_perfect_answer(small: Any) -> None:
    lines = lines_of((0, 0, 32, 8, 1))
    output = (torch.tensor([[[-9.0, 9.0]]]), torch.zeros(1, 1, 4), tensor((0, 0, 32, 8)), (64, 64))
    found = small.metrics(output, [lines])
    assert found["image_ap50"] == 1.0
    assert float(found["smooth_l1"]) == 0.0
    assert float(found["focal_loss"]) < 1e-6


def test_default_stands_on_resnet50() -> None:
    model = models.create(str(MODEL), {"colours": 3})
    # The published 25,557,032 without the classifier's 2,049,000.
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) == 23_508_032
    features = model.backbone.eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(feature.shape[1:]) for feature in features] == [(512, 8, 12), (1024, 4, 6), (2048, 2, 3)]


def test_unknown_backbone_is_named() -> None:
    with pytest.raises(TrainError, match="'resnet5' is none of resnet50, small"):
        models.create(str(MODEL), {"backbone": "resnet5"})


def test_built_in_name_has_the_published_parameters() -> None:
    published = 34_014_999  # torchvision's retinanet_resnet50_fpn: 91 classes, 3 ratios
    frozen = 53_120  # there, scales and shifts of batch norm are no parameters
    p6 = (2048 - 256) * 256 * 9  # there, P6 is made of P5; in the paper, and here, of C5
    with torch.device("meta"):
        model = models.create("retinanet", {"ratios": [0.5, 1.0, 2.0]}, (3, 800, 800), 91)
        receipts = models.create("retinanet", {})
    assert sum(parameter.numel() for parameter in model.parameters()) == published + frozen + p6
    # By itself 1 colour in the first convolution, and 18 anchors of 1 class: (1 + 4) x 18 outputs of 2,305 numbers.
    fewer = 2 * 64 * 49 + (9 * 91 + 9 * 4 - 5 * 18) * (9 * 256 + 1)
    assert sum(parameter.numel() for parameter in receipts.parameters()) == published + frozen + p6 - fewer
    assert published + frozen + p6 - fewer == 36_427_290


def test_built_in_name_computes_as_the_example_does(small: Any) -> None:
    model = models.create("retinanet", {**SMALL, "classes": 2})
    model.load_state_dict(small.state_dict())
    images = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    for found, wanted in zip(model(images), small(images), strict=True):
        assert found == wanted if isinstance(found, tuple) else torch.equal(found, wanted)


def test_flops_of_both_heads_are_counted() -> None:
    with_one = training_flops("retinanet", {**SMALL, "depth": 0}, (1, 64, 64), 1)
    with_more = training_flops("retinanet", {**SMALL, "depth": 1}, (1, 64, 64), 1)
    assert with_one and with_more
    # A convolution of 8 x 8 filters of 3 x 3 in each head, at 85 + 1 places, forward and twice backward.
    assert with_more - with_one == 2 * 3 * 2 * (8 * 8 * 9) * (64 + 16 + 4 + 1 + 1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"depth": -1}, "depth = -1 must be a whole number from 0 on"),
        ({"channels": "wide"}, "channels = 'wide' must be a whole number from 1 on"),
        ({"ratios": []}, "must be a list of positive numbers"),
        ({"ratios": [1, "a"]}, "must be a list of positive numbers"),
    ],
)
def test_arguments_that_do_not_fit_are_named(args: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainError, match=said):
        models.create("retinanet", {"backbone": "small", **args})


def test_targets_that_are_no_boxes_are_named(small: Any) -> None:
    with torch.no_grad(), pytest.raises(TrainError, match=r"\(N, n, 5\), not \(2,\)"):
        small.loss(small(torch.zeros(2, 1, 64, 64)), torch.zeros(2, dtype=torch.long))
