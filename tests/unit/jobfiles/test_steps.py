"""Several descriptions in one LoadLeveler file."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcsynapse.errors import RenderError
from hpcsynapse.jobfiles.reader import read
from hpcsynapse.jobfiles.steps import render_steps, step_name
from hpcsynapse.spec import JobSpec


def described(name: str, nodes: int = 1, **queue: Any) -> tuple[JobSpec, Path]:
    table = {"name": name, "command": ["true", name], "workdir": "/w", "resources": {"nodes": nodes},
             "queue": {"scheduler": "loadleveler", **queue}, "launch": {"launcher": "poe"}}  # fmt: skip
    return JobSpec.from_dict(table), Path("/runs") / name


def test_every_description_is_a_step_with_what_it_waits_for() -> None:
    runs = [described("one-node"), described("two-nodes", 2), described("4-nodes", 4)]
    text = render_steps(runs, {"4-nodes": ["one-node", "two-nodes"]})
    file = read(text.encode())
    assert file.complaints == []
    requests = [step.request for step in file.steps]
    assert [(one.step, one.name, one.nodes, one.dependency) for one in requests] == [
        ("one_node", "one-node", 1, None), ("two_nodes", "two-nodes", 2, None),
        ("s4_nodes", "4-nodes", 4, "(one_node == 0) && (two_nodes == 0)"),
    ]  # fmt: skip
    assert text.index('case "$LOADL_STEP_NAME" in') > text.rindex("# @ queue")
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""
    assert text == render_steps(runs, {"4-nodes": ["one-node", "two-nodes"]})


def test_what_a_step_would_inherit_unasked_is_refused() -> None:
    with pytest.raises(RenderError, match="step b would inherit account_no, class"):
        render_steps([described("a", partition="x", account="y"), described("b")])
    render_steps([described("a"), described("b", partition="x", account="y")])


def test_a_step_waits_for_earlier_ones_only() -> None:
    with pytest.raises(RenderError, match="a is to wait for b, which is no step before it"):
        render_steps([described("a"), described("b")], {"a": ["b"]})
    with pytest.raises(RenderError, match="two steps would be called a_b"):
        render_steps([described("a-b"), described("a_b")])
    with pytest.raises(RenderError, match="scheduler loadleveler"):
        spec = JobSpec.from_dict({"name": "x", "command": ["true"], "queue": {"scheduler": "slurm"},
                                  "launch": {"launcher": "srun"}})  # fmt: skip
        render_steps([(spec, Path("/r"))])


def test_names_of_steps() -> None:
    assert [step_name(name) for name in ("a-b.c", "4x", "T", "F")] == ["a_b.c", "s4x", "sT", "sF"]
