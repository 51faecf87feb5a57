"""Reads job scripts the way sbatch and bash do, for the tests of what is written into them."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

from hypothesis import strategies as st

from hpcsynapse import fields
from hpcsynapse.spec.job import SECTIONS

STUB = """#!{python}
import os, sys
with open(os.environ["DUMP"], "wb") as file:
    file.write(b"\\0".join(os.fsencode(word) for word in [sys.argv[0].rpartition("/")[2], *sys.argv[1:]]))
with open(os.environ["DUMP"] + ".env", "wb") as file:
    file.write(b"\\0".join(key + b"=" + value for key, value in os.environb.items()))
"""


def directives(script: str) -> list[list[str]]:
    """Return the words of each #SBATCH line, up to the first command, as Slurm splits them (sbatch/opt.c)."""
    found = []
    for line in script.splitlines():
        if line.startswith("#SBATCH"):
            found.append(_words(line[7:]))
        elif line.strip() and not line.startswith("#"):
            break
    return found


def _words(text: str) -> list[str]:
    words: list[str] = []
    current, started, quote, escaped = "", False, "", False
    for character in text:
        if escaped:
            current, escaped = current + character, False
        elif character == "\\" and quote != "'":
            escaped, started = True, True
        elif quote:
            if character == quote:
                quote = ""
            else:
                current += character
        elif character in "\"'":
            quote, started = character, True
        elif character.isspace():
            if started:
                words.append(current)
            current, started = "", False
        elif character == "#":
            break
        else:
            current, started = current + character, True
    assert not quote, f"open quote in {text!r}"
    return [*words, current] if started else words


def execute(script: str, folder: Path, command: str = "srun") -> tuple[list[str], dict[str, str]]:
    """Run a whole job script under bash with a stub for the launcher; return the stub's argv and environment."""
    import sys

    stubs = folder / "stubs"
    stubs.mkdir(parents=True, exist_ok=True)
    for name in (command, "scontrol"):
        text = STUB.format(python=sys.executable) if name == command else "#!/bin/bash\necho node1\n"
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)
    path = folder / "job.sh"
    path.write_text(script)
    dump = folder / "dump"
    dump.unlink(missing_ok=True)
    environ = {
        "PATH": f"{stubs}:{os.environ['PATH']}",
        "DUMP": str(dump),
        "SLURM_JOB_ID": "7",
        "HOME": str(folder),
        "SLURM_JOB_NODELIST": "node1",
    }
    done = subprocess.run(["bash", str(path)], env=environ, capture_output=True, timeout=60, cwd=folder)
    assert dump.exists(), f"{script}\n{done.stdout!r}\n{done.stderr!r}"
    argv = [os.fsdecode(word) for word in dump.read_bytes().split(b"\0")]
    pairs = [item.partition(b"=") for item in Path(f"{dump}.env").read_bytes().split(b"\0")]
    return argv, {os.fsdecode(key): os.fsdecode(value) for key, _, value in pairs}


NASTY = st.one_of(
    st.text(alphabet=" '\"`$(){};&|<>\\#!*?[]~=,%:-@+/aé€漢\u00a0", min_size=1, max_size=30),
    st.text(min_size=1, max_size=30),
    st.sampled_from([
        "$(touch CANARY)", "`touch CANARY`", "; touch CANARY", "a\ntouch CANARY",
        "a\r#SBATCH --x", "'; touch CANARY; '",
        '"; touch CANARY; "', "&& touch CANARY", "-x", "--wrap=touch CANARY", "# comment", "a #b", "\\", "a\\", "%j",
        "${HOME}", "~", "*", "a,b=c", "\u2028touch CANARY", "x" * 5000, "\x00", "\x1b[31m", " lead", "trail ", "'", '"',
    ]),
)  # fmt: skip  # a table
# Text settings of every section, by name; shell code is what a prelude is for, so it is only kept to its line.
TEXTS = [
    (section, item.name)
    for section, cls in SECTIONS.items()
    for item in dataclasses.fields(cls)
    if section != "train"
    and fields.base_type(fields.hints(cls)[item.name]) in (str, tuple[str, ...], dict[str, str])
    and not item.metadata["choices"]
    and item.name not in ("prelude", "time", "max_time", "template_dir")
]
