"""What `--help` of a command with a description shows: options that most people need, those that go together in a line.

`--help-all` shows every option with its choices.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple


class Row(NamedTuple):
    """Options that stand in one line, what they are given, and what they are."""

    options: tuple[str, ...]
    given: str
    text: str


_GENERAL = (
    Row(("--name", "--site", "--runs"), "X", "its name, the site file, the folder of all runs"),
    Row(
        ("--help-all", "--help-on"),
        "PART",
        "all options, or those of a part:\nresources queue launch train exchange ps dual telemetry survive",
    ),
)
_LISTS = (
    Row(("--nodes", "--gpus"), "1,2,..", "numbers of nodes, of GPUs on each"),
    Row(("--ranks-per-node",), "1,2,..", "numbers of ranks on each node"),
    Row(("--setups",), "1x1,2x4", "pairs NODESxGPUS instead"),
    Row(("--strategy", "--engine", "--model"), "A,B", "names; `single` has one rank"),
    Row(("--batch",), "32,64", "of a rank; strong scaling: of all ranks"),
    Row(("--vary",), "SECTION.KEY=A,B", "any setting, e.g. train.lr (repeatable)"),
    Row(("--repeats",), "N", "runs of every point, better 3 or more [1]"),
    Row(("--scaling",), "KIND", "weak or strong [weak]"),
    Row(("--jobs",), "HOW", "separate, array or packed [separate]"),
    Row(("--budget",), "HOURS", "node-hours that the study may take"),
)
_AS_SUBMIT = (
    Row(("--cpus", "--mem", "--time"), "X", "of a rank, of a node, of each run"),
    Row(("--partition", "--account", "--qos"), "X", "as the queue names them"),
    Row(("--launcher", "--env"), "X", "what starts ranks; KEY=VALUE"),
    Row(("--module", "--venv", "--container"), "X", "the environment of the ranks"),
    Row(("--data", "--data-path"), "X", "names, or your own"),
    Row(("--epochs", "--lr", "--device"), "X", "of the built-in trainer"),
)
_SECTIONS = {
    "Resources": (
        Row(("--nodes",), "N", "number of nodes [1]"),
        Row(("--gpus",), "N", "GPUs on each node"),
        Row(("--ranks-per-node",), "N", "ranks on each node [GPUs, else 1]"),
        Row(("--cpus", "--mem"), "X", "cores of a rank; memory of a node: 64G"),
        Row(("--time",), "TIME", "limit: HH:MM:SS, D-HH:MM:SS, 90m, 2h [1h]"),
    ),
    "Queue": (
        Row(("--scheduler",), "NAME", "the queue, see --help-all [auto]"),
        Row(("--partition", "--account", "--qos"), "X", "as the queue names them"),
    ),
    "Launch": (
        Row(("--launcher",), "NAME", "srun, mpirun, torchrun ... [auto]"),
        Row(("--module", "--venv", "--container"), "X", "the environment of the ranks"),
        Row(("--env",), "KEY=VALUE", "a variable of the ranks (repeatable)"),
    ),
    "Built-in trainer": (
        Row(("--model", "--data", "--data-path"), "X", "names (`hpcsynapse models`), or your own"),
        Row(("--strategy",), "NAME", "how ranks work together [allreduce]"),
        Row(("--batch", "--epochs"), "N", "samples of a rank in a step; passes"),
        Row(("--lr", "--device"), "X", "learning rate; cuda or cpu"),
    ),
}


def sections(known: Collection[str], lists: bool) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield a heading and its lines for every part of the page, of the options that a command has.

    `lists` says that the command takes lists, as a study does.
    """
    more = {"Lists and limits of a study": _LISTS, "As for submit": _AS_SUBMIT} if lists else _SECTIONS
    parts = {"": _GENERAL, **more}
    for heading, rows in parts.items():
        lines = []
        for row in rows:
            here = [name for name in row.options if name in known]
            if here:
                lines.append((f"{', '.join(here)} {row.given}", row.text))
        if lines:
            yield heading, lines
