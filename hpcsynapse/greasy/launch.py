"""The launcher `greasy`: one line a node, whose script starts that node's ranks.

`python -m hpcsynapse.job greasy RUN_DIR PROGRAM...` in the job script. The list lies in RUN_DIR/greasy.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hpcsynapse.errors import HpcSynapseError, SpecError
from hpcsynapse.greasy import hosts
from hpcsynapse.greasy.build import RolesRequest, write_roles
from hpcsynapse.greasy.outcomes import as_text
from hpcsynapse.greasy.run import run_list
from hpcsynapse.greasy.tasks import LIST_NAME
from hpcsynapse.greasy.work import RunRequest
from hpcsynapse.runs.directory import RunDirectory
from hpcsynapse.schedulers import create
from hpcsynapse.spec.job import JobSpec
from hpcsynapse.spec.names import LOCKSTEP


def main(arguments: list[str]) -> int:
    """`RUN_DIR PROGRAM...`: build the list of this job's nodes, run it, and return 0 when every rank has ended well."""
    run, program = RunDirectory(Path(arguments[0])), tuple(arguments[1:])
    try:
        spec = run.load_spec()
        local = create(spec.queue.scheduler).one_machine
        names = ["localhost"] * spec.allocated_nodes if local else hosts.assigned_hosts()
        if len(names) != spec.allocated_nodes:
            raise SpecError(f"{spec.allocated_nodes} nodes were asked for, but {len(names)} are assigned")
        folder = run.path / "greasy"
        write_roles(folder, _request(spec, program), names, spec.site.template_dir)
        given = ",".join(names) if local else None
        done = run_list(folder / LIST_NAME, RunRequest(hosts=given, by="local" if local else "auto"), _say)
    except HpcSynapseError as error:
        _say(str(error))
        return 1
    failed = [one for one in done.outcomes if not one.ok]
    if failed:
        print(as_text(failed), end="", file=sys.stderr)
    return done.exit_code


def _request(spec: JobSpec, program: tuple[str, ...]) -> RolesRequest:
    environ = {} if hosts.has_steps() else hosts.carried(os.environ)
    roles: dict[str, Any] = {"ps": 0, "flags": False}
    if spec.served:
        roles = {
            "ps": spec.ps.servers,
            "server_nodes": spec.ps.server_nodes,
            "host_suffix": spec.site.host_suffix,
            "port": int(os.environ["MASTER_PORT"]) + 1,
            "together": LOCKSTEP[spec.train.strategy],
            "restarts": spec.ps.restarts,
        }
    return RolesRequest(
        command=program, workdir=str(Path.cwd()), workers=spec.resources.local_size, ranks=True, env=environ, **roles
    )


def _say(text: str) -> None:
    print(f"hpcsynapse: {text}", file=sys.stderr, flush=True)
