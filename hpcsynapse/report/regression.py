"""Whether one state of a program or machine is slower than another, point by point: a gate for continuous integration.

A point is what was run where: strategy, engine, model, data, nodes, ranks and batch, and optimizer, hardware and
threads unless one of the two sides is a table, which does not tell them, and every setting in which runs of one side
differ. Only points alike in all of that are compared. Settings in which one side as a whole differs from the other are
what may be on trial: the flag `other-settings` names them.

The time ratio is candidate / reference of the time that a sample took: of 1 / throughput, so that slow steps and what
passes between steps count. Its 95 % interval is Student's on logarithms (intervals.py). What it is made of: repeats on
both sides (equally many are taken to vary alike); repeats on one side, as which the single run of the other is taken to
vary; or the steps within two single runs, which do not show how runs differ from one another (flag `one-repeat`). Nor
do repeats show how a machine differs from one day to another (flag `other-day`).

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
from typing import Any

from hpcsynapse.errors import SpecError
from hpcsynapse.report.change import Change
from hpcsynapse.report.entries import Entry, What
from hpcsynapse.report.intervals import LEVEL, Estimate, of_unlike, pooled, t_probability
from hpcsynapse.report.varied import chosen, differing, told

TOLERANCE = 0.03  # three repeats that vary by 2 % find a slowdown of 10 % in 85 of 100 cases; with 0.05 in 58
OTHER_DAY = 12 * 3600.0  # seconds between the runs of one side and those of the other
VERDICTS = ("slower", "faster", "same", "unclear", "missing", "new")
_LEVEL = (1 - LEVEL) / 2  # of one side
_TOLD = ("repeats", "step_time_s", "throughput", "accuracy")  # of either side
_TINY = 1e-9  # of a logarithm: less than 32-bit times can tell


def changes(reference: Sequence[Entry], candidate: Sequence[Entry], tolerance: float = TOLERANCE) -> list[Change]:
    """Return a row for every point of either side: first those of both, by what was run where.

    Raises SpecError for a tolerance that is none, for entries that cannot be told apart, and when there is no point
    that both sides have, with what the most similar ones differ in.
    """
    if not 0 <= tolerance <= 1:
        raise SpecError(f"--tolerance {tolerance:g}: give the accepted slowdown as a fraction from 0 to 1")
    known = all(entry.what.optimizer is not None for entry in (*reference, *candidate))
    names = sorted({name for side in (reference, candidate) for name in differing(one.settings for one in side)})
    reference, candidate = _with_settings(reference, names), _with_settings(candidate, names)
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


def _with_settings(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """Return points that are told apart by these settings, whichever of the sides varies them."""
    return [
        dataclasses.replace(one, what=one.what._replace(settings=told(chosen(one.settings, names)))) for one in entries
    ]


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
    unlike = ", ".join(
        f"{name} ({_shown(getattr(one, name))} and {_shown(getattr(other, name))})" for name in _differences(one, other)
    )
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
    return [
        _row(*pair, _verdict(gain, up, down, tolerance), _flags(*pair), gain, up)
        for pair, gain, up, down in zip(pairs, gains, slower, faster, strict=True)
    ]


def _gain(reference: Entry, candidate: Entry) -> Estimate:
    """Return candidate / reference of the times.

    Where nothing has changed both sides vary alike, so that equal numbers of repeats show one variance together.
    """
    if reference.repeats == candidate.repeats > 1:
        return pooled(reference.rate, candidate.rate)
    return of_unlike(reference.rate, reference.repeats, candidate.rate, candidate.repeats)


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
    reference: Entry | None,
    candidate: Entry | None,
    verdict: str,
    flags: str,
    gain: Estimate | None = None,
    p_slower: float | None = None,
) -> Change:
    """Return a row of a point that both sides have, or one of them."""
    sides = {"reference": reference, "candidate": candidate}
    what = next(entry.what for entry in sides.values() if entry)
    told: dict[str, Any] = {
        f"{side}_{name}": getattr(entry, name) if entry else None for side, entry in sides.items() for name in _TOLD
    }
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
        settings=what.settings,
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
    """Return the remarks of both sides, each once, those of one side with its name, and what the two together say."""
    both = [flag for flag in reference.flags if flag in candidate.flags]
    sides = (("reference", reference.flags), ("candidate", candidate.flags))
    own = [f"{side}:{flag}" for side, flags in sides for flag in flags if flag not in both]
    day = ["other-day"] if _another_day(reference, candidate) else []
    return " ".join([*both, *own, *day, *_other_settings(reference, candidate)])


def _other_settings(one: Entry, other: Entry) -> list[str]:
    """Return the names of the settings that are known of both sides and are not the same."""
    names = differing((one.settings, other.settings))
    if None in (one.what.optimizer, other.what.optimizer):  # a table tells those that differ between its rows
        names = [name for name in names if name in one.settings and name in other.settings]
    return [f"other-settings={','.join(names)}".replace(" ", "_")] if names else []


def _another_day(one: Entry, other: Entry) -> bool:
    """Tell whether all runs of one side were long before or after those of the other: then more than the state differs.

    A machine is not the same on all days, and no number of repeats on one of them shows by how much.
    """
    if not one.begun or not other.begun:
        return False
    return max(other.begun[0] - one.begun[-1], one.begun[0] - other.begun[-1]) > OTHER_DAY


def _unlike(what: What, others: Sequence[What]) -> str:
    """Return what the most similar point of the other side has otherwise."""
    nearest = _nearest(what, others)
    return " ".join(
        f"other-{name}={_shown(getattr(nearest, name))}".replace(" ", "_") for name in _differences(what, nearest)
    )


def sentence(found: Sequence[Change], tolerance: float) -> str:
    """Return the outcome of a comparison in one line; a point that is unclear leaves it undecided."""
    counts = [(sum(one.verdict == verdict for one in found), verdict) for verdict in VERDICTS]
    told = ", ".join(f"{count} {verdict}" for count, verdict in counts if count)
    found_any = {verdict for count, verdict in counts if count}
    outcome = "regression" if "slower" in found_any else "undecided" if "unclear" in found_any else "no regression"
    return f"{outcome} at a tolerance of {tolerance:.3g}: {told}"
