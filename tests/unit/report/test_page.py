"""The page of a report: complete, accessible, of one piece, and safe against what records say."""

import pytest
from click.testing import CliRunner
from page_check import Page, contrast, faults
from phased_runs import Phased

from hpcsynapse.cli.report import command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a study with a slow rank, as the command writes it."""
    folder = tmp_path_factory.mktemp("page")
    runs = []
    for ranks in (1, 2, 4):
        slow = {(3, "data"): 0.05} if ranks == 4 else {}
        for repeat in range(2):
            run = Phased(ranks=ranks, steps=60, exchange=0.01 * ranks, seed=repeat, slow=slow)
            runs.append(str(run.write(folder / f"r{ranks}-{repeat}")))
    done = CliRunner().invoke(command, [*runs, "--html", str(folder / "page.html")], catch_exceptions=False)
    assert done.exit_code == 0 and done.stdout.startswith(
        "in all rows: strategy allreduce"
    )  # the table is printed all the same
    return (folder / "page.html").read_text()


def test_the_page_is_accessible_and_of_one_piece(page):
    assert faults(page) == []
    assert len(page) < 2_000_000


def test_it_says_all_that_the_report_says(page):
    parsed = Page(page)
    headings = [one["text"] for one in parsed.all("h2")]
    assert headings == [
        "Summary",
        "Table",
        "How it was measured",
        "Plots",
        "Why",
        "Slow ranks",
        "What the columns mean",
    ]
    assert len(parsed.all("svg")) == 2 * 7  # each also for a narrow screen
    assert "as fast on 4 ranks as on 1, efficiency" in parsed.all("main")[0]["text"]
    measured = next(one for one in parsed.all("section") if one["text"].strip().startswith("How it was measured"))
    assert "r4-1" in measured["text"] and "nodes" in measured["text"]
    assert "an interval from two says almost nothing" in parsed.all("main")[0]["text"]
    captions = [one["text"] for one in parsed.all("caption")]
    assert [text for text in captions if "2 ranks after 1 rank (weak scaling)" in text]
    slow = next(one for one in parsed.all("tr") if "node3" in one["text"])
    assert "data" in slow["text"] and "yes" in slow["text"]
    assert any("exchange" in one["text"] for one in parsed.all("desc"))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({'<html lang="en">': "<html>"}, "language"),
        ({"<title>": "<b>", "</title>": "</b>"}, "no title"),
        ({"initial-scale=1": "initial-scale=1, user-scalable=no"}, "zoomed"),
        ({"<h1>": "<h1></h1><h1>"}, "one h1"),
        ({"<h3": "<h4", "</h3>": "</h4>"}, "heading of level 4"),
        ({"<main>": "<div>", "</main>": "</div>"}, "one <main>"),
        ({'<nav aria-label="Contents">': "<nav>"}, "a <nav> has no name"),
        ({"Slow ranks of all runs": "Slow ranks"}, "two landmarks are called 'Slow ranks'"),
        ({'<a href="#plots">': '<a href="#plot">'}, "id plot is referred to"),
        ({'id="summary"': 'id="table"'}, "id table is there more than once"),
        ({"<caption": "<p", "</caption>": "</p>"}, "no caption"),
        ({'scope="col"': ""}, "does not say what it heads"),
        ({'<th scope="row">compute</th>': "<td>compute</td>"}, "a row has no header"),
        ({'role="img"': ""}, "a drawing has no name"),
        ({"<desc id=": "<desc class="}, "not described"),
        ({"<figure>": "<div>", "</figure>": "</div>"}, "in no figure"),
        ({'tabindex="0"': ""}, "keyboard"),
        ({'tabindex="0"': 'tabindex="1"'}, "tabindex changes the order"),
        ({"<ul>": "<div>", "</ul>": "</div>"}, "in no list"),
        ({"</body>": "<script>1</script></body>"}, "<script> is not needed"),
        ({"<main>": '<main onclick="x">'}, "onclick is a script"),
        ({"</main>": '<a href="https://a.org/">x</a></main>'}, "outside of the page"),
        ({"body {": "@import url(x.css); body {"}, "a style is outside"),
        ({"color: #4d5560": "color: #9a9a9a"}, "#9a9a9a on #ffffff cannot be read"),
        ({"</section>\n</main>": "</main>"}, "closes what is not open"),
    ],
)
def test_every_rule_is_one_that_a_page_can_break(page, changes, fault):
    for old, new in changes.items():
        assert old in page
        page = page.replace(old, new)
    assert any(fault in one for one in faults(page))


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the well-known grey that just fails


def test_what_records_say_stays_text(tmp_path):
    hostile = "</table><script>alert(1)</script>\"'&{{ 7*7 }}<!--]]>"
    runs = [
        Phased(ranks=ranks, steps=40, facts={"strategy": hostile, "model": hostile, "host": hostile}).write(
            tmp_path / str(ranks)
        )
        for ranks in (1, 2)
    ]
    target = tmp_path / "page.html"
    done = CliRunner().invoke(command, [*map(str, runs), "--html", str(target)], catch_exceptions=False)
    assert done.exit_code == 0
    text = target.read_text()
    assert faults(text) == []
    assert hostile in Page(text).all("main")[0]["text"]


def test_a_page_without_comparison_says_so(tmp_path):
    run = Phased(ranks=1, steps=40).write(tmp_path / "run")
    CliRunner().invoke(command, [str(run), "--html", str(tmp_path / "p.html")], catch_exceptions=False)
    text = (tmp_path / "p.html").read_text()
    assert faults(text) == []
    assert "nothing to compare it with" in text
    refused = CliRunner().invoke(command, [str(run), "--html", str(tmp_path / "no" / "p.html")])
    assert "--html" in str(refused.exception)
    refused = CliRunner().invoke(command, [str(run), "--html", str(tmp_path / "p.pdf")])
    assert "the page is HTML; call it" in str(refused.exception) and not (tmp_path / "p.pdf").exists()
