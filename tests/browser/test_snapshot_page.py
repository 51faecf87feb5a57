"""The page as one file, opened from a disk: the same views, and not one request."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect


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
