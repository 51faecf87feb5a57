"""What is done from the page in a real browser, from form to finished report, and what other sites cannot do to it."""

from __future__ import annotations

import http.server
import json
import re
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import AXE, Opener, opened
from playwright.sync_api import Browser, Error, expect
from web_runs import make_run, measured_run


@pytest.fixture(scope="module")
def acting(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    folder = tmp_path_factory.mktemp("doing")
    measured_run(folder / "runs", "ended")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPCSYNAPSE_STORE", str(folder / "store"))
        with opened(browser, folder / "runs", "--allow-actions") as found:
            yield found


def runs_of(acting: Opener) -> Path:
    return Path(acting.server.command[acting.server.command.index("--runs") + 1])


def test_a_run_from_form_to_finished_report(acting: Opener) -> None:
    page = acting("#/new")
    submit = page.get_by_role("button", name="Submit", exact=True)
    expect(submit).to_be_disabled()
    page.get_by_label("Name", exact=True).fill("by-form")
    for label, value in {
        "ranks per node": "2",
        "batch": "32",
        "epochs": "1",
        "model": "simple-cnn",
        "data": "digits",
    }.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_label("scheduler", exact=True).select_option("local")
    page.get_by_label("engine", exact=True).select_option("ddp")
    page.get_by_role("button", name="Check and show the job file").click()
    expect(page.get_by_role("region", name="Job file")).to_contain_text("#!/bin/bash")
    expect(submit).to_be_enabled()
    page.get_by_label("epochs", exact=True).fill("2")
    expect(submit).to_be_disabled()  # what was changed is checked again
    page.get_by_role("button", name="Check and show the job file").click()
    expect(submit).to_be_enabled()
    submit.click()
    page.get_by_role("dialog").get_by_role("button", name="Submit").dblclick()
    expect(page.get_by_role("heading", level=1)).to_have_text("by-form")
    expect(page.get_by_role("status").first).to_contain_text("FINISHED", timeout=120_000)
    expect(page.get_by_role("img", name=re.compile("Validation: accuracy"))).to_be_visible()
    expect(page.get_by_role("table", name=re.compile("Load of the nodes"))).to_be_visible()
    page.goto(f"{acting.origin}/#/compare?name=by-form&name=ended")
    expect(page.get_by_role("table", name=re.compile("Speedup and efficiency"))).to_contain_text("2")
    assert [path.name for path in runs_of(acting).glob("by-form*")] == ["by-form"]
    told = [json.loads(line) for line in (runs_of(acting) / "actions.jsonl").read_text().splitlines()]
    assert [one["action"] for one in told if one["name"] == "by-form"] == ["submit"]
    page.close()


def test_what_is_wrong_stands_beside_the_form(acting: Opener) -> None:
    page = acting("#/new")
    page.get_by_label("nodes", exact=True).fill("3")
    page.get_by_label("scheduler", exact=True).select_option("local")
    page.get_by_role("button", name="Check and show the job file").click()
    expect(page.locator(".findings")).to_contain_text("error")
    expect(page.get_by_role("button", name="Submit", exact=True)).to_be_disabled()
    page.close()


def test_a_run_is_stopped_and_resumed_with_confirmation(acting: Opener, tmp_path: Path) -> None:
    program = tmp_path / "wait.py"
    program.write_text(
        "import os, time\nwhile not os.path.exists(os.environ['HPCSYNAPSE_RUN_DIR'] + '/stop'): time.sleep(0.1)\n"
    )
    page = acting("#/new")
    page.get_by_label("Name", exact=True).fill("waits")
    page.get_by_label("Command", exact=True).fill(f"{sys.executable} {program}")
    page.get_by_label("scheduler", exact=True).select_option("local")
    page.get_by_role("button", name="Check and show the job file").click()
    page.get_by_role("button", name="Submit", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Submit").click()
    state = page.get_by_role("status").filter(has_text="since")
    expect(state).to_contain_text("TRAINING", timeout=60_000)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_role("dialog", name="Stop waits?")).to_be_visible()
    page.get_by_role("button", name="Do nothing").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert not (runs_of(acting) / "waits" / "stop").exists()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(page.get_by_text("It will stop after its step")).to_be_visible()
    expect(page.get_by_role("button", name="Resume", exact=True)).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Resume", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(state).to_contain_text("TRAINING", timeout=60_000)
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(state).to_contain_text("STOPPED", timeout=60_000)
    page.close()


def test_a_run_is_removed_after_asking(acting: Opener) -> None:
    gone = make_run(runs_of(acting), "not-wanted")
    page = acting("#/runs")
    page.get_by_role("link", name="not-wanted", exact=True).click()
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("dialog", name="Remove not-wanted?").get_by_role("button", name="Do nothing").click()
    assert gone.path.is_dir()
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
    expect(page.get_by_role("link", name="ended", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="not-wanted", exact=True)).to_have_count(0)
    assert not gone.path.exists()
    page.close()


def test_the_store_takes_an_archive_and_removes_it_after_asking(acting: Opener, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "receipts.zip", "w") as archive:
        archive.writestr("a.txt", "1")
    page = acting("#/help")
    page.get_by_label("Kind").select_option("dataset")
    page.get_by_label("Name", exact=True).fill("receipts")
    page.get_by_label("Zip archive").set_input_files(tmp_path / "receipts.zip")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("table", name="Models, loaders and data sets")).to_contain_text("receipts")
    page.get_by_role("button", name="Remove dataset receipts").click()
    page.get_by_role("dialog", name="Remove dataset receipts?").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("The store is empty")).to_be_visible()
    page.close()


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not there: scripts/setup test fetches it")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_checker_finds_nothing_in_form_and_dialog(acting: Opener, scheme: Any) -> None:
    page = acting("#/new", color_scheme=scheme)
    page.wait_for_selector("#command")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.evaluate(AXE.read_text())
    ask = "axe.run(document, { runOnly: { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa'] } })"
    assert [one["id"] for one in page.evaluate(ask)["violations"]] == []
    page.goto(f"{acting.origin}/#/run?name=ended")
    page.get_by_role("button", name="Resume", exact=True).click()
    assert [one["id"] for one in page.evaluate(ask)["violations"]] == []
    page.close()


