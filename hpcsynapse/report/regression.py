"""Whether one state of a program or machine is slower than another, point by point: a gate for continuous integration.

A point is what was run where: strategy, engine, model, data, nodes, ranks and batch, and optimizer, hardware and
threads unless one of the two sides is a table, which does not tell them. Only points alike in all of that are compared.

The time ratio is candidate / reference: of step times, or of 1 / throughput where ranks do not wait for one another.
Its 95 % interval is Student's on logarithms (intervals.py). What it is made of: repeats on both sides; repeats on one
side, as which the single run of the other is taken to vary; or the steps within two single runs, which do not show
how runs differ from one another (flag `one-repeat`).

`slower`: the interval lies wholly above 1 + tolerance, also after the correction; `faster`: wholly below
1 / (1 + tolerance), likewise; `same`: the interval lies between the two; `unclear`: anything else.

The correction is that of Benjamini and Hochberg (1995) on the one-sided p-values at 2.5 %, which for a single point is
what its interval says. If nothing became slower, the chance that any of n points is called so is at most 2.5 %; if
some did, at most 2.5 % of the points called so, on average, did not. Holm's procedure would keep each single claim as
safe, but a gate asks whether there is any, and with few repeats and many points Holm finds next to nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.report.entries import Entry, What
from hpcsynapse.report.intervals import LEVEL, Estimate, ratio, t_probability
from hpcsynapse.report.points import column

TOLERANCE = 0.05
VERDICTS = ("slower", "faster", "same", "unclear", "missing", "new")
_LEVEL = (1 - LEVEL) / 2  # of one side
_TOLD = ("repeats", "step_time_s", "throughput", "accuracy")  # of either side
_TINY = 1e-9  # of a logarithm: less than 32-bit times can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One point of a comparison; the fields, in this order, are its columns. None: not known, or nothing to compare."""

    strategy: str = column("how the ranks worked together")
    engine: str = column("what moved the data")
    model: str = column("model, or the program of a user's own command")
    data: str = column("data set")
    nodes: int | None = column("nodes")
    ranks: int = column("ranks that trained")
    batch_per_rank: float | None = column("samples of a rank in a step, median")
    global_batch: float | None = column("samples of all ranks in a step, median")
    reference_repeats: int | None = column("runs of the reference")
    candidate_repeats: int | None = column("runs of the candidate")
    reference_step_time_s: float | None = column("step time of the reference; asynchronous: of one worker")
    candidate_step_time_s: float | None = column("step time of the candidate")
    reference_throughput: float | None = column("samples per second of all ranks, reference")
    candidate_throughput: float | None = column("samples per second of all ranks, candidate")
    time_ratio: float | None = column("time of the candidate / time of the reference: above 1 is slower")
    time_ratio_low: float | None = column("lower end of its 95 % interval")
    time_ratio_high: float | None = column("upper end of its 95 % interval")
    throughput_ratio: float | None = column("throughput of the candidate / of the reference: 1 / time_ratio")
    throughput_ratio_low: float | None = column("lower end of its 95 % interval")
    throughput_ratio_high: float | None = column("upper end of its 95 % interval")
    p_slower: float | None = column("p-value of being slower than the tolerance, corrected for the number of points")
    verdict: str = column("slower, faster, same, unclear; missing or new where one side lacks the point")
    reference_accuracy: float | None = column("accuracy on the test data, a fraction; shown, not judged")
    candidate_accuracy: float | None = column("the same of the candidate")
    flags: str = column("remarks on either side as in the scaling report; of a missing point what the nearest one has")


COLUMNS: dict[str, str] = {item.name: item.metadata["meaning"] for item in dataclasses.fields(Change)}


def changes(reference: Sequence[Entry], candidate: Sequence[Entry], tolerance: float = TOLERANCE) -> list[Change]:
    """Return a row for every point of either side: first those of both, by what was run where.

    Raises SpecError for a tolerance that is none, for entries that cannot be told apart, and when there is no point
    that both sides have, with what the most similar ones differ in.
    """
    if not 0 <= tolerance <= 1:
        raise SpecError(f"--tolerance {tolerance:g}: give the accepted slowdown as a fraction from 0 to 1")
    known = all(entry.what.optimizer is not None for entry in (*reference, *candidate))
    before, after = _by_what("the reference", reference, known), _by_what("the candidate", candidate, known)
    both = sorted((what for what in before if what in after), key=_order)
    if not both:
        raise SpecError(_nothing_in_common(list(before), list(after)))
    found = _judged([(before[what], after[what]) for what in both], tolerance)
    for what in sorted(set(before) - set(after), key=_order):
        found.append(_row(before[what], None, "missing", _unlike(what, list(after))))
    for what in sorted(set(after) - set(before), key=_order):
        found.append(_row(None, after[what], "new", _unlike(what, list(before))))
    return found


def _by_what(side: str, entries: Sequence[Entry], conditions_known: bool) -> dict[What, Entry]:
    found: dict[What, Entry] = {}
    for entry in entries:
        what = entry.what
        if not conditions_known:
            what = what._replace(optimizer=None, hardware=None, threads=None)
        if what in found:
            raise SpecError(
                f"{side} has two points that are alike in all that a table tells ({_title(what)}); "
                "compare the runs themselves, or report them apart"
            )
        found[what] = entry
    return found


def _order(what: What) -> tuple[object, ...]:
    return tuple((value is not None, value) for value in what)


def _title(what: What) -> str:
    names = [name for name in (what.strategy, what.engine, what.model, what.data) if name]
    return ", ".join([*names, f"{what.ranks} rank{'s' if what.ranks != 1 else ''}"])


def _differences(one: What, other: What) -> list[str]:
    return [name for name in What._fields if getattr(one, name) != getattr(other, name)]


