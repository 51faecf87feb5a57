"""The pages as people use them: what is shown, by mouse and keyboard, while runs go on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from browsing import opened
from playwright.sync_api import expect
from web_runs import make_run

from hpcsynapse.runs.directory import RunDirectory


def test_the_token_becomes_a_cookie_and_leaves_the_address(open_page: Any) -> None:
    page = open_page("#/runs")
    assert "token" not in page.url
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    assert page.evaluate("document.cookie") == ""
    page.go_back()
    assert "token" not in page.url


def test_without_a_token_the_page_says_what_to_open(open_page: Any) -> None:
    page = open_page("#/runs", token=False)
    expect(
        page.get_by_role("alert").filter(has_text="open the address that hpcsynapse serve has printed")
    ).to_be_visible()
    open_page.problems = [text for text in open_page.problems if "401" not in text]


def test_the_list_has_all_runs_with_state_and_reason(open_page: Any) -> None:
    page = open_page()
    expect(page.get_by_role("status")).to_contain_text("7 runs")
    row = page.get_by_role("row").filter(has_text="broken")
    expect(row).to_contain_text("FAILED")
    expect(row).to_contain_text("ValueError: the data are not there")


def test_search_finds_words_in_any_order_and_the_address_keeps_them(open_page: Any) -> None:
    page = open_page()
    page.get_by_label("Search").fill("failed bro")
    expect(page.get_by_role("status")).to_contain_text("1 of 7 runs")
    again = page.url
    assert "q=failed+bro" in again
    page.goto("about:blank")
    page.goto(again)
    expect(page.get_by_label("Search")).to_have_value("failed bro")
    expect(page.get_by_role("status")).to_contain_text("1 of 7 runs")


def test_a_filter_shows_one_kind_of_state(open_page: Any) -> None:
    page = open_page()
    page.get_by_label("Failed").check()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Finished").check()
    expect(page.locator("tbody tr")).to_have_count(6)


def test_headings_sort_up_down_and_not(open_page: Any) -> None:
    page = open_page()
    names = lambda: page.locator("tbody th a").all_inner_texts()  # noqa: E731
    before = names()
    page.get_by_role("button", name="Run", exact=True).click()
    assert names() == sorted(before)
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Run")
    page.get_by_role("button", name="Run", exact=True).click()
    assert names() == sorted(before, reverse=True)
    page.get_by_role("button", name="Run", exact=True).click()
    assert names() == before


def test_the_keyboard_alone_opens_a_run_and_comes_back(open_page: Any) -> None:
    page = open_page()
    expect(page.locator("tbody tr")).to_have_count(7)
    page.keyboard.press("/")
    page.keyboard.type("eight")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == "eight"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("eight")
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
    page.keyboard.press("?")
    expect(page.get_by_role("heading", level=1)).to_have_text("Help")


def test_a_run_shows_state_numbers_curves_and_their_tables(open_page: Any) -> None:
    page = open_page("#/run?name=eight")
    expect(page.get_by_role("status")).to_contain_text("FINISHED")
    expect(page.get_by_role("img", name=re.compile("Training loss: .*lowest"))).to_be_visible()
    page.get_by_text("Training loss as a table").click()
    expect(page.get_by_role("table", name=re.compile("Training loss"))).to_contain_text("step")
    for title in ("Validation: accuracy", "Step time of rank 0"):
        expect(page.get_by_role("img", name=re.compile(title))).to_be_visible()
    assert page.title() == "eight · Run · hpcsynapse"


def test_the_slow_rank_is_named_and_seen(open_page: Any) -> None:
    page = open_page("#/run?name=eight")
    expect(page.get_by_text("1 slow rank:")).to_be_visible()
    expect(page.locator("li").filter(has_text="rank 5 on")).to_contain_text("mostly in forward")
    expect(page.locator("canvas")).to_have_attribute("aria-label", re.compile("rank 5 on .* needs the longest"))
    page.get_by_label("Picture of").select_option("data")
    expect(page.get_by_text("Every rank: wait for data", exact=True)).to_be_visible()


def test_the_picture_of_ranks_is_drawn(open_page: Any) -> None:
    page = open_page("#/run?name=eight")
    page.wait_for_selector("canvas")
    dark = """() => { const canvas = document.querySelector('canvas'); const size = canvas.height / 8;
      const brush = canvas.getContext('2d');
      const sum = (line) => brush.getImageData(0, line * size, canvas.width, size).data.reduce((a, b) => a + b, 0);
      return [0, 1, 2, 3, 4, 5, 6, 7].map(sum); }"""
    sums = page.evaluate(dark)
    assert sums.index(min(sums)) == 5


def test_places_are_shown_by_node(open_page: Any) -> None:
    page = open_page("#/run?name=eight")
    row = page.get_by_role("row").filter(has_text="rank 5 CPU")
    expect(row).to_contain_text("rank 5 CPU 5 · NUMA 1 · device 1 Tesla K80 GPU-0005")


def test_the_first_failure_stands_on_top_with_its_log(open_page: Any) -> None:
    page = open_page("#/run?name=broken")
    page.wait_for_selector("h2:has-text('First failure')")
    headings = page.locator("h2").all_inner_texts()
    assert headings[0] == "First failure"
    expect(page.get_by_text("Rank 3 on node17 failed first")).to_be_visible()
    page.get_by_role("button", name="Show its whole log").click()
    expect(page.get_by_label("Log", exact=True).first).to_have_value("rank-00003")
    expect(page.get_by_role("region", name="Log", exact=True)).to_contain_text("Traceback")


def test_the_ends_of_all_logs_are_shown_together(open_page: Any) -> None:
    page = open_page("#/run?name=eight")
    page.wait_for_selector("select#log option", state="attached")
    page.get_by_label("Log", exact=True).first.select_option("all")
    text = page.get_by_role("region", name="Log", exact=True)
    expect(text).to_contain_text("rank 0 line 49")
    expect(text).to_contain_text("rank 7 line 49")


def test_what_runs_say_is_text_whatever_it_looks_like(open_page: Any) -> None:
    page = open_page("#/run?name=hostile")
    page.wait_for_selector("pre.log")
    expect(page.get_by_role("region", name="Log", exact=True)).to_contain_text(
        "<script>document.title='taken'</script>"
    )
    expect(page.locator("dl")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.title().startswith("hostile") and page.locator("main img, main script").count() == 0
    page.goto(f"{open_page.origin}/#/runs?q=hostile")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.goto(f"{open_page.origin}/#/run?name={'<img src=x onerror=alert(1)>'}")
    expect(page.get_by_role("alert").filter(has_text="no run")).to_be_visible()
    open_page.problems = [text for text in open_page.problems if "404" not in text]


PROGRAM = """
import os, sys, time
from hpcsynapse.timing import StepRecorder
recorder = StepRecorder()
for number in range(100000):
    with recorder.step(samples=8, loss=1 / (1 + number)):
        time.sleep(0.02)
    if number == 20:
        print("twenty steps made", flush=True)
    if os.path.exists(sys.argv[1]):
        print("told to end", flush=True)
        break
