"""The tables of a report beside that of scaling: which of their columns people see, and under which heading."""

from __future__ import annotations

from hpcsynapse.report import hosts, regression, stragglers, why
from hpcsynapse.report.tables import Layout

WHY = Layout(tuple(why.COLUMNS), (
    ("strategy", "strategy"),
    ("engine", "engine"),
    ("model", "model"),
    ("data", "data"),
    ("scaling", "scaling"),
    ("ranks", "ranks"),
    ("against", "baseline_strategy"),
    ("its ranks", "baseline_ranks"),
    ("part", "part"),
    ("there", "baseline_s"),
    ("here", "point_s"),
    ("lost", "lost_s"),
    ("share", "share"),
))  # fmt: skip
RANKS = Layout(tuple(stragglers.COLUMNS), (
    ("run", "run"),
    ("rank", "rank"),
    ("host", "host"),
    ("device", "device"),
    ("kind", "device_name"),
    ("before collective", "before_s"),
    ("longer by", "excess"),
    ("mostly in", "phase"),
    ("last in", "last"),
    ("delay", "delay_s"),
    ("slow", "slow"),
))  # fmt: skip
HOSTS = Layout(tuple(hosts.COLUMNS), (
    ("host", "host"),
    ("runs", "runs"),
    ("slow in", "slow_runs"),
    ("ranks", "ranks"),
    ("devices", "devices"),
    ("mostly in", "phase"),
    ("longer by", "excess"),
    ("delay", "delay_s"),
    ("last seen", "last_seen"),
    ("leave out", "exclude"),
))  # fmt: skip
CHANGES = Layout(tuple(regression.COLUMNS), (
    ("strategy", "strategy"),
    ("engine", "engine"),
    ("model", "model"),
    ("data", "data"),
    ("nodes", "nodes"),
    ("ranks", "ranks"),
    ("batch/rank", "batch_per_rank"),
    ("runs A", "reference_repeats"),
    ("runs B", "candidate_repeats"),
    ("step time A", "reference_step_time_s"),
    ("step time B", "candidate_step_time_s"),
    ("samples/s A", "reference_throughput"),
    ("samples/s B", "candidate_throughput"),
    ("time B/A", "time_ratio"),
    ("verdict", "verdict"),
    ("accuracy A", "reference_accuracy"),
    ("accuracy B", "candidate_accuracy"),
    ("remarks", "flags"),
))  # fmt: skip
