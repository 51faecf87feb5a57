"""Progress bars in a terminal of their own: what is seen meanwhile, what is left of it, and where there is none."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

pytest.importorskip("rich")
SLOWLY = """
import sys, time
from hpcsynapse.cli import bars
bars.PATIENCE, bars._EVERY, bars._REDRAW = {patience}, 0.0, 0.0
with bars.working("sending r") as tell:
    for done in range(5):
        tell(done, 4)
print("rich" in sys.modules)
"""
WITHOUT_RICH = "import sys; sys.modules['rich'] = None\n"


def in_terminal(code: str, columns: int = 80, seen: tuple[str, Path] | None = None, **environ: str) -> str:
    """What a terminal of so many columns, which is both outputs of a program, is sent.

    A file is made as soon as what a pattern describes has been seen.
    """
    leader, follower = pty.openpty()
    env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **environ}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=follower, stderr=follower, env=env)
    os.close(follower)
    sent = bytearray()

    def read() -> None:
        while True:
            try:
                more = os.read(leader, 65536)
            except OSError:  # nobody has the other end any more
                return
            if not more:
                return
            sent.extend(more)
            if seen and re.search(seen[0], visible(sent.decode(errors="replace"))):
                seen[1].touch()

    reader = threading.Thread(target=read)
    reader.start()
    assert child.wait(timeout=120) == 0, sent.decode()
    reader.join(60)
    os.close(leader)
    return sent.decode()


def piped(code: str, seen: tuple[str, Path] | None = None) -> tuple[str, str]:
    """What a program writes into a pipe and as errors; a file is made as soon as a pattern matched a line."""
    with tempfile.TemporaryFile("w+") as errors:
        command = ["timeout", "120", sys.executable, "-u", "-c", code]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
            lines = []
            for line in child.stdout:
                lines.append(line)
                if seen and re.search(seen[0], line):
                    seen[1].touch()
        errors.seek(0)
        said = errors.read()
        assert child.returncode == 0, said
        return "".join(lines), said


def visible(sent: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent)


def test_a_bar_is_drawn_and_nothing_of_it_is_left() -> None:
    sent = in_terminal(SLOWLY.format(patience=0))
    assert "sending r" in sent and "━" in sent and "4/4" in sent
    last = sent.splitlines()[-1]
    assert visible(last).strip() == "True"  # what is printed afterwards, on a line that was erased
    assert "\x1b[2K" in sent and sent.count("\x1b[?25l") == sent.count("\x1b[?25h")


def test_no_colour_where_none_is_wanted() -> None:
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-9;]*m")
    assert coloured.search(in_terminal(SLOWLY.format(patience=0)))
    sent = in_terminal(SLOWLY.format(patience=0), NO_COLOR="1")
    assert "━" in sent and not coloured.search(sent)


def test_a_narrow_terminal_has_one_line() -> None:
    shown = """
from hpcsynapse.cli.bars import Bar
bar = Bar(to_stderr=True)
bar.show(0.5, ["TRAINING", "50%", "2:38 min left", "[red]loss[/red] 0.3", "x" * 200])
bar.clear()
"""
    sent = in_terminal(shown, columns=60)
    (line,) = {line.rstrip() for line in map(visible, re.split(r"[\r\n]", sent)) if "TRAINING" in line}
    assert len(line) <= 60 and "50%" in line
    assert "[red]loss" in visible(in_terminal(shown, columns=120))  # what comes from outside is no markup


def test_work_that_is_quick_shows_nothing_and_loads_nothing() -> None:
    assert visible(in_terminal(SLOWLY.format(patience=60))).split() == ["False"]


def test_where_there_is_no_terminal_lines_are_printed() -> None:
    out, err = piped(SLOWLY.format(patience=0))
    assert out == "False\n"
    assert err.splitlines() == [f"sending r  {done}/4" for done in range(5)]
    assert visible(in_terminal(SLOWLY.format(patience=0), TERM="dumb")).splitlines()[-1] == "False"


def test_without_rich_a_line_is_redrawn() -> None:
    sent = in_terminal(WITHOUT_RICH + SLOWLY.format(patience=0))
    assert "\r\x1b[Ksending r  3/4" in sent and sent.endswith("\r\x1b[KTrue\r\n")


def test_a_report_that_reads_long_says_what_it_reads(tmp_path, monkeypatch) -> None:
    code = f"""
from pathlib import Path
from hpcsynapse.cli import bars
from hpcsynapse.cli.main import main
from hpcsynapse.timing import StepRecorder
bars.PATIENCE = bars._REDRAW = 0.0
for rank in range(3):
    with StepRecorder({str(tmp_path)!r}, rank=rank, world_size=3) as recorder:
        for step in range(50):
            recorder.write(step, 0, 1e9 + step, 0, 0, 0, 0, 0, 1.0, 8, 0.5)
main(["report", {str(tmp_path)!r}])
"""
    sent = visible(in_terminal(code, columns=200))
    assert re.search(r"reading .*run 1  \S+  2/3 ranks", sent)
    assert "reading" not in sent.splitlines()[-1]
    assert "reading" not in "".join(piped(code))
    _, err = piped(code.replace("bars._REDRAW = ", "bars._REDRAW = bars._EVERY = "))
    assert re.search(r"^reading  run 1  \S+  2/3 ranks$", err, re.MULTILINE)


def test_following_a_run_shows_a_bar_and_ends_with_a_line(tmp_path) -> None:
    program = """
import os, sys, time
from hpcsynapse import StepRecorder
from hpcsynapse.files import write_json
from hpcsynapse.runs.directory import RunDirectory
from pathlib import Path
run = RunDirectory(Path(os.environ["HPCSYNAPSE_RUN_DIR"]))
limit = time.monotonic() + 100
while not Path(sys.argv[1]).exists() and time.monotonic() < limit:
    write_json(run.status, {"state": "TRAINING", "step": 2, "steps": 8, "attempt": os.environ["HPCSYNAPSE_ATTEMPT"]})
    time.sleep(0.1)
"""
    (tmp_path / "own.py").write_text(program)
    arguments = ["submit", "--follow", "--scheduler", "local", "--name", "r", "--runs", str(tmp_path / "runs")]
    arguments += [
        "--record",
        "off",
        "--no-sample",
        "--",
        sys.executable,
        str(tmp_path / "own.py"),
        str(tmp_path / "seen"),
    ]
    code = f"from hpcsynapse.cli.main import main\nmain({arguments!r})"
    bar = r"TRAINING +[━╺╸]+ +25%"
    sent = in_terminal(code, columns=120, seen=(bar, tmp_path / "seen"))
    assert "━" in sent and re.search(bar, visible(sent))
    assert re.search(r"^\r?\x1b?\S*FINISHED", visible(sent), re.MULTILINE)
    again = code.replace("'r'", "'again'").replace("/seen'", "/told'")
    out, err = piped(again, seen=("^TRAINING .*%", tmp_path / "told"))
    assert "━" not in out + err and "\x1b" not in out + err and re.search("^TRAINING .*%", out, re.MULTILINE)
