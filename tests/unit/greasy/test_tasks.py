"""Lists are written and read back alike; what Greasy would take otherwise is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from greasy_cases import NASTY, Greasy
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcsynapse.errors import SpecError
from hpcsynapse.greasy.check import check_text
from hpcsynapse.greasy.grammar import Reading, greasy_reads
from hpcsynapse.greasy.tasks import Task, TaskList, format_dependencies, format_task, parse


@st.composite
def lists(draw: st.DrawFn) -> TaskList:
    tasks: list[Task] = []
    comments: list[tuple[int, str]] = []
    line = 0
    for _ in range(draw(st.integers(0, 12))):
        line += draw(st.integers(1, 3))  # some lines stay blank
        if draw(st.booleans()) or not tasks:
            command, folder = draw(NASTY), draw(st.none() | NASTY)
            numbers = st.sampled_from([task.line for task in tasks]) if tasks else st.nothing()
            after = tuple(sorted(draw(st.sets(numbers, max_size=5)))) if tasks else ()
            tasks.append(Task(line, command, after, folder))
        else:
            comments.append((line, draw(st.text("abc #[]@", max_size=9)).strip()))
    return TaskList(tuple(tasks), tuple(comments))


@pytest.mark.slow
@settings(max_examples=200)
@given(lists())
def test_what_is_written_is_read_back(tasks: TaskList) -> None:
    try:
        text = tasks.text()
    except SpecError as error:
        assert "line " in str(error)
        return
    found, problems = parse(text)
    assert problems == []
    assert found == tasks
    assert found.text() == text


@pytest.mark.parametrize(
    ("after", "text"),
    [
        ((1,), "1"),
        ((1, 2), "1, 2"),
        ((1, 2, 3), "1-3"),
        ((7, 1, 2, 3, 5), "1-3, 5, 7"),
        ((), ""),
        (tuple(range(1, 1000)), "1-999"),
    ],
)
def test_dependencies_are_short(after: tuple[int, ...], text: str) -> None:
    assert format_dependencies(after) == text


def test_every_form_of_a_line_is_read() -> None:
    text = "# head\n\n  echo one\n[# 3 #] two\n[@ /a b @] [# -1, 3 #] three\n\t[#3 - 5#][@/x@]four\n[# #] five\n"
    found, problems = parse(text)
    assert problems == []
    assert found.tasks == (
        Task(3, "echo one"),
        Task(4, "two", (3,)),
        Task(5, "three", (3, 4), "/a b"),
        Task(6, "four", (3, 4, 5), "/x"),
        Task(7, "five"),
    )
    assert found.comments == ((1, "head"),)


@pytest.mark.parametrize(
    "command", ["", " a", "a ", "#a", "[# 1 #] a", "a@b @] c", "a\nb", "a\\", "a\0", "a" * 131_072]
)
def test_a_command_that_a_list_cannot_hold_is_refused(command: str) -> None:
    with pytest.raises(SpecError, match="line 1"):
        format_task(Task(1, command))


# (list, line, part of the message) for what crashes Greasy, is dropped by it, cut, or not waited for.
STRUCTURE = [
    ("a\n[# 2 #] b", 2, "itself, which crashes Greasy"),
    ("a\n[# 1-3 #] b", 2, "itself, which crashes Greasy"),
    ("a\n[# -2 #] b", 2, "before line 1, which crashes Greasy"),
    ("a\n[# -5 #] b", 2, "before line 1, which crashes Greasy"),
    ("a\nb\n[# 1,,2 #] c", 3, "empty dependency"),
    ("a\n[# 1, #] c", 2, "empty dependency"),
    ("a\n[# 0 #] c", 2, "neither n nor -n nor a-b"),
    ("a\n[# x #] c", 2, "neither n nor -n nor a-b"),
    ("a\n[# 1 2 #] c", 2, "neither n nor -n nor a-b"),
    ("[# 2 #] a\nb", 1, "lies ahead"),
    ("# c\n[# 1 #] b", 2, "no task"),
    ("a\n\n[# -1 #] b", 3, "no task"),
    ("[@ /a @] echo @] x", 1, "contains '@]'"),
    ("a\n[# 1 #] echo [1#]", 2, "contains '#]'"),
    ("[# 1 b", 1, "not closed"),
    ("[@ /x b", 1, "not closed"),
    ("[@ /x @]", 1, "no command"),
    ("[@ @] b", 1, "working directory is empty"),
    ("[@ /a b @] c", 1, "without quotes"),
    ("a\r\nb", 1, "carriage return"),
    ("a \\\nb", 1, "continuation"),
    ("", 1, "no task in the list"),
    ("# a\n\n", 1, "no task in the list"),
    ("echo 'a", 1, "a quote is not closed"),
    ("sleep infinity", 1, "never ends"),
    ("tail -n 3 -f log", 1, "never ends"),
    ("python t.py --job_name=ps --task_index=0", 1, "parameter server alone never ends"),
    ("bash a.sh &", 1, "ends at once"),
    ("[[ -f a ]] && b", 1, "arrays are not known"),
    ("x=(1 2); echo ${x[0]}", 1, "arrays are not known"),
    ("[# 1 #]", 1, "crashes"),
    ("a\n[#\t1 #] b", 2, "a tab (U+0009) among the dependencies: Greasy leaves the task out"),
    ("a\n[# 1,\u00a01 #] b", 2, "a no-break space (U+00A0) among the dependencies"),
    ("a\n\r\nb", 2, "carriage return"),
    (" \r\nb", 1, "carriage return"),
    ("\ufeffbash a.sh", 1, "a byte order mark (U+FEFF) at the begin of the line would become part of the command"),
    ("\ufeff# a comment\nbash a.sh", 1, "a byte order mark"),
    ("\u00a0# a comment\nbash a.sh", 1, "a no-break space (U+00A0) at the begin"),
    ("bash\u00a0a.sh", 1, "a no-break space (U+00A0) is no blank for the shell"),
    ("bash a.sh\0 b", 1, "a NUL byte, at which Greasy cuts the line"),
    ("echo " + "x" * 131_067, 1, "longer than the 131071 bytes"),
    ("a\n[# 1 #] # a comment", 2, "only a comment"),
    ("[@ /a @] # a comment", 1, "only a comment"),
    ("me@host: a @] b", 1, "contains '@]'"),
    ("echo ${a[@]} ${b[@]}", 1, "contains '@]'"),
    ("echo a [@ /tmp @] b", 1, "contains '@]'"),
]


@pytest.mark.parametrize("engine", ["basic-srun", "basic-ssh", "mpi", "any"])
@pytest.mark.parametrize(("text", "line", "message"), STRUCTURE)
def test_what_is_wrong_under_every_engine(text: str, line: int, message: str, engine: str) -> None:
    errors = [one for one in check_text(text, engine) if one.level == "error"]
    assert any(one.line == line and message in one.message for one in errors), errors


ENGINE = [
    ("VAR=x python a.py", {"basic-srun"}),
    ("a & b", {"basic-srun"}),
    ("a && b", {"basic-srun"}),
    ("a | b", {"basic-srun"}),
    ("a; b", {"basic-srun"}),
    ("cd /x", {"basic-srun"}),
    ("if true", {"basic-srun"}),
    ('echo "a b"', {"basic-ssh"}),
    ("echo `hostname`", {"basic-srun", "basic-ssh"}),
    ('bash a.sh "$(uname -n)"', {"basic-srun", "basic-ssh"}),
    ("bash a.sh $(cat list)", {"basic-ssh"}),
    ("bash a.sh $SLURM_PROCID", {"basic-srun"}),
    ('bash a.sh --device "${CUDA_VISIBLE_DEVICES}"', {"basic-srun", "basic-ssh"}),
    ("bash -c 'echo $SLURM_PROCID $LOCAL'", set()),
    ("exit 3", {"basic-srun"}),
    ("wait", {"basic-srun"}),
    ("read line", {"basic-srun"}),
    ("module load cuda && ./a.out", {"basic-srun"}),
    ("ulimit -c 0; ./a.out", {"basic-srun"}),
    ("pwd", {"mpi"}),
    ("a b", {"mpi"}),
    ("é1", {"mpi"}),
    ("[@ /a @] pwd", set()),
    ("echo a;", set()),
    ("bash -c 'echo ${a[@]}'", set()),
    ("echo a @] b", set()),
    ("echo '[# 1 #]'", set()),
]


@pytest.mark.parametrize(("text", "engines"), ENGINE)
def test_what_is_wrong_under_some_engines(text: str, engines: set[str]) -> None:
    for engine in ("basic-srun", "basic-ssh", "mpi"):
        assert any(one.level == "error" for one in check_text(text, engine)) == (engine in engines), engine
    assert any(one.level == "error" for one in check_text(text, "any")) == bool(engines)


@pytest.mark.parametrize(
    "text",
    [
        "bash /a/node_0.sh",
        "bash '/a b/node_0.sh'",
        "python train.py --lr 0.1 > log 2>&1",
        "bash -c 'a & b; [[ 1 ]]'",
        "env A=1 python x.py",
        "echo 'a;b' \\; c",
        "a\n[# 1 #] b\n[# 1, -1 #] c\n\n# d\n[# 1-3 #] e",
        "python t.py --job_name=worker",
        "[@ /x/y @] a",
        "python a.py --name=yes-man --tail -x",
        "a # it's; a & comment",
        "[ -f a ]",
    ],
)
def test_what_is_right(text: str) -> None:
    assert check_text(text, "any") == []


# What Greasy 2.2.3 itself took from these lines (LogLevel 5: "with command: ..."), None where it dropped them.
GREASY_TOOK = {
    "echo x [@ /tmp @] y; pwd": ("echo x  y; pwd", "/tmp", None),
    "[@ /tmp @][# 1 #] pwd": ("pwd", "/tmp", "1"),
    "[# 1 #] [@ /usr @] pwd": ("pwd", "/usr", "1"),
    "echo a@b@] c": ("echo a@b@] c", "b", None),
    "[# 1 #][@/usr@] echo z #]": None,
    "\u00a0# odd comment": ("\u00a0# odd comment", None, None),
    " \r": ("\r", None, None),
    "[# 1#] echo tight": ("echo tight", None, "1"),
    "[##] echo none": ("echo none", None, ""),
    "[# #] [# 2 #] echo two": None,
    "[#\t1 #] echo tab": None,
    "x[# 1 #] y": ("x[# 1 #] y", None, None),
}


@pytest.mark.parametrize("line", GREASY_TOOK)
def test_a_line_is_read_as_greasy_reads_it(line: str) -> None:
    took = GREASY_TOOK[line]
    assert greasy_reads(line) == (None if took is None else Reading(*took))


def test_variables_under_ssh_are_a_warning() -> None:
    assert [one.level for one in check_text("echo $HOME", "basic-ssh")] == ["warning"]
    assert check_text("echo $HOME", "basic-srun") == []


def test_node_scripts_start_on_their_own_nodes_only_as_the_first_tasks() -> None:
    scripts = "bash /a/node_0.sh\nbash /a/node_1.sh\n"
    assert check_text(scripts, workers=2) == []
    assert check_text(scripts + "echo later\n", workers=2) == []
    assert "2, but 1 workers" in check_text(scripts, workers=1)[0].message
    assert "takes the place" in check_text("echo first\n" + scripts, workers=9)[0].message
    assert "must not wait" in check_text("bash /a/node_0.sh\n[# 1 #] bash /a/node_1.sh\n")[0].message


def test_the_command_line(greasy: Greasy, workdir: Path) -> None:
    (workdir / "good").write_text("a\n[# 1 #] b\n")
    (workdir / "bad").write_text("a\n[# 2 #] b\nVAR=x c\n")
    done = greasy("check", "good")
    assert (done.returncode, done.stdout) == (0, "good: nothing to object to\n")
    done = greasy("check", "bad", "--engine", "mpi")
    assert done.returncode == 2
    assert done.stdout == "bad: line 2: error: dependency 2 names the task itself, which crashes Greasy\n"
    assert "bad: line 3: error: srun takes" in greasy("check", "bad").stdout
    assert '"line": 2' in greasy("check", "bad", "--json").stdout
    done = greasy("check", "none")
    assert (done.returncode, done.stderr) == (2, "hpcsynapse: none: No such file or directory\n")
