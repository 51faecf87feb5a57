"""What makes a page accessible and self-contained, as far as its text shows: `faults` names every rule it breaks.

The rules are those of WCAG 2.2 that a browser's checker (axe) tries too, for the elements that a report uses.
"""

import itertools
import re
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page in order, each with its attributes, its ancestors, and the text inside."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.mistakes, self._open = [], [], []
        self.feed(text)
        self.mistakes += [f"<{element['tag']}> is not closed" for element in self._open]

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "attrs": dict(attrs), "text": "", "inside": [one["tag"] for one in self._open]}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if not self._open or self._open.pop()["tag"] != tag:
            self.mistakes.append(f"</{tag}> closes what is not open")

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, *tags):
        return [element for element in self.elements if element["tag"] in tags]


def faults(text):
    """Return a sentence for every rule that is broken."""
    page = Page(text)
    rules = (_document, _headings, _landmarks, _ids, _tables, _drawings, _regions, _lists, _outside, _contrast)
    return [fault for rule in rules for fault in rule(page)] + page.mistakes


def _document(page):
    html, titles = page.all("html"), [one for one in page.all("title") if "head" in one["inside"]]
    if not html or not html[0]["attrs"].get("lang"):
        yield "the page does not say its language"
    if len(titles) != 1 or not titles[0]["text"].strip():
        yield "the page has no title"
    views = [one["attrs"]["content"] for one in page.all("meta") if one["attrs"].get("name") == "viewport"]
    if len(views) != 1 or "user-scalable" in views[0] or "maximum-scale" in views[0]:
        yield "the page cannot be zoomed"


def _headings(page):
    levels = [int(one["tag"][1]) for one in page.all("h1", "h2", "h3", "h4", "h5", "h6")]
    if levels.count(1) != 1 or levels[:1] != [1]:
        yield "there must be one h1, and it comes first"
    for before, after in itertools.pairwise(levels):
        if after > before + 1:
            yield f"a heading of level {after} follows one of level {before}"
    for one in page.all("h1", "h2", "h3", "summary", "caption", "a", "dt"):
        if not one["text"].strip():
            yield f"a <{one['tag']}> is empty"


def _landmarks(page):
    for tag in ("main", "header"):
        if len(page.all(tag)) != 1:
            yield f"there must be one <{tag}>"
    for one in page.all("nav", "section"):
        if not {"aria-label", "aria-labelledby"} & one["attrs"].keys():
            yield f"a <{one['tag']}> has no name"
    texts = {one["attrs"].get("id"): one["text"].strip() for one in page.elements}
    named = [
        one["attrs"].get("aria-label") or texts.get(one["attrs"].get("aria-labelledby"))
        for one in page.elements
        if one["tag"] in ("nav", "section") or one["attrs"].get("role") == "region"
    ]
    for name in {name for name in named if named.count(name) > 1}:
        yield f"two landmarks are called {name!r}"
    for one in page.all("p", "table", "svg", "h1", "h2", "dl"):
        if not {"main", "header"} & set(one["inside"]):
            yield f"a <{one['tag']}> is outside of all landmarks"


def _ids(page):
    ids = [one["attrs"]["id"] for one in page.elements if "id" in one["attrs"]]
    for name in {name for name in ids if ids.count(name) > 1}:
        yield f"id {name} is there more than once"
    for one in page.elements:
        wanted = one["attrs"].get("aria-labelledby", "").split()
        for key in ("href", "xlink:href"):
            if one["attrs"].get(key, "").startswith("#"):
                wanted.append(one["attrs"][key][1:])
        wanted += re.findall(r"url\(#([^)]+)\)", " ".join(str(value) for value in one["attrs"].values()))
        for name in wanted:
            if name not in ids:
                yield f"id {name} is referred to and not there"


def _tables(page):
    if len(page.all("caption")) != len(page.all("table")):
        yield "a table has no caption"
    if any(one["attrs"].get("scope") not in ("col", "row") for one in page.all("th")):
        yield "a <th> does not say what it heads"
    rows = len([one for one in page.all("tr") if "tbody" in one["inside"]])
    if len([one for one in page.all("th") if "tbody" in one["inside"]]) != rows:
        yield "a row has no header"
    if any(not one["text"].strip() for one in page.all("th")):
        yield "a <th> is empty"


def _drawings(page):
    by_id = {one["attrs"].get("id"): one for one in page.elements}
    for one in page.all("svg"):
        named = [by_id[name] for name in one["attrs"].get("aria-labelledby", "").split() if name in by_id]
        if one["attrs"].get("role") != "img" or not [item for item in named if item["tag"] == "title"]:
            yield "a drawing has no name"
        if not [item for item in named if item["tag"] == "desc" and len(item["text"]) > 40]:
            yield "a drawing is not described"
        if "figure" not in one["inside"]:
            yield "a drawing is in no figure"


def _regions(page):
    for one in page.elements:
        if "scroll" in one["attrs"].get("class", "").split() and (
            one["attrs"].get("tabindex") != "0"
            or one["attrs"].get("role") != "region"
            or "aria-labelledby" not in one["attrs"]
        ):
            yield "what scrolls cannot be reached with the keyboard"
        if int(one["attrs"].get("tabindex", 0)) > 0:
            yield "tabindex changes the order"


def _lists(page):
    for one in page.all("li", "dt", "dd"):
        if one["inside"][-1] not in ("ul", "ol", "dl"):
            yield f"a <{one['tag']}> is in no list"


def _outside(page):
    for one in page.elements:
        if one["tag"] in ("script", "iframe", "img", "link", "object", "embed", "base", "form"):
            yield f"<{one['tag']}> is not needed here"
        for key, value in one["attrs"].items():
            if key.startswith("on"):
                yield f"{key} is a script"
            if key in ("src", "href", "xlink:href", "action", "data") and not str(value).startswith("#"):
                yield f"{value} is outside of the page"
            if not key.startswith("xmlns") and re.search(r"https?:|//|url\((?!#)", str(value)):
                yield f"{key} = {value} is outside of the page"
    for one in page.all("style"):
        if re.search(r"@import|https?:|url\(", one["text"]):
            yield "a style is outside of the page"


def _contrast(page):
    """Every ink on every ground, by day and in the dark; figures keep a white ground, on which no text of ours is."""
    (style,) = (one["text"] for one in page.all("style"))
    dark = re.search(r"@media screen and \(prefers-color-scheme: dark\) \{.*?\n\}", style, re.DOTALL)
    dark = dark[0] if dark else ""
    for rules in (style.replace(dark, ""), re.sub(r"figure svg \{.*?\}", "", dark)):
        grounds = set(re.findall(r"background:\s*(#[0-9a-f]{6})", rules))
        for ink in set(re.findall(r"[;{\s]color:\s*(#[0-9a-f]{6})", rules)):
            for ground in grounds:
                if contrast(ink, ground) < 4.5:
                    yield f"{ink} on {ground} cannot be read"


def contrast(one, other):
    """The ratio of luminances of WCAG 2.2, 1 to 21."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return sum(value * weight for value, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
