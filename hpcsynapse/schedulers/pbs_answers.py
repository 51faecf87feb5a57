"""What qstat -f prints, in the text form that PBS and Torque share, and what pbsnodes tells of a cluster."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from hpcsynapse.errors import CommandError, SchedulerOutputError
from hpcsynapse.schedulers.base import Ask, JobStatus, QueueState

END = "hpcsynapse: the answer is complete"
_BLOCK = re.compile(r"^Job Id: ([0-9]{1,15}(?:\[[0-9]{0,9}\])?)(?:\.[\w.-]*)?[ \r]*$", re.MULTILINE)
_VALUE = re.compile(r"^ {4}([A-Za-z_][\w.]*) = (.*)$", re.MULTILINE)
# pbs_job_attributes(7B), job_state; Torque's C and PBS's F and X are judged by how the job ended.
_BY_STATE = {
    QueueState.QUEUED: "Q T W H",
    QueueState.RUNNING: "R E B",
    QueueState.SUSPENDED: "S U",
    QueueState.UNKNOWN: "M",
}
_STATES = {native: state for state, natives in _BY_STATE.items() for native in natives.split()}
_ENDED = ("F", "X", "C")
_DELETED = "91"  # substate: terminated by somebody
# Exit codes below zero are PBS's, or Torque's, own.
_KILLED = {-29: "TIMEOUT", -11: "TIMEOUT", -27: "OUT_OF_MEMORY", -10: "OUT_OF_MEMORY"}


def parse(text: str) -> dict[str, JobStatus]:
    """Return the jobs of the blocks; raises SchedulerOutputError where the answer is not whole."""
    body, complete, _ = text.rpartition(END)
    if not complete:
        said = " ".join(text.split())[:200] or "nothing"
        raise SchedulerOutputError(f"qstat's answer is not understood: {said!r}", command=["qstat"], stdout=text)
    parts = _BLOCK.split(re.sub(r"\r?\n\t", "", body))  # long values are folded anywhere, also inside words
    return {
        number: _status(dict(_VALUE.findall(block))) for number, block in zip(parts[1::2], parts[2::2], strict=True)
    }


def _status(values: dict[str, str]) -> JobStatus:
    native, comment = values.get("job_state", "").strip(), values.get("comment", "").strip()
    nodes = "+".join(dict.fromkeys(one.partition("/")[0] for one in values.get("exec_host", "").strip().split("+")))
    if native in _ENDED:
        return _ended(values, comment, nodes)
    state = _STATES.get(native, QueueState.UNKNOWN)
    if native == "H" and not comment:
        comment = "waits for another job" if values.get("depend") else "held"
    return JobStatus(state=state, native_state=native, reason=comment, nodes=nodes)


def _ended(values: dict[str, str], comment: str, nodes: str) -> JobStatus:
    said = (values.get("Exit_status") or values.get("exit_status") or "").strip()
    native, substate = values["job_state"].strip(), values.get("substate", "").strip()
    if substate == _DELETED or (not re.fullmatch(r"-?[0-9]{1,9}", said) and native != "C"):
        return JobStatus(state=QueueState.CANCELLED, native_state="CANCELLED", reason=comment, nodes=nodes)
    if not re.fullmatch(r"-?[0-9]{1,9}", said):
        return JobStatus(state=QueueState.UNKNOWN, native_state=native, reason=comment, nodes=nodes)
    code = int(said)
    if code == 0 and substate != "93":
        return JobStatus(state=QueueState.COMPLETED, native_state=native, nodes=nodes, exit_code=0)
    why = "TIMEOUT" if "exceeded resource walltime" in comment else _KILLED.get(code, "FAILED")
    shell = 128 + code - 256 if code > 256 else code  # 256 and the signal's number
    return JobStatus(state=QueueState.FAILED, native_state=why, reason=comment, nodes=nodes, exit_code=shell)


def describe(ask: Ask, name: str) -> tuple[dict[str, Any], list[str]]:
    """Return the tables of a site file: the nodes that pbsnodes lists; raises CommandError where it does not answer."""
    text = ask(["pbsnodes", "-av", "-F", "json"])
    try:
        nodes = json.loads(text)["nodes"].values()
        kinds = Counter(_node(one["resources_available"]) for one in nodes)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CommandError("pbsnodes is not understood", command=["pbsnodes"], stdout=text) from None
    site: dict[str, Any] = {"name": "PBS", "max_nodes": sum(kinds.values())}
    if kinds:
        (cpus, gpus), _ = kinds.most_common(1)[0]
        site |= {"cpus_per_node": cpus} | ({"gpus_per_node": gpus} if gpus else {})
    said = ["nodes are of several kinds: the commonest are written"] if len(kinds) > 1 else []
    return {"site": site, "queue": {"scheduler": name}}, said


def _node(available: dict[str, Any]) -> tuple[int, int]:
    return int(available["ncpus"]), int(available.get("ngpus", 0))
