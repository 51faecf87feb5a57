"""Lost processes of a run with parameter servers are started again, alone or with their node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcsynapse.greasy.build import RolesRequest, write_roles
from hpcsynapse.greasy.run import ListRun, run_list
from hpcsynapse.greasy.work import RunRequest

pytestmark = pytest.mark.slow

# Notes who started; ends by SIGKILL as often as the file of its name says. Servers stay until told.
PROGRAM = """
me=$HPCSYNAPSE_ROLE-$HPCSYNAPSE_TASK_INDEX
told="rank=${HPCSYNAPSE_TASK_RANK-none} local=${HPCSYNAPSE_TASK_LOCAL_RANK-none}"
echo "$me $told node=${HPCSYNAPSE_TASK_NODE-none}" >> starts
left=$(cat "deaths-$me" 2> /dev/null || echo 0)
if [ "$left" -gt 0 ]; then echo $((left - 1)) > "deaths-$me"; sleep 0.3; kill -9 $$; fi
if [ "$HPCSYNAPSE_ROLE" = ps ]; then sleep 60; fi
sleep 0.6
echo "$me" >> ends
"""


def run(folder: Path, together: str, deaths: dict[str, int], **more: object) -> ListRun:
    (folder / "program.sh").write_text(PROGRAM)
    for name, count in deaths.items():
        (folder / f"deaths-{name}").write_text(str(count))
    settings = {
        "command": ("bash", "program.sh"),
        "workdir": str(folder),
        "workers": 2,
        "ps": 1,
        "ranks": True,
        "flags": False,
        "together": together,
        "restarts": 1,
        "port": 45000,
    }
    request = RolesRequest(**{**settings, **more})  # type: ignore[arg-type]
    write_roles(folder / "greasy", request, ["localhost", "localhost"])
    return run_list(folder / "greasy" / "tasks.greasy", RunRequest(by="local"), lambda _: None)


def words(path: Path) -> list[str]:
    return sorted(line.split()[0] for line in path.read_text().splitlines())


ALL = ["worker-0", "worker-1", "worker-2", "worker-3"]


def test_a_lost_worker_alone_is_started_again(workdir: Path) -> None:
    done = run(workdir, "rank", {"worker-2": 1})
    assert done.exit_code == 0
    assert words(workdir / "starts") == ["ps-0", *ALL[:3], "worker-2", "worker-3"]
    assert words(workdir / "ends") == ALL
    first = next(line for line in (workdir / "starts").read_text().splitlines() if line.startswith("worker-3"))
    assert first == "worker-3 rank=3 local=1 node=1"
    assert "ps-0 rank=none local=none node=none" in (workdir / "starts").read_text()


def test_ranks_of_a_node_are_started_again_together(workdir: Path) -> None:
    done = run(workdir, "node", {"worker-3": 1})
    assert done.exit_code == 0
    assert words(workdir / "starts") == ["ps-0", "worker-0", "worker-1", "worker-2", "worker-2", "worker-3", "worker-3"]
    assert words(workdir / "ends") == ALL


@pytest.mark.parametrize(("together", "ends"), [("rank", ALL[:3]), ("node", ALL[:2])])
def test_what_is_lost_too_often_stays_so_and_disturbs_no_other_node(
    workdir: Path, together: str, ends: list[str]
) -> None:
    done = run(workdir, together, {"worker-3": 2})
    assert done.exit_code == 1
    assert words(workdir / "starts").count("worker-3") == 2
    assert words(workdir / "ends") == ends
    (failed,) = [one for one in done.outcomes if not one.ok]
    assert "worker 3 ended with exit code 137" in failed.reason


def test_a_lost_server_is_started_again(workdir: Path) -> None:
    done = run(workdir, "rank", {"ps-0": 1})
    assert done.exit_code == 0
    assert words(workdir / "starts").count("ps-0") == 2
    assert words(workdir / "ends") == ALL


def test_servers_on_nodes_of_their_own(workdir: Path) -> None:
    done = run(workdir, "rank", {}, server_nodes=1, ps=2)
    assert done.exit_code == 0
    assert words(workdir / "starts") == ["ps-0", "ps-1", "worker-0", "worker-1"]
    script = (workdir / "greasy" / "node_1.sh").read_text()
    assert script.splitlines()[-1] == "node 1 localhost ps:0:none ps:1:none"
    assert not list((workdir / "greasy" / "logs").glob("worker-2*"))
    assert os.access(workdir / "greasy" / "cluster.json", os.R_OK)
