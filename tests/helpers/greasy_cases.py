"""Texts that try to break out of their place, and what the command line answers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

FAKE_GREASY = Path(__file__).parents[1] / "fakes" / "greasy"
NASTY = st.one_of(
    st.text(alphabet=" '\"`$(){};&|<>\\#!*?[]~=,%:-@+/aé€漢\u00a0", min_size=1, max_size=30),
    st.sampled_from([
        "$(touch CANARY)", "`touch CANARY`", "; touch CANARY", "'; touch CANARY; '", '"; touch CANARY; "',
        "&& touch CANARY", "-x", "# comment", "a #b", "\\", "a\\", "${HOME}", "~", "*", "a,b=c", "{lr}", " lead",
        "trail ", "'", '"', "@]", "#]", "[# 1 #]", "[@ /tmp @]", "%s%n", "!!", "\x80", "a\nb", "\x00", "\u2028x",
    ]),
)  # fmt: skip  # a table
Greasy = Callable[..., "subprocess.CompletedProcess[str]"]


def tasks(done: subprocess.CompletedProcess[str]) -> dict[int, Any]:
    """What `run --json` says of every line."""
    return {one["line"]: one for one in json.loads(done.stdout)["tasks"]}
