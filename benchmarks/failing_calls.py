"""Every call of a run's life on its directory fails in turn: how many cases there are, and what is wrong in which.

    python benchmarks/failing_calls.py [SECONDS] [SEED]

Goes through all cases in an order drawn by seed, for so many seconds, and goes on where it stopped: what was tried is
kept in results/failing_calls.json.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from failing_calls import PARTS, cases, make_run, wrong

RESULTS = Path(__file__).parent / "results" / "failing_calls.json"


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    told = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if told.get("seed") != seed:
        told = {"seed": seed, "tried": 0, "wrong": []}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = make_run(folder / "made")
        found = [case for part in PARTS for case in cases(part, made, folder)]
        random.Random(seed).shuffle(found)
        for case in found[told["tried"] :]:
            if time.monotonic() - began > seconds:
                break
            if problem := wrong(case, made, folder):
                told["wrong"].append({**case._asdict(), "problem": problem})
                print(case, problem, flush=True)
            told["tried"] += 1
            told["cases"] = len(found)
            RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    print(f"{told['tried']} of {len(found)} cases, {len(told['wrong'])} wrong")


if __name__ == "__main__":
    main()
