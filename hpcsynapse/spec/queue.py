"""Which queue takes the job, and what it is told beside the resources."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpcsynapse import fields
from hpcsynapse.errors import SpecError
from hpcsynapse.fields import setting, word
from hpcsynapse.spec.names import SCHEDULERS

_SIGNAL = re.compile(r"([BR]{1,2}:)?(SIG)?[A-Z0-9]+(@\d{1,5})?")
_MAIL = re.compile(r"[A-Za-z0-9._%+@-]+")
# An option of sbatch, or a keyword and its value as LoadLeveler and BSC's dialect write them.
_DIRECTIVE = re.compile(r"-(-[a-z][a-z0-9-]*(=.*)?|[A-Za-z]\w*( .*)?)|[A-Za-z][A-Za-z0-9_.]* = \S.*")
# Hosts as Slurm abbreviates them (sbatch(1), --exclude); a slash would make it the name of a file.
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9._-]|\[[0-9][0-9,-]*\])*"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
# A machine of a list, and how many ranks or GPUs it has; never what ssh would read as an option.
MACHINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,254})(?::([1-9][0-9]{0,3}))?")
_BRACKETS = re.compile(r"\[[^]]*\]")
_RANGE = re.compile(r"([0-9]+)-([0-9]+)")


def _check_signal(name: str, value: str) -> None:
    if not _SIGNAL.fullmatch(value):
        raise SpecError(f"{name}: {value!r} is not a signal; write for example USR1@120 or B:TERM@60")


def _check_mail(name: str, value: str) -> None:
    if not _MAIL.fullmatch(value) or value.startswith("-"):
        raise SpecError(f"{name}: {value!r} is not a mail address")


def _check_directive(name: str, value: str) -> None:
    if not _DIRECTIVE.fullmatch(value) or "#" in value:
        raise SpecError(
            f"{name}: {value!r} is not one directive; write for example --hint=nomultithread, "
            "for a queue with keywords 'rset = rset_mcm_affinity'"
        )


def _check_comment(name: str, value: str) -> None:
    if len(value.encode()) > 1000:  # slurmctld refuses more than 1024 bytes
        raise SpecError(f"{name}: {len(value.encode())} bytes are too many for a queue's comment; at most 1000")


def _check_machine(name: str, value: str) -> None:
    if not MACHINE.fullmatch(value):
        raise SpecError(f"{name}: {value!r} is no machine; write for example node1 or node1:4 with its number of GPUs")


def _check_hosts(name: str, value: str) -> None:
    if not _HOSTS.fullmatch(value) or len(value) > 1000:
        raise SpecError(f"{name}: {value!r} is not a list of hosts; write for example node07 or node[1-3,5]")
    for first, last in _RANGE.findall("".join(_BRACKETS.findall(value))):
        if int(first) > int(last):
            raise SpecError(f"{name}: {value!r}: the range {first}-{last} is reversed")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """Which queue takes the job, and what it is told beside the resources."""

    scheduler: str = setting("auto", "queue system", choices=SCHEDULERS)
    partition: str | None = setting(None, "partition, elsewhere called class", check=word)
    account: str | None = setting(None, "account that is charged", check=word)
    qos: str | None = setting(None, "quality of service", check=word)
    constraint: str | None = setting(None, "node features asked for", check=word)
    reservation: str | None = setting(None, "reservation", check=word)
    mail_user: str | None = setting(None, "mail address for notices", check=_check_mail)
    mail_type: str | None = setting(None, "events that send mail [END,FAIL with --mail-user]", check=word)
    comment: str | None = setting(None, "comment kept by the queue", check=_check_comment)
    signal: str | None = setting(
        None, "signal before the time limit, e.g. USR1@120: finish the step and save", check=_check_signal
    )
    requeue: bool | None = setting(None, "let the queue start the job again after a node failure")
    exclude: tuple[str, ...] = setting((), "host not to use, also node[1-3] (repeatable)", check=_check_hosts)
    exclude_failed: bool = setting(
        False, "when the run is queued again, leave out hosts that its earlier starts failed on twice"
    )
    dependency: str | None = setting(None, "start after other jobs, e.g. afterok:123", check=word)
    hint: str | None = setting(None, "binding hint, e.g. nomultithread", check=word)
    hosts: tuple[str, ...] = setting(
        (),
        "machine reached by ssh, for scheduler hosts; NAME:N has N slots (repeatable)",
        option="host",
        check=_check_machine,
    )
    hosts_file: str | None = setting(None, "file with such machines, one a line: NAME, NAME:N or NAME slots=N")
    extra_directives: tuple[str, ...] = setting(
        (), "further directive for the queue (repeatable)", check=_check_directive, option="directive"
    )

    def __post_init__(self) -> None:
        fields.validate("queue", self)
        if self.mail_type and not self.mail_user:
            raise SpecError(f"queue.mail_type = {self.mail_type!r} but queue.mail_user is not given")
