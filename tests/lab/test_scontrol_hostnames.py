"""Our reading of node lists against Slurm's own (22.05 prints nothing for a name that goes on behind its bracket)."""

from __future__ import annotations

from typing import Any

import pytest

from hpcsynapse.job.hostlist import expand


@pytest.mark.lab
@pytest.mark.parametrize(
    "text", ["n1", "n[1-3,7],m[03-05]", "r[0-1]n[08-10]", "a,b,c", "gpu[001-003,010]", "n[9-11]", "n[1]-m[3-5]"]
)
def test_node_lists_expand_as_scontrol_says(slurm_lab: Any, text: str) -> None:
    assert expand(text) == slurm_lab.run("scontrol", "show", "hostnames", text).split()
