"""What `sacctmgr` says of a user's accounts and qualities of service. Source: sacctmgr(1)."""

from __future__ import annotations

import getpass
import re
from contextlib import suppress

from hpcsynapse.errors import CommandError
from hpcsynapse.schedulers.base import Ask

_NAME = re.compile(r"[\w.+@-]+")


def choices(ask: Ask) -> dict[str, list[str]]:
    """Return the accounts and qualities of service of this user, each once; nothing where there is no accounting."""
    where = ("where", f"user={getpass.getuser()}", "format=Account,QOS")
    text = ""
    with suppress(CommandError, OSError, KeyError):  # no accounting; a user id without a name
        text = ask(["sacctmgr", "--noheader", "--parsable2", "--readonly", "show", "associations", *where])
    rows = [line.strip().split("|") for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 2 and _NAME.fullmatch(row[0])]
    qos = (name for _, names in rows for name in names.split(",") if _NAME.fullmatch(name))
    found = {"account": [name for name, _ in rows], "qos": list(qos)}
    return {key: list(dict.fromkeys(names)) for key, names in found.items() if names}