class _Elsewhere(http.server.BaseHTTPRequestHandler):
    """A site that sends a form, and a script's requests, to the page on its visitor's own machine."""

    target = ""

    def do_GET(self) -> None:
        page = f"""<form id=f method=post enctype=text/plain action="{self.target}/api/v1/resume">
          <input name='{{"name":"ended","once":"12345678","x":"' value='"}}'></form><script>
          const how = {{ credentials: "include" }};
          fetch("{self.target}/api/v1/runs", how).then(() => {{ document.title = "read"; }}, () => 0);
          fetch("{self.target}/api/v1/resume", {{ ...how, method: "POST", mode: "no-cors", body: "{{}}" }});
          setTimeout(() => f.submit(), 500);</script>"""
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_: Any) -> None:
        pass


def test_a_form_and_a_script_of_another_site_do_nothing(acting: Opener) -> None:
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere)
    _Elsewhere.target = acting.origin
    threading.Thread(target=site.serve_forever, daemon=True).start()
    page = acting("#/runs")
    told = runs_of(acting) / "actions.jsonl"
    before = told.read_text() if told.exists() else ""
    answers: list[int] = []
    page.goto("about:blank")
    asked: list[str] = []
    page.on("request", lambda found: asked.append(found.method) if "/api/v1/" in found.url else None)
    page.on("response", lambda found: answers.append(found.status) if "/api/v1/" in found.url else None)
    page.goto(f"http://localhost:{site.server_port}/")
    end = time.monotonic() + 30
    while (len(asked) < 3 or not answers) and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert sorted(asked) == ["GET", "POST", "POST"] and set(answers) == {403}
    assert (told.read_text() if told.exists() else "") == before and page.title() != "read"
    page.close()
    site.shutdown()
    acting.problems = [
        text for text in acting.problems if "403" not in text and "401" not in text and "CORS" not in text
    ]
    acting.problems = [text for text in acting.problems if "ERR_" not in text and text != "Failed to fetch"]


def test_a_name_that_is_pointed_at_this_machine_is_refused(acting: Opener) -> None:
    port = acting.origin.rpartition(":")[2]
    found = acting.browser.browser_type.launch(
        executable_path="/usr/bin/chromium",
        args=["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP rebound.example 127.0.0.1"],
    )
    page = found.new_page()
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status))
    with pytest.raises(Error, match="ERR_HTTP_RESPONSE_CODE_FAILURE"):
        page.goto(f"http://rebound.example:{port}/")
    assert answers == [421]
    found.close()