"""


def test_a_run_that_goes_on_is_followed_without_a_reload(open_page: Any, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = ["--", sys.executable, str(tmp_path / "program.py"), str(tmp_path / "end")]
    submit = [
        sys.executable,
        "-m",
        "hpcsynapse",
        "submit",
        "--scheduler",
        "local",
        "--name",
        "live",
        "--runs",
        str(runs),
    ]
    subprocess.run([*submit, "--set", "launch.record=off", *command], check=True, cwd=tmp_path, timeout=60)
    try:
        page = open_page("#/runs?q=live")
        row = page.get_by_role("row").filter(has_text="live")
        expect(row).to_contain_text("TRAINING", timeout=60_000)
        page.get_by_role("link", name="live", exact=True).click()
        expect(page.get_by_role("region", name="Log", exact=True)).to_contain_text("twenty steps made", timeout=60_000)
        step = page.locator("dt:text-is('Step') + dd")
        first = int(step.inner_text())
        page.wait_for_function(
            f"() => Number(document.querySelector('dl dd').textContent) > {first + 20}", timeout=60_000
        )
        expect(page.get_by_role("img", name=re.compile("Training loss"))).to_be_visible()
        page.goto(f"{open_page.origin}/#/nodes")
        expect(page.get_by_role("table", name=re.compile("Load of every node"))).to_contain_text(
            "running", timeout=60_000
        )
        page.go_back()
        expect(page.get_by_role("heading", level=1)).to_have_text("live")
    finally:
        (tmp_path / "end").touch()
    expect(page.get_by_role("status").first).to_contain_text("FINISHED", timeout=60_000)
    expect(page.get_by_role("region", name="Log", exact=True)).to_contain_text("told to end")
    page.close()
    shutil.rmtree(runs / "live")


def test_a_run_that_is_removed_leaves_the_list(open_page: Any, runs: Path) -> None:
    run = make_run(runs, "short-lived")
    page = open_page("#/runs?q=short")
    expect(page.locator("tbody tr")).to_have_count(1)
    shutil.rmtree(run.path)
    expect(page.locator("tbody tr")).to_have_count(0)


def test_runs_are_chosen_and_set_beside_one_another(open_page: Any) -> None:
    page = open_page("#/runs?q=eight")
    compare = page.get_by_role("button", name="Compare", exact=True)
    expect(compare).to_be_disabled()
    for name in ("eight", "eight-again"):
        page.get_by_label(f"compare {name}", exact=True).check()
    compare.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Compare")
    expect(page.get_by_text("Settings in which they differ").first).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Training loss: .*eight-again"))).to_be_visible()


def test_a_comparison_without_runs_says_what_to_do(open_page: Any) -> None:
    expect(open_page("#/compare").get_by_text("Choose two runs or more")).to_be_visible()


def test_studies_are_listed_and_one_has_its_report_and_why(open_page: Any) -> None:
    page = open_page("#/studies")
    page.get_by_role("link", name="scaling").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Study scaling")
    expect(page.get_by_role("table", name=re.compile("Speedup and efficiency"))).to_contain_text("98")
    expect(page.get_by_role("img", name=re.compile("Efficiency, with 95"))).to_be_visible()
    expect(page.get_by_role("heading", name="Where the time went")).to_be_visible()
    expect(page.get_by_role("table", name=re.compile("4 ranks after 2 ranks"))).to_contain_text("imbalance")
    expect(page.get_by_role("heading", name="What more ranks would bring")).to_be_visible()


def test_checkpoint_outputs_and_timeline_are_downloaded(open_page: Any) -> None:
    page = open_page("#/run?name=eight")
    with page.expect_download() as told:
        page.get_by_role("link", name="step-000000200.pt").click()
    assert told.value.suggested_filename == "eight-step-000000200.pt"
    assert Path(told.value.path()).read_bytes() == b"weights" * 100
    with page.expect_download() as told:
        page.get_by_role("link", name="All that it wrote").click()
    assert "eight/timings/rank-00000.0.steps" in zipfile.ZipFile(told.value.path()).namelist()
    with page.expect_download() as told:
        page.get_by_role("link", name="Timeline of all ranks").click()
    assert told.value.suggested_filename == "eight.json.gz"


def test_description_and_job_file_are_shown_on_request(open_page: Any) -> None:
    page = open_page("#/run?name=eight")
    page.get_by_text("As they were submitted").click()
    expect(page.get_by_role("region", name="Description", exact=True)).to_contain_text('scheduler = "local"')
    expect(page.get_by_role("region", name="Job file", exact=True)).to_contain_text("#!/bin/bash")


def test_nodes_of_a_run_are_shown_now_and_over_time(open_page: Any) -> None:
    page = open_page("#/run?name=eight")
    expect(page.get_by_role("table", name=re.compile("Load of the nodes of eight"))).to_contain_text("node1")
    expect(page.get_by_role("img", name=re.compile("CPU, share of all cores: node0: from .* to 97%"))).to_be_visible()


def test_help_names_states_keys_and_what_else_there_is(open_page: Any) -> None:
    page = open_page("#/help")
    expect(page.get_by_role("table", name="States of a run")).to_contain_text("PREEMPTED")
    page.get_by_text("marenostrum5-acc").click()
    expect(page.get_by_role("region", name="marenostrum5-acc")).to_contain_text("[site]")


def test_a_page_that_is_not_there_leads_back(open_page: Any) -> None:
    page = open_page("#/nothing")
    page.get_by_role("link", name="All runs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")


def test_thousands_of_runs_are_a_list_of_a_hundred_that_grows(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    one = make_run(folder, "run-0000", created=1.7e9)
    for number in range(1, 400):
        copy_run(one, folder / f"run-{number:04d}")
    with opened(browser, folder) as open_page:
        page = open_page()
        expect(page.get_by_role("status")).to_contain_text("400 runs")
        assert page.evaluate("document.querySelectorAll('*').length") <= 3000
        expect(page.locator("tbody tr")).to_have_count(100)
        page.get_by_role("button", name="Show more").click()
        expect(page.locator("tbody tr")).to_have_count(200)


def copy_run(run: RunDirectory, target: Path) -> None:
    target.mkdir()
    for file in ("run.toml", "submission.json", "status.json", "exit.json", "history.jsonl"):
        (target / file).write_bytes((run.path / file).read_bytes())


def test_a_server_that_is_gone_is_said(browser: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "one")
    with opened(browser, tmp_path / "runs") as open_page:
        page = open_page()
        expect(page.get_by_role("status")).to_contain_text("1 run")
        open_page.server.process.kill()
        expect(page.get_by_text("The connection is gone")).to_be_visible()
        open_page.problems = [text for text in open_page.problems if "ERR_" not in text]


@pytest.mark.parametrize("address", ["#/runs", "#/run?name=eight", "#/studies?name=scaling"])
def test_on_paper_there_are_no_buttons(open_page: Any, address: str) -> None:
    page = open_page(address)
    page.wait_for_selector("tbody tr", state="attached")
    page.emulate_media(media="print")
    assert page.locator("button:visible, header:visible").count() == 0
    assert page.locator("h1:visible").count() == 1
