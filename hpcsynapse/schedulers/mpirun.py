"""Processes on the nodes of a job through Open MPI's mpirun, where a queue has no job steps (mpirun(1))."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

_HERE = ("--bind-to", "none", "--oversubscribe")


def environment(environ: Mapping[str, str], grace: float) -> dict[str, str]:
    """Return the environment of mpirun: one process that fails ends no other, told to end they have a grace in seconds.

    Releases since 5 have the same parameters under another name.
    """
    parameters = {"odls_base_sigkill_timeout": str(int(grace)), "orte_abort_on_non_zero_status": "0"}
    own = {f"OMPI_MCA_{name}": value for name, value in parameters.items()}
    return {
        **environ,
        **own,
        **{f"PRTE_MCA_{name.replace('orte', 'prte')}": own[f"OMPI_MCA_{name}"] for name in parameters},
    }


def one_task(host: str, program: Sequence[str], variables: Iterable[str]) -> list[str]:
    """Return the argv of one process on a host, which gets these variables of the environment."""
    named = [word for name in variables for word in ("-x", name)]
    return ["mpirun", "-np", "1", "--host", host, *_HERE, *named, *program]


def one_program_each(hosts: Sequence[str], programs: Sequence[Sequence[str]]) -> list[str]:
    """Return the argv that starts the i-th program on the i-th host, all at once."""
    words = ["mpirun"]
    for host, program in zip(hosts, programs, strict=True):
        words += [*([":"] if words[1:] else []), "-np", "1", "--host", host, *_HERE, *program]
    return words
