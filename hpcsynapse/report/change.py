"""The rows of a comparison: what changed at one point, and the columns that tell it."""

from __future__ import annotations

from dataclasses import dataclass

from hpcsynapse.table import FRACTION, KEY, SECONDS, column, columns, lower_end, upper_end


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One point of a comparison; the fields, in this order, are its columns. None: not known, or nothing to compare."""

    strategy: str = column("how the ranks worked together", priority=KEY)
    engine: str = column("what moved the data", priority=KEY)
    model: str = column("model, or the program of a user's own command", priority=KEY)
    data: str = column("data set", priority=KEY)
    nodes: int | None = column("nodes", priority=KEY)
    ranks: int = column("ranks that trained", priority=KEY)
    batch_per_rank: float | None = column("samples of a rank in a step, median", head="batch/rank", priority=8)
    global_batch: float | None = column("samples of all ranks in a step, median", shown=False)
    settings: str = column("what else differs between the points of a side", priority=KEY)
    reference_repeats: int | None = column("runs of the reference", head="repeats A", priority=3)
    candidate_repeats: int | None = column("runs of the candidate", head="repeats B", priority=3)
    reference_step_time_s: float | None = column(
        "step time of the reference; asynchronous: of one worker", head="step time A", unit=SECONDS, priority=5
    )
    candidate_step_time_s: float | None = column(
        "step time of the candidate", head="step time B", unit=SECONDS, priority=5
    )
    reference_throughput: float | None = column(
        "samples per second of all ranks, reference", head="samples/s A", priority=4
    )
    candidate_throughput: float | None = column(
        "samples per second of all ranks, candidate", head="samples/s B", priority=4
    )
    time_ratio: float | None = column(
        "time of the candidate / time of the reference: above 1 is slower", head="time B/A", interval=True, priority=KEY
    )
    time_ratio_low: float | None = lower_end()
    time_ratio_high: float | None = upper_end()
    throughput_ratio: float | None = column(
        "throughput of the candidate / of the reference: 1 / time_ratio", shown=False, interval=True
    )
    throughput_ratio_low: float | None = lower_end()
    throughput_ratio_high: float | None = upper_end()
    p_slower: float | None = column(
        "p-value of being slower than the tolerance, corrected for the number of points", shown=False
    )
    verdict: str = column(
        "slower, faster, same, unclear; missing or new where one side lacks the point", priority=KEY, always=True
    )
    reference_accuracy: float | None = column(
        "accuracy on the test data, a fraction; shown, not judged", head="accuracy A", unit=FRACTION, priority=3
    )
    candidate_accuracy: float | None = column("the same of the candidate", head="accuracy B", unit=FRACTION, priority=3)
    flags: str = column(
        "remarks on either side as in the scaling report; of a missing point what the nearest one has", priority=7
    )


COLUMNS = columns(Change)
