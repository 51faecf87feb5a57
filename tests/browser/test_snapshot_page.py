"""The page as one file, opened from a disk: the same views, and not one request."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, expect
from waiting import wait_until
from web_runs import LiveRun, measured_run

from hpcsynapse.serve import renewal, snapshot
from hpcsynapse.serve.index import RunIndex


@pytest.mark.parametrize(("name", "options"), [("eight", []), ("eight", ["--anonymous"]), ("scaling", [])], ids=str)
def test_it_opens_from_a_disk_without_a_request(
    browser: Browser, runs: Path, tmp_path: Path, name: str, options: list[str]
) -> None:
    page_file = tmp_path / "page.html"
    command = [sys.executable, "-m", "hpcsynapse", "snapshot", name, "--runs", str(runs), "-o", str(page_file)]
    subprocess.run([*command, *options], check=True, timeout=120)
    context = browser.new_context(offline=True)
    page, problems, asked = context.new_page(), list[str](), list[str]()
    page.on("console", lambda told: problems.append(told.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    if name == "eight":
        expect(page.get_by_role("img", name=re.compile("Training loss"))).to_be_visible()
        expect(page.get_by_text("1 slow rank:")).to_be_visible()
        expect(page.get_by_role("heading", name="Logs")).to_be_visible(visible=not options)
    else:
        expect(page.get_by_role("table", name=re.compile("Speedup and efficiency"))).to_be_visible()
        page.get_by_role("link", name="of-2", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("scaling/of-2")
        expect(page.get_by_role("img", name=re.compile("Training loss"))).to_be_visible()
    expect(page.get_by_text("nothing here changes")).to_be_visible()
    context.close()
    assert problems == [] and [one for one in asked if not one.startswith("data:")] == [page_file.as_uri()]


def test_a_followed_page_on_a_disk_changes_with_its_run(browser: Browser, tmp_path: Path) -> None:
    live, page_file = LiveRun(tmp_path / "runs", "live", step=100, steps=400), tmp_path / "a 'page' #1.html"
    index = RunIndex(tmp_path / "runs")
    context = browser.new_context(offline=True)
    page, problems, asked = context.new_page(), list[str](), set[str]()
    page.on("console", lambda told: problems.append(told.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.add(unquote(request.url.partition("?")[0])))
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(renewal.follow, page_file, index, "live", partial(snapshot.of_run, index, "live"), 0.2)
        try:
            wait_until(page_file.exists, 60, "the page is there")
            page.goto(page_file.as_uri())
            expect(page.get_by_text("renewed while hpcsynapse snapshot --follow goes on")).to_be_visible()
            expect(page.get_by_text("100 of 400")).to_be_visible()
            live.tell(step=300)
            live.run.rank_log(0).write_text("what is new\n")
            expect(page.get_by_text("300 of 400")).to_be_visible()
            expect(page.get_by_role("region", name="Log", exact=True)).to_have_text("what is new\n")
            script = "Object.assign(document.createElement('script'), {text: 'window.no = 1'})"
            page.evaluate(f"document.head.append({script})")
            assert page.evaluate("window.no") is None
            assert len(problems) == 1 and "Content Security Policy" in problems.pop()
        finally:
            live.end()
        done.result(timeout=60)
    expect(page.get_by_text("FINISHED", exact=False).first).to_be_visible()
    expect(page.get_by_text("nothing here changes")).to_be_visible()
    renewal.beside(page_file).unlink()
    page.reload()  # with all data inside, it needs no file any more
    expect(page.get_by_text("nothing here changes")).to_be_visible()
    context.close()
    assert problems == []
    assert {one for one in asked if not one.startswith("data:")} == {
        f"file://{page_file}",
        f"file://{renewal.beside(page_file)}",
    }


def test_a_followed_page_without_its_data_file_says_so(browser: Browser, tmp_path: Path) -> None:
    measured_run(tmp_path / "runs", "eight", ranks=8)
    index, alone = RunIndex(tmp_path / "runs"), tmp_path / "alone.html"
    index.refresh(whole=True)
    beside = snapshot.Beside("alone.data.js", "secret-of-this-page", 0.2)
    alone.write_text(snapshot.to_html(snapshot.of_run(index, "eight"), beside))
    page = browser.new_page()
    page.goto(alone.as_uri())
    expect(page.get_by_role("alert").filter(has_text="alone.data.js is not beside this page")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Training loss"))).to_be_visible()
    renewal.beside(alone).write_text(renewal._script(snapshot.of_run(index, "eight")))
    expect(page.get_by_role("alert").filter(has_text="alone.data.js")).to_be_hidden()
    page.close()