def _nearest(what: What, others: Sequence[What]) -> What:
    return min(others, key=lambda other: len(_differences(what, other)))


def _nothing_in_common(before: Sequence[What], after: Sequence[What]) -> str:
    pairs = [(what, _nearest(what, after)) for what in before]
    one, other = min(pairs, key=lambda pair: len(_differences(*pair)))
    unlike = ", ".join(f"{name} ({_shown(getattr(one, name))} and {_shown(getattr(other, name))})"
                       for name in _differences(one, other))  # fmt: skip
    return (
        f"no point of the reference ({len(before)}) is among those of the candidate ({len(after)}); "
        f"the most similar ones differ in {unlike}"
    )


def _shown(value: object) -> str:
    if value in (None, ""):
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _judged(pairs: Sequence[tuple[Entry, Entry]], tolerance: float) -> list[Change]:
    gains = [_gain(*pair) for pair in pairs]
    slower = _corrected([_p_beyond(gain, 1 + tolerance) for gain in gains])
    faster = _corrected([_p_beyond(_inverse(gain), 1 + tolerance) for gain in gains])
    return [_row(*pair, _verdict(gain, up, down, tolerance), _flags(*pair), gain, up)
            for pair, gain, up, down in zip(pairs, gains, slower, faster, strict=True)]  # fmt: skip


def _gain(reference: Entry, candidate: Entry) -> Estimate:
    """Return candidate / reference of the times."""
    few, many = sorted((reference, candidate), key=lambda entry: entry.repeats)
    if few.repeats > 1 or many.repeats == 1:
        return ratio(reference.rate, candidate.rate)
    of_a_run = max(many.rate.variance * many.repeats, few.rate.variance)
    variance = of_a_run + many.rate.variance
    return Estimate(reference.rate.value / candidate.rate.value, variance, many.rate.freedom)


def _inverse(estimate: Estimate) -> Estimate:
    return dataclasses.replace(estimate, value=1 / estimate.value)


def _p_beyond(gain: Estimate, limit: float) -> float | None:
    """Return the chance of a ratio this far above a limit, or farther, if the true one is the limit; None: unknown."""
    distance = math.log(gain.value / limit)
    if not gain.freedom:
        return None
    if gain.variance <= 0:
        return 0.0 if distance > _TINY else 1.0
    below = t_probability(abs(distance) / math.sqrt(gain.variance), gain.freedom)
    return 1 - below if distance > 0 else below


def _corrected(found: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number by Benjamini's and Hochberg's step-up procedure."""
    known = sorted(((p, index) for index, p in enumerate(found) if p is not None), reverse=True)
    corrected: list[float | None] = [None] * len(found)
    smallest = 1.0
    for place, (p, index) in enumerate(known):
        smallest = min(smallest, p * len(known) / (len(known) - place))
        corrected[index] = smallest
    return corrected


def _verdict(gain: Estimate, slower: float | None, faster: float | None, tolerance: float) -> str:
    ends = gain.interval()
    if ends is None or slower is None or faster is None:
        return "unclear"
    if slower <= _LEVEL:
        return "slower"
    if faster <= _LEVEL:
        return "faster"
    limit = 1 + tolerance + _TINY
    return "same" if 1 / limit <= ends[0] and ends[1] <= limit else "unclear"


def _row(
    reference: Entry | None, candidate: Entry | None, verdict: str, flags: str, gain: Estimate | None = None,
    p_slower: float | None = None,
) -> Change:  # fmt: skip
    """Return a row of a point that both sides have, or one of them."""
    sides = {"reference": reference, "candidate": candidate}
    what = next(entry.what for entry in sides.values() if entry)
    told: dict[str, Any] = {f"{side}_{name}": getattr(entry, name) if entry else None
                            for side, entry in sides.items() for name in _TOLD}  # fmt: skip
    low, high = (gain and gain.interval()) or (None, None)
    return Change(
        strategy=what.strategy,
        engine=what.engine,
        model=what.model,
        data=what.data,
        nodes=what.nodes,
        ranks=what.ranks,
        batch_per_rank=_plain(what.batch_per_rank),
        global_batch=_plain(what.global_batch),
        time_ratio=gain.value if gain else None,
        time_ratio_low=low,
        time_ratio_high=high,
        throughput_ratio=1 / gain.value if gain else None,
        throughput_ratio_low=None if high is None else 1 / high,
        throughput_ratio_high=None if low is None else 1 / low,
        p_slower=p_slower,
        verdict=verdict,
        flags=flags,
        **told,
    )


def _plain(value: float | None) -> float | None:
    return int(value) if value is not None and value == int(value) else value


def _flags(reference: Entry, candidate: Entry) -> str:
    """Return the remarks of both sides, each once, and those of one side with its name."""
    both = [flag for flag in reference.flags if flag in candidate.flags]
    sides = (("reference", reference.flags), ("candidate", candidate.flags))
    return " ".join([*both, *(f"{side}:{flag}" for side, flags in sides for flag in flags if flag not in both)])


def _unlike(what: What, others: Sequence[What]) -> str:
    """Return what the most similar point of the other side has otherwise."""
    nearest = _nearest(what, others)
    return " ".join(f"other-{name}={_shown(getattr(nearest, name))}".replace(" ", "_")
                    for name in _differences(what, nearest))  # fmt: skip


def sentence(found: Sequence[Change], tolerance: float) -> str:
    """Return the outcome of a comparison in one line."""
    counts = [(sum(one.verdict == verdict for one in found), verdict) for verdict in VERDICTS]
    told = ", ".join(f"{count} {verdict}" for count, verdict in counts if count)
    return f"{'regression' if counts[0][0] else 'no regression'} at a tolerance of {tolerance:.3g}: {told}"
