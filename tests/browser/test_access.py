"""Everybody can use the pages: axe-core finds nothing, by day, in the dark, on a phone, at four times the size."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browsing import AXE

PAGES = {
    "runs": ("#/runs", "tbody tr"),
    "run": ("#/run?name=eight", "canvas"),
    "failed": ("#/run?name=broken", "text=First failure"),
    "compare": ("#/compare?name=eight&name=eight-again", "figure svg"),
    "studies": ("#/studies", "tbody tr"),
    "study": ("#/studies?name=scaling", "text=Where the time went"),
    "nodes": ("#/nodes", "text=No node of a run at work"),
    "help": ("#/help", "text=Job templates"),
}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Any, run_only: Any) -> list[str]:
    """Return what axe-core finds."""
    ask = "(only) => axe.run(document, { runOnly: only, resultTypes: ['violations'] })"
    found = page.evaluate(ask, run_only)
    return [f"{one['id']}: {node['html'][:150]}" for one in found["violations"] for node in one["nodes"][:3]]


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not there: scripts/setup test fetches it")
@pytest.mark.parametrize("name", PAGES)
def test_a_checker_finds_nothing_by_day_in_the_dark_and_on_a_phone(open_page: Any, name: str) -> None:
    address, shown = PAGES[name]
    page = open_page(address)
    page.wait_for_selector(shown)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.evaluate(Path(AXE).read_text())
    assert violations(page, {"type": "tag", "values": RULES}) == []
    page.emulate_media(color_scheme="dark")
    assert violations(page, {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}) == []
    page.set_viewport_size({"width": 320, "height": 640})  # also 1280 pixels at 400 %
    page.wait_for_function("document.documentElement.scrollWidth <= 320")
    assert violations(page, {"type": "rule", "values": ["target-size", "scrollable-region-focusable"]}) == []


def test_every_colour_of_a_state_comes_with_a_sign_and_a_word(open_page: Any) -> None:
    page = open_page()
    page.wait_for_selector("tbody tr")
    assert all(re.fullmatch(r"[✓✗‖▶] [A-Z]+", text) for text in page.locator("tbody .state").all_inner_texts())


def test_the_keyboard_reaches_everything_in_order(open_page: Any) -> None:
    page = open_page("#/run?name=eight")
    page.wait_for_selector("canvas")
    page.evaluate("document.activeElement.blur()")
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent.slice(0, 40) || document.activeElement.id"))
    for wanted in ("To the content", "Runs", "Training loss as a table", "rank 0", "step-000000200.pt"):
        assert any(wanted in one for one in seen), wanted
