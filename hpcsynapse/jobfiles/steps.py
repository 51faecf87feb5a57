"""Several descriptions as one LoadLeveler job: a step each, which may wait for another; a study needs no array jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcsynapse.errors import RenderError
from hpcsynapse.jobfiles.reader import read
from hpcsynapse.render import render
from hpcsynapse.spec import JobSpec

_QUEUE = "# @ queue\n"


def render_steps(
    runs: Sequence[tuple[JobSpec, Path]], after: Mapping[str, Sequence[str]] | None = None
) -> str:  # fmt: skip
    """Return one LoadLeveler command file with a step for each description and run directory.

    `after` names, for a run, the earlier runs that must have ended well before it starts. Raises RenderError for
    an unknown or later one, and when a step would inherit a keyword of an earlier step that it does not give itself.
    """
    heads, bodies, seen = list[str](), list[str](), dict[str, str]()
    given = set[str]()
    for spec, run_dir in runs:
        head, body = _split(render(spec, run_dir))
        name = step_name(str(spec.name))
        keywords = {directive for step in read(head.encode() + _QUEUE.encode()).steps for directive in step.lines}
        if inherited := given - keywords:
            raise RenderError(
                f"step {name} would inherit {', '.join(sorted(inherited))} of a step before it; give its own"
            )
        given |= keywords
        waits = [_known(other, str(spec.name), seen) for other in (after or {}).get(str(spec.name), ())]
        condition = " && ".join(f"({other} == 0)" for other in waits)
        head += f"# @ step_name = {name}\n" + (f"# @ dependency = {condition}\n" if waits else "")
        heads.append(head.removeprefix("#!/bin/bash\n") + _QUEUE)
        bodies.append(f"{name})\n{body}\n;;\n")
        if name in seen.values():
            raise RenderError(f"two steps would be called {name}")
        seen[str(spec.name)] = name
    return "#!/bin/bash\n" + "".join(heads) + 'case "$LOADL_STEP_NAME" in\n' + "".join(bodies) + "esac\n"


def step_name(name: str) -> str:
    """Return a run's name as LoadLeveler takes it for a step: letters, digits, underscores and dots."""
    text = re.sub(r"[^A-Za-z0-9_.]", "_", name)
    return text if text[0].isalpha() and text not in ("T", "F") else f"s{text}"


def _split(text: str) -> tuple[str, str]:
    head, found, body = text.partition(_QUEUE)
    if not found:
        raise RenderError("a step needs a description for scheduler loadleveler")
    return head, body


def _known(other: str, name: str, seen: Mapping[str, str]) -> str:
    if other not in seen:
        raise RenderError(f"{name} is to wait for {other}, which is no step before it")
    return seen[other]
